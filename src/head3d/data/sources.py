"""Where videos come from: the embedded ``mini`` set, ``folder``, anybody's directory of videos, and the paper's sets.

A source lists videos; it does not open them.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head3d.assets.cache import fetch_all
from head3d.data import faceforensics as originals
from head3d.data import voxceleb_files
from head3d.data.video import EXTENSIONS
from head3d.data.voxceleb import Box
from head3d.errors import UserError
from head3d.files import expanded, files_below

if TYPE_CHECKING:
    from head3d.params import Params


@dataclass(frozen=True)
class Video:
    """One video of a source.

    ``name`` is unique in its source and names the video in the manifest. Of an ``unseen`` video all clips are test
    clips of people that training never saw; of any other the later part is held back for the test set ``seen``.
    Clips are taken within ``span``, begin and end in seconds, and of the face nearest to ``box``, where there are any.
    """

    source: str
    name: str
    person: str
    path: Path
    unseen: bool
    span: tuple[float, float] | None = None
    box: Box | None = None


_MINI = {  # name: (person, unseen)
    "franck": ("franck", False),
    "cap12": ("cap", False),
    "cap13": ("cap", False),
    "wolfgang": ("wolfgang", False),
    "single": ("single", True),
    "carphone": ("carphone", True),
}


def mini(params: "Params") -> list[Video]:
    """Six real clips of five people; fetched into the user's cache."""
    paths = fetch_all(f"video-{name}" for name in _MINI)
    return [Video("mini", name, person, paths[f"video-{name}"], unseen) for name, (person, unseen) in _MINI.items()]


def folder(params: "Params") -> list[Video]:
    """All videos under ``data.folder``.

    With sub-directories, each is one person (videos beside them are one person each); without, each file is one
    person. Videos under a sub-directory named ``unseen``, in capitals or not, are never trained on.

    Raises:
        UserError: no such directory, or one in it that can't be read, no videos, or a person who is to be trained on
            and unseen.
    """
    if params.data.folder is None:
        raise UserError(
            "params.yaml: data.folder is empty while data.sources has 'folder'", allowed="a directory of videos"
        )
    root = expanded(params.data.folder)
    if not root.is_dir():
        raise UserError(f"params.yaml: data.folder is '{root}'", allowed="an existing directory of videos")
    videos = []
    for path in sorted(files_below(root)):
        inside = path.relative_to(root)
        if inside.name.startswith(".") or path.suffix.lower() not in EXTENSIONS or not path.is_file():
            continue
        unseen = inside.parts[0].casefold() == UNSEEN and len(inside.parts) > 1
        below = list(inside.parts[1:] if unseen else inside.parts)
        person = below[0] if len(below) > 1 else Path(below[0]).stem
        person = f"{UNSEEN}/{person}" if unseen else person
        videos.append(Video("folder", _text(inside.as_posix()), _text(person), path, unseen))
    if not videos:
        raise UserError(f"{root}: no videos in it", allowed=" ".join(sorted(EXTENSIONS)))
    trained = {one.person for one in videos if not one.unseen}
    both = sorted({one.person.removeprefix(f"{UNSEEN}/") for one in videos if one.unseen} & trained)
    if both:
        raise UserError(
            f"{root}: {', '.join(both[:3])}{', ...' * (len(both) > 3)} both in {UNSEEN} and beside it",
            allowed=f"each person on one side, as nobody in {UNSEEN} is trained on",
            fix="move the files, or rename those of somebody else",
        )
    return videos


def _text(name: str) -> str:
    """A file's name that digests, pictures and pages can take: bytes that are no UTF-8 as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def voxceleb(params: "Params") -> list[Video]:
    """The stretches of VoxCeleb that are drawn and there; people of its test part are never trained on."""
    library = voxceleb_files.open_library(params)
    return [
        Video("voxceleb", one.stretch.name, one.stretch.person, one.path, one.unseen, one.span, one.box)
        for one in voxceleb_files.choose(params, library, voxceleb_files.drawn(params, library))
    ]


def faceforensics(params: "Params") -> list[Video]:
    """Original videos of FaceForensics, for testing only, each a person of its own."""
    return [Video("faceforensics", path.stem, path.stem, path, True) for path in originals.choose(params)]


SOURCES: dict[str, Callable[[Any], list[Video]]] = {
    "mini": mini,
    "folder": folder,
    "voxceleb": voxceleb,
    "faceforensics": faceforensics,
}


UNSEEN = "unseen"  # sub-directory of a folder of videos, whose people are never trained on


def videos(params: "Params") -> list[Video]:
    """The videos of all sources that the parameters name, in a fixed order."""
    found = []
    for source in params.data.sources:
        if source not in SOURCES:
            raise UserError(f"params.yaml: data.sources has '{source}'", allowed=", ".join(SOURCES))
        found += SOURCES[source](params)
    return found


def stems(found: list[Video]) -> dict[tuple[str, str], str]:
    """What the ids of a video's clips begin with, {(source, name): stem}: letters, digits, - and _, no two alike.

    Names that come out alike, as all of another alphabet do, get the beginning of their digest.
    """
    plain = {
        (one.source, one.name): f"{one.source}-{re.sub(r'[^A-Za-z0-9_-]+', '-', str(Path(one.name).with_suffix('')))}"
        for one in found
    }
    count = Counter(plain.values())
    return {
        key: stem if count[stem] == 1 else f"{stem}-{hashlib.sha256(os.fsencode(key[1])).hexdigest()[:8]}"
        for key, stem in plain.items()
    }


def measured(found: list[Video]) -> list[tuple[int, Video]]:
    """Videos with their sizes in bytes, the largest first.

    Raises:
        UserError: one has gone since it was listed.
    """
    try:
        sized = [(one.path.stat().st_size, one) for one in found]
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror})", fix="crop once no video comes or goes any more"
        ) from error
    return sorted(sized, key=lambda pair: (-pair[0], pair[1].source, pair[1].name))


def listing(sized: list[tuple[int, Video]]) -> str:
    """SHA-256 of what :func:`deal` shares out: shards that are to fit together must have had the same."""
    lines = (f"{size} {one.source}/{one.name}" for size, one in sized)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def deal(sized: list[tuple[int, Video]], shards: int) -> list[list[Video]]:
    """Share :func:`measured` videos out over shards of about equal size on disk; the same ones give the same shards."""
    hands: list[list[Video]] = [[] for _ in range(shards)]
    sizes = [0] * shards
    for size, video in sized:
        lightest = sizes.index(min(sizes))
        hands[lightest].append(video)
        sizes[lightest] += size
    return [sorted(hand, key=lambda v: (v.source, v.name)) for hand in hands]
