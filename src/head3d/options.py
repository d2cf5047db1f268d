"""What a user can ask of ``head3d animate``, ``view`` and ``export``, checked before the slow work begins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.sections.choices import CHOICES, MOTIONS, PARSERS
from head3d.sections.types import DEVICE

if TYPE_CHECKING:
    from head3d.params import Params

MOST_FRAMES = 100_000  # of a sweep; more than an hour is a slip of the finger
LIMITS = {"yaw": 85.0, "pitch": 85.0, "roll": 180.0}  # degrees; beyond these nothing of a face is left to see
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"


@dataclass(frozen=True)
class Options:
    """What ``animate``, ``view`` and ``export`` share.

    Attributes:
        models: directory of trained models.
        variant: which fusion model.
        references: number N of reference frames; default ``model.references``.
        choose: ``random`` reference frames, or the most ``diverse`` in pose.
        seed: of the choice; default ``seed``.
        face: which face of the subject video, from the left, from 1; default the largest.
        device: auto, cpu, cuda or cuda:N; default ``device``.
        parser: of driving frames, ``full`` or ``small``; the small one is two to three times as fast.
        params: default params.yaml of the current directory.
    """

    models: str | Path = "models"
    variant: str = "full"
    references: int | None = None
    choose: str = "random"
    seed: int | None = None
    face: int | None = None
    device: str | None = None
    parser: str = "full"
    params: Params | None = None


def parse_range(name: str, text: str | float) -> tuple[float, float]:
    """``"-20:20"`` -> (-20, 20), ``"15"`` -> (15, 15), in degrees.

    Raises:
        UserError: no such syntax, or an angle at which nothing of the face is left.
    """
    found = re.fullmatch(rf"\s*({_NUMBER})\s*(?::\s*({_NUMBER})\s*)?", str(text), re.ASCII)
    limit = LIMITS[name]
    allowed = f"degrees from {-limit:g} to {limit:g}: a number such as 15, or a sweep such as -20:20"
    if not found:
        raise UserError(f"--{name} is {text!r}", allowed=allowed)
    low, high = float(found[1]), float(found[2] if found[2] is not None else found[1])
    if max(abs(low), abs(high)) > limit:
        raise UserError(f"--{name} is {text!r}", allowed=allowed)
    return low, high


def check_sweeps(
    yaw: str | float, pitch: str | float, roll: str | float, frames: int
) -> dict[str, tuple[float, float]]:
    """First and last degrees of each angle of a sweep (:func:`parse_range`), and that its length is sane."""
    sweeps = {name: parse_range(name, text) for name, text in (("yaw", yaw), ("pitch", pitch), ("roll", roll))}
    if not 1 <= frames <= MOST_FRAMES:
        raise UserError(f"--frames is {frames}", allowed=f"1 to {MOST_FRAMES}")
    return sweeps


def check_transfer(motion: str | None, driving_face: int | None) -> None:
    """The options of :func:`head3d.use.transfer` that a user can get wrong."""
    if motion is not None:
        _check_word("motion", motion, MOTIONS)
    _check_face("driving-face", driving_face)


def check_choice(options: Options) -> None:
    """The options that say how a head is made from a video."""
    if options.references is not None and options.references < 1:
        raise UserError(f"--references is {options.references}", allowed="1 or more")
    _check_word("choose", options.choose, CHOICES)
    _check_word("parser", options.parser, PARSERS)
    if options.seed is not None and not 0 <= options.seed < 2**32:
        raise UserError(f"--seed is {options.seed}", allowed=f"0 to {2**32 - 1}")
    _check_face("face", options.face)


def check_device(device: str) -> None:
    """``--device``, as far as it can be checked without asking for the device."""
    if not re.fullmatch(DEVICE, device):
        raise UserError(f"--device is {device!r}", allowed="auto, cpu, cuda or cuda:N")


def check_folder(path: Path, named: str) -> None:
    """That a file can be written there, in a folder that may have to be made first.

    Args:
        path: of the file.
        named: what an error calls it, such as ``--out x.mp4``.
    """
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{named}: {folder} is no directory that can be written", fix="choose another place")


def _check_word(name: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise UserError(f"--{name} is {word!r}", allowed=" or ".join(allowed))


def _check_face(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise UserError(f"--{name} is {number}", allowed="1 or more, counted from the left")


def check_files(out: str | Path, endings: tuple[str, ...], **videos: str | Path) -> Path:
    """Everything that can be known before the slow work: inputs that can be read, an output that can be written."""
    from head3d.data.video import probe

    for name, video in videos.items():
        if not Path(video).is_file():
            kind = "a directory, not a video" if Path(video).is_dir() else "not there"
            raise UserError(f"--{name} {video}: {kind}", allowed="a video file")
    target = check_out(out, endings, **videos)
    for video in videos.values():
        probe(video)  # says what is wrong with a file that is no video, before the models are loaded
    return target


def check_out(out: str | Path, endings: tuple[str, ...], **inputs: str | Path) -> Path:
    """Where a file is to be written: of a kind that is made, none of those that are read, in a folder that can be."""
    target = Path(out)
    kinds = " or ".join(ending[1:] for ending in endings)
    if target.suffix.lower() not in endings:
        stem = "out" if target.name.lower() in endings else target.stem or "out"
        raise UserError(f"--out {out}: no {kinds} file", fix=f"name it {stem}{endings[0]}")
    if target.is_dir():
        raise UserError(f"--out {out}: a directory", allowed=f"the name of a {kinds} file")
    for name, given in inputs.items():
        if target.exists() and Path(given).exists() and target.samefile(given):
            raise UserError(f"--out {out}: the same file as --{name}", fix="choose another name")
    check_folder(target, f"--out {out}")
    return target
