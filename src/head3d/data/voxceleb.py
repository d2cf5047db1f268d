"""VoxCeleb: what its metadata says of each stretch of video, and which stretches are chosen.

Two kinds of metadata are read: ``vox-metadata.csv`` of FOMM's preprocessing, and VoxCeleb's own directories of text
files, ``person/video/utterance.txt``. The unit is a stretch of a YouTube video that shows one person, as in FOMM and
the paper. Where its video lies is the business of :mod:`head3d.data.voxceleb_files`.
"""

import csv
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from head3d.errors import UserError
from head3d.files import expanded, files_below

FPS = 25.0  # VoxCeleb counts frames at this rate, whatever the rate of the video
RAGGED_S = 0.25  # seconds at the end of a cut video that are not used
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a person or a video: it becomes a part of paths and addresses
_COLUMNS = ("video_id", "start", "end", "bbox", "width", "height")
_REFERENCE_HEIGHT = 360.0  # pixels; the boxes of VoxCeleb1's text files are for videos of this height
_RATES = (1.0, 240.0)  # frames a second that a csv file may count in
_MOST = 10**8  # of frames and pixels: 46 days, and more than any picture; nan and inf are not below it
_SPARE_PEOPLE = 2  # people are drawn for testing until they have this many times the stretches that are wanted


