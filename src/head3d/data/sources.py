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
    person. Videos under a sub-directory named ``unseen`` are never trained on.
    """
    if params.data.folder is None:
        raise UserError(
            "params.yaml: data.folder is empty while data.sources has 'folder'", allowed="a directory of videos"
        )
    root = Path(params.data.folder).expanduser()
    if not root.is_dir():
        raise UserError(f"params.yaml: data.folder is '{root}'", allowed="an existing directory of videos")
    videos = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or path.suffix.lower() not in EXTENSIONS or not path.is_file():
            continue
        unseen = inside.parts[0] == "unseen" and len(inside.parts) > 1
        below = list(inside.parts[1:] if unseen else inside.parts)
        person = below[0] if len(below) > 1 else Path(below[0]).stem
        videos.append(Video("folder", inside.as_posix(), f"unseen/{person}" if unseen else person, path, unseen))
    if not videos:
        raise UserError(f"{root}: no videos in it", allowed=" ".join(sorted(EXTENSIONS)))
    return videos


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


def deal(found: list[Video], shards: int) -> list[list[Video]]:
    """Share videos out over shards of about equal size on disk; the same videos give the same shards."""
    hands: list[list[Video]] = [[] for _ in range(shards)]
    sizes = [0] * shards
    for video in sorted(found, key=lambda v: (-v.path.stat().st_size, v.source, v.name)):
        lightest = sizes.index(min(sizes))
        hands[lightest].append(video)
        sizes[lightest] += video.path.stat().st_size
    return [sorted(hand, key=lambda v: (v.source, v.name)) for hand in hands]
