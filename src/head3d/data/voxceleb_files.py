"""Where the videos of VoxCeleb lie: downloaded by ``head3d data download``, or in a layout that others have made.

====================================================  ================================================================
below ``data.voxceleb.videos``                        what it is
====================================================  ================================================================
``downloaded/person/video/part.mp4``                  ours: some seconds of a stretch, whole frames; wants metadata
``…/video.mp4``                                       whole YouTube videos, as FOMM's load_videos.py keeps them
``…/person#video#start#end.mp4``                      stretches cut to the face, as FOMM's load_videos.py makes them
``…/person/video/utterance.mp4``                      VoxCeleb2 as it is given out, cut to the face
====================================================  ================================================================
"""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.data.video import EXTENSIONS
from head3d.data.voxceleb import FPS, Box, Order, Stretch, detailed, order, read_metadata
from head3d.errors import UserError
from head3d.files import expanded, files_below

if TYPE_CHECKING:
    from head3d.params import Params

DOWNLOADED = "downloaded"
LAYOUTS = "downloaded/…, VIDEO.mp4, PERSON#VIDEO#START#END.mp4 or PERSON/VIDEO/UTTERANCE.mp4"


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch with its file.

    Attributes:
        stretch: which.
        path: the file.
        span: begin and end in seconds within the file; None means all of it.
        box: where the face is in the file's frames; None means that the frames were cut to the face.
        unseen: never trained on.
    """

    stretch: Stretch
    path: Path
    span: tuple[float, float] | None = None
    box: Box | None = None
    unseen: bool = False


class Library:
    """All videos below a directory, found by one walk through it; nothing is opened."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = expanded(root)
        self._downloaded: dict[str, Path] = {}
        self._cut: dict[tuple[str, str, str], Path] = {}  # by person, video, part
        self._whole: dict[str, Path] = {}
        self._tested: set[str] = set()  # people who lie below a directory called test
        for path in files_below(self.root) if self.root.exists() else ():
            if not path.name.startswith(".") and path.suffix.lower() in EXTENSIONS:
                self._add(path, path.relative_to(self.root))

    @property
    def n_files(self) -> int:
        """How many videos there are, whether metadata names them or not."""
        return len(self._downloaded) + len(self._cut) + len(self._whole)

    def _add(self, path: Path, inside: Path) -> None:
        parts, stem = inside.parts, path.stem
        if parts[0] == DOWNLOADED:
            self._downloaded[inside.relative_to(DOWNLOADED).with_suffix("").as_posix()] = path
            return
        words = stem.split("#")
        if len(words) >= 4 and words[-1].isdigit() and words[-2].isdigit():
            key = (words[0], words[-3], f"{int(words[-2]):06d}-{int(words[-1]):06d}")
        elif len(words) >= 3:
            key = (words[0], words[1], "-".join(words[2:]).replace(".txt", ""))
        elif len(parts) >= 3 and re.fullmatch(r"\d{3,}", stem):
            key = (parts[-3], parts[-2], stem)
        else:
            self._whole[stem] = path
            return
        self._cut[key] = path
        if any("test" in re.split(r"[_-]", part) for part in parts[:-1]):
            self._tested.add(key[0])

    def find(self, one: Stretch) -> Found | None:
        """The file of a stretch: downloaded before cut to the face before a whole video; or None."""
        if path := self._downloaded.get(one.name):
            return Found(one, path, None, detailed(one).box)
        if path := self._cut.get((one.person, one.video, one.part)):
            return Found(one, path)
        if path := self._whole.get(one.video):
            one = detailed(one)
            if one.end > one.start:
                return Found(one, path, (one.start / FPS, one.end / FPS), one.box)
        return None

    def has(self, one: Stretch) -> bool:
        """Whether :meth:`find` would find a file; no text file is read."""
        return (
            one.name in self._downloaded
            or (one.person, one.video, one.part) in self._cut
            or (one.video in self._whole and (one.text is not None or one.end > one.start))
        )

    def note(self, one: Stretch, path: Path) -> None:
        """Add a file that has just been downloaded."""
        self._downloaded[one.name] = path

    def stretches(self) -> list[Stretch]:
        """What lies there, where there is no metadata: videos cut to the face tell their person by their names.

        Raises:
            UserError: there are downloaded ones, which show whole frames: of whom, and who is kept for testing, only
                the metadata tells.
        """
        if self._downloaded:
            raise UserError(
                f"params.yaml: data.voxceleb.metadata is null, but {self.root / DOWNLOADED} holds whole frames, "
                "in which only the metadata tells whose face is meant",
                allowed="the metadata that they were downloaded with",
                fix=f"name it again, or move {DOWNLOADED} elsewhere",
            )
        return [Stretch(*key, test=key[0] in self._tested) for key in sorted(self._cut)]


def drawn(params: "Params", library: Library) -> Order:
    """All stretches in their order: the metadata's, or without metadata whatever lies in the library."""
    settings = params.data.voxceleb
    if settings.metadata is not None:
        shortest = math.ceil(params.data.clip_length / (params.data.fps or FPS) * FPS)
        listed = read_metadata(settings.metadata, shortest)
    else:
        listed = library.stretches()
    return order(listed, settings.test, params.seed)


def open_library(params: "Params") -> Library:
    """The directory ``data.voxceleb.videos``; it must exist."""
    root = expanded(named(params))
    if not root.is_dir():
        raise UserError(
            f"params.yaml: data.voxceleb.videos is '{root}', which is no directory",
            allowed="a directory of videos",
            fix="make it, or run `head3d data download --source voxceleb`",
        )
    return Library(root)


def named(params: "Params") -> str:
    """``data.voxceleb.videos``, which must be said."""
    if params.data.voxceleb.videos is None:
        raise UserError("params.yaml: data.voxceleb.videos is null", allowed="a directory of videos")
    return params.data.voxceleb.videos


def videos_folder(params: "Params") -> Path:
    """The directory ``data.voxceleb.videos``, made if it is not there."""
    root = expanded(named(params))
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"params.yaml: data.voxceleb.videos, {root}, cannot be made ({error.strerror})") from error
    return root


def choose(params: "Params", library: Library, line: Order) -> list[Found]:
    """The data set: the first ``train`` and ``test`` stretches in line whose videos are there.

    Raises:
        UserError: none is there.
    """
    settings = params.data.voxceleb
    found = [
        *_first(line.train, settings.train, library, unseen=False),
        *_first(line.test, settings.test, library, unseen=True),
    ]
    if not found:
        what = f"{library.root}: no video of VoxCeleb in it"
        if library.n_files and settings.metadata:
            what = f"{library.root}: {library.n_files} files are there, none of which {settings.metadata} names"
        elif library.n_files:
            what = f"{library.root}: {library.n_files} files are there, but only metadata would tell whose they are"
        raise UserError(
            what,
            allowed=LAYOUTS,
            fix="run `head3d data download --source voxceleb`, or see docs/data.md for which metadata goes with what",
        )
    return found


def _first(stretches: Iterable[Stretch], most: int, library: Library, unseen: bool) -> list[Found]:
    found: list[Found] = []
    for one in stretches:
        if len(found) >= most:
            break
        try:
            there = library.find(one)
        except UserError:  # a broken text file costs only itself; `head3d data status` counts it
            continue
        if there:
            found.append(Found(there.stretch, there.path, there.span, there.box, unseen))
    return found