@dataclass(frozen=True, slots=True)
class Box:
    """A face in a frame of ``width`` x ``height`` units: ``x0, y0, x1, y1``; width 0 means that x is in units of y."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    height: float

    def within(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The box in pixels of a frame of another size."""
        y = height / self.height
        x = width / self.width if self.width else y
        return self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a video with one person in it.

    Attributes:
        person: who, such as ``id10005``.
        video: YouTube's name of the video.
        part: name of the stretch within the video: ``001426-001546``, its frames, or an utterance such as ``00001``.
        test: whether the metadata keeps it for testing.
        start, end: first frame and the one after the last, at 25 frames a second; 0, 0 where that is not known (yet).
        box: where the face is, where that is known.
        text: the text file that tells start, end and box; see :func:`detailed`.
    """

    person: str
    video: str
    part: str
    test: bool = False
    start: int = 0
    end: int = 0
    box: Box | None = None
    text: Path | None = None

    @property
    def name(self) -> str:
        """``person/video/part``, unique in the metadata."""
        return f"{self.person}/{self.video}/{self.part}"


def read_metadata(path: str | os.PathLike, shortest: int) -> list[Stretch]:
    """All stretches that a csv file, if they have at least ``shortest`` frames, or a directory of text files names.

    The text files themselves are not read yet, so how long theirs are is not known: there are up to a million of them.

    Raises:
        UserError: no such file, or a line of it is wrong.
    """
    path = expanded(path)
    if path.is_dir():
        found = list(_directory(path))
        fix = "it should hold person/video/utterance.txt, as vox1_dev_txt.zip has"
    elif path.is_file():
        found = [one for one in _csv(path) if one.end - one.start >= shortest]
        fix = f"it should list stretches of at least {shortest} frames"
    else:
        raise UserError(
            f"params.yaml: data.voxceleb.metadata is '{path}', which does not exist",
            allowed="vox-metadata.csv, a directory of VoxCeleb's txt files, or null",
        )
    if not found:
        raise UserError(f"{path}: no stretch of video in it", fix=fix)
    return list({one.name: one for one in found}.values())  # the csv has a few lines twice


def _csv(path: Path) -> Iterator[Stretch]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: has no column {missing[0]}", allowed=f"{', '.join(_COLUMNS)}, and more")
            for row in reader:
                yield _from_row(row, f"{path}, line {reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a csv file ({error})") from error


def _from_row(row: dict[str, str | None], where: str) -> Stretch:
    def refuse(key: str, allowed: str) -> UserError:
        return UserError(f"{where}: {key} is {(row.get(key) or '')[:40]!r}", allowed=allowed)

    video, _, owner = (row["video_id"] or "").partition("#")  # crop_vox.py writes video#person
    person = row.get("person_id") or owner
    if not person and "person_id" not in row:
        raise UserError(f"{where}: who is in it is not said", allowed="a column person_id, or a video_id VIDEO#PERSON")
    for key, value in (("video_id", video), ("person_id", person)):
        if not _NAME.fullmatch(value):
            raise refuse(key, "letters, digits, _ and -")
    numbers = {}
    for key, least in (("start", 0), ("end", 1), ("width", 1), ("height", 1)):
        try:
            numbers[key] = int(row[key] or "")
        except ValueError:
            raise refuse(key, "a whole number") from None
        if not least <= numbers[key] < _MOST:
            raise refuse(key, f"at least {least}, and below {_MOST:,}")
    corners = re.fullmatch(r"(\d{1,8})-(\d{1,8})-(\d{1,8})-(\d{1,8})", row["bbox"] or "")
    if not corners:
        raise refuse("bbox", "left-top-right-bottom, whole pixels")
    x0, y0, x1, y1 = (float(value) for value in corners.groups())
    if x1 <= x0 or y1 <= y0:
        raise refuse("bbox", "left-top-right-bottom, of some width and height")
    part = (row.get("partition") or "").strip().lower()
    if part not in ("", "train", "test"):  # else the people of a "validation" would be trained on
        raise refuse("partition", "train, test, or nothing")
    try:
        rate = float(row.get("fps") or FPS)
    except ValueError:
        rate = math.nan
    if not _RATES[0] <= rate <= _RATES[1]:
        raise refuse("fps", f"{_RATES[0]:g} to {_RATES[1]:g} frames a second")
    scale = FPS / rate
    start, end = round(numbers["start"] * scale), round(numbers["end"] * scale)
    if end <= start:
        raise refuse("end", f"more than start, {numbers['start']}")
    box = Box(x0, y0, x1, y1, float(numbers["width"]), float(numbers["height"]))
    return Stretch(person, video, f"{start:06d}-{end:06d}", part == "test", start, end, box)


def _directory(root: Path) -> Iterator[Stretch]:
    for path in files_below(root, lambda name: False):  # names of videos may begin with anything
        inside = path.relative_to(root).parts
        if path.suffix != ".txt" or len(inside) < 3:
            continue
        person, video, part = inside[-3], inside[-2], path.stem
        if all(_NAME.fullmatch(name) for name in (person, video, part)):
            # of the whole path, as somebody may name vox1_test_txt/ itself
            test = any(re.fullmatch(r"(vox\d_)?test(_txt)?", name) for name in (root.name, *inside[:-3]))
            yield Stretch(person, video, part, test, text=path)


def detailed(one: Stretch) -> Stretch:
    """The stretch with what its text file tells, if it has one: frames, and the mean box of the face.

    Raises:
        UserError: the file cannot be read, or holds no faces, or no frames in order.
    """
    if one.text is None:
        return one
    rows = []
    try:
        for line in one.text.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) == 5 and words[0].isdigit():
                rows.append([float(word) for word in words])
    except (OSError, ValueError) as error:  # a wrong number, or no text at all
        raise UserError(f"{one.text}: cannot be read ({error})") from error
    if not rows or any(row[3] <= 0 or row[4] <= 0 for row in rows):
        raise UserError(f"{one.text}: no table of faces in it", allowed="lines of FRAME X Y W H")
    if not all(abs(value) < _MOST for row in rows for value in row):
        raise UserError(f"{one.text}: a number in it is none of a frame", allowed=f"FRAME X Y W H below {_MOST:,}")
    start, end = int(rows[0][0]), int(rows[-1][0]) + 1
    if end <= start:
        raise UserError(f"{one.text}: its frames run from {start} to {end - 1}", allowed="frames in their order")
    mean = [sum(row[column] for row in rows) / len(rows) for column in range(1, 5)]
    x, y, width, height = mean
    # VoxCeleb2 gives shares of the frame, VoxCeleb1 pixels
    size = (1.0, 1.0) if max(mean) <= 2 else (0.0, _REFERENCE_HEIGHT)
    box = Box(x, y, x + width, y + height, *size)
    return replace(one, start=start, end=end, box=box)


def shortest_cut(clip_length: int, fps: float | None) -> int:
    """Frames at 25 a second that are to be downloaded of a stretch at least, so that one clip of it can be used.

    Args:
        clip_length: frames of a clip.
        fps: rate of the clips; None, the video's own, is not known yet and taken for VoxCeleb's.
    """
    return math.ceil((clip_length / (fps or FPS) + RAGGED_S) * FPS)


@dataclass(frozen=True)
class Order:
    """All stretches in the order in which they are taken: the first that can be had are the data set.

    ``train`` and ``test`` share no person. A video that is gone is replaced by the next in line.
    """

    train: list[Stretch]
    test: list[Stretch]


def order(stretches: Iterable[Stretch], n_test: int, seed: int) -> Order:
    """Draw an order with the seed; a stretch keeps its place whatever else is in the metadata.

    People to test on are those that the metadata keeps for it; if it keeps none, they are drawn, until they have twice
    the ``n_test`` stretches that are wanted, as some will be gone, but no more than half of the people.
    """
    stretches = sorted(stretches, key=lambda one: (_draw(seed, one.name), one.name))
    counts: dict[str, int] = {}
    for one in stretches:
        counts[one.person] = counts.get(one.person, 0) + 1
    kept = {one.person for one in stretches if one.test}
    if not kept and n_test:
        have = 0
        for person in sorted(counts, key=lambda person: (_draw(seed, person), person)):
            if have >= _SPARE_PEOPLE * n_test or 2 * (len(kept) + 1) > len(counts):
                break
            kept.add(person)
            have += counts[person]
    return Order([one for one in stretches if one.person not in kept], [one for one in stretches if one.person in kept])


def window(one: Stretch, seconds: float, seed: int) -> tuple[float, float]:
    """Begin and end in seconds of what is downloaded of a stretch: all of it, or ``seconds`` drawn with the seed."""
    spare = max(0, one.end - one.start - int(seconds * FPS))
    start = one.start + _draw(seed, f"{one.name} window") % (spare + 1)
    return start / FPS, (one.end - one.start - spare + start) / FPS


def _draw(seed: int, name: str) -> int:
    """A number of 64 bits that depends on the seed and a name, and on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
