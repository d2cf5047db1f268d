"""``head3d animate``, ``view`` and ``export``: trained models on anybody's videos.

A video goes the way that the training data went: one steady square box around the head, then the same inference as in
the evaluation (:class:`head3d.api.Head3D`). Frames are read, made in batches and written as they come, so that a
long video takes no more memory than a short one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from head3d.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from head3d.api import Head3D, Motion, Subject
    from head3d.data.footage import Footage, Watch
    from head3d.params import Params

VIEW_FPS = 25.0
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
        params: default params.yaml of the current directory.
    """

    models: str | Path = "models"
    variant: str = "full"
    references: int | None = None
    choose: str = "random"
    seed: int | None = None
    face: int | None = None
    device: str | None = None
    params: Params | None = None


def animate(
    subject: str | Path,
    driving: str | Path,
    out: str | Path,
    *,
    paste: bool = False,
    compare: bool = False,
    driving_face: int | None = None,
    motion: str | None = None,
    watch: Watch | None = None,
    **chosen: Any,
) -> Path:
    """Move the head of one video as the head of another moves; the sound of the driving video is kept.

    Args:
        subject: video of the person to be shown.
        driving: video of the person whose motion is taken.
        out: mp4 file to write; it appears when it is complete.
        paste: put the result back into the subject's whole frame.
        compare: subject, driving frame and result side by side.
        driving_face: which face of the driving video, from the left, from 1; default the largest.
        motion: relative or absolute; default ``animate.motion`` of params.yaml.
        watch: called with what is being done, frames done and all frames, and may raise to stop.
        **chosen: fields of :class:`Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    if motion not in (None, "relative", "absolute"):
        raise UserError(f"--motion is {motion!r}", allowed="relative or absolute")
    _check_face("driving-face", driving_face)
    target = _check_files(out, (".mp4",), subject=subject, driving=driving)
    params, model = _load(options)
    filmed, person, indices = _subject(model, params, subject, options, watch)
    from head3d.data.footage import survey
    from head3d.streaming import Drive, Paste, side_by_side

    moving = survey(driving, params, face=driving_face, name="driving", watch=watch)
    how: Motion = params.animate.motion if motion is None else cast("Motion", motion)
    drive = Drive(model, person, moving, how, _batch(params))
    size, place = model.image_size, None
    if paste:
        place = Paste(*filmed.whole(indices[drive.subject.chosen]), size)
    still = place.frame if place else filmed.crops_at([indices[drive.subject.chosen]], size)[0] if compare else None

    def pictures(bar: tqdm) -> Iterator[np.ndarray]:
        for seen, made in drive:
            result = place(made) if place else made
            yield result if not compare or still is None else side_by_side(still, seen, result)
            bar.update()
            if watch is not None:
                watch("animate", int(bar.n) or 1, moving.n_frames)

    with _progress(moving.n_frames, "animate") as bar:
        _write(target, pictures(bar), moving.fps, audio_from=driving)
    if line := drive.lost_line():
        print(line)
    _report(target)
    return target


def view(
    subject: str | Path,
    out: str | Path,
    *,
    yaw: str | float = "0",
    pitch: str | float = "0",
    roll: str | float = "0",
    frames: int = 60,
    **chosen: Any,
) -> Path:
    """Look at the head of a video from other sides.

    Args:
        subject: video of the person to be shown.
        out: mp4 file to write; it appears when it is complete.
        yaw: degrees, a number or a sweep ``A:B``; so are ``pitch`` and ``roll``.
        frames: how many frames the sweep takes, at 25 a second.
        **chosen: fields of :class:`Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    sweeps = {name: parse_range(name, text) for name, text in (("yaw", yaw), ("pitch", pitch), ("roll", roll))}
    if not 1 <= frames <= MOST_FRAMES:
        raise UserError(f"--frames is {frames}", allowed=f"1 to {MOST_FRAMES}")
    target = _check_files(out, (".mp4",), subject=subject)
    params, model = _load(options)
    _, person, _ = _subject(model, params, subject, options)
    with _progress(frames, "view") as bar:
        _write(target, _turned(model, person, sweeps, frames, _batch(params), bar), VIEW_FPS)
    _report(target)
    return target


def export(subject: str | Path, out: str | Path, **chosen: Any) -> Path:
    """Write the canonical head of a video as a textured mesh.

    Args:
        subject: video of the person.
        out: .glb or .ply file to write; it appears when it is complete.
        **chosen: fields of :class:`Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    target = _check_files(out, (".glb", ".ply"), subject=subject)
    params, model = _load(options)
    _, person, _ = _subject(model, params, subject, options)
    from head3d.mesh import head_mesh, save

    mesh = head_mesh(person.head(), model.geometry)
    save(mesh, target)
    print(f"{target}: {len(mesh.positions)} vertices, {len(mesh.faces)} triangles, metres")
    return target


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


def _check_face(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise UserError(f"--{name} is {number}", allowed="1 or more, counted from the left")


def _check_files(out: str | Path, endings: tuple[str, ...], **videos: str | Path) -> Path:
    """Everything that can be known before the slow work: inputs that can be read, an output that can be written."""
    from head3d.data.video import probe

    for name, video in videos.items():
        if not Path(video).is_file():
            kind = "a directory, not a video" if Path(video).is_dir() else "not there"
            raise UserError(f"--{name} {video}: {kind}", allowed="a video file")
    target = Path(out)
    kinds = " or ".join(ending[1:] for ending in endings)
    if target.suffix.lower() not in endings:
        raise UserError(f"--out {out}: no {kinds} file", fix=f"name it {target.stem or 'out'}{endings[0]}")
    if target.is_dir():
        raise UserError(f"--out {out}: a directory", allowed=f"the name of a {kinds} file")
    for name, video in videos.items():
        if target.exists() and target.samefile(video):
            raise UserError(f"--out {out}: the same file as --{name}", fix="choose another name")
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {folder} is no directory that can be written", fix="choose another place")
    for video in videos.values():
        probe(video)  # says what is wrong with a file that is no video, before the models are loaded
    return target


def _load(options: Options) -> tuple[Params, Head3D]:
    from head3d.params import load_params

    references, models, variant, device = options.references, options.models, options.variant, options.device
    params = options.params or load_params()
    if references is not None and references < 1:
        raise UserError(f"--references is {references}", allowed="1 or more")
    if options.choose not in ("random", "diverse"):
        raise UserError(f"--choose is {options.choose!r}", allowed="random or diverse")
    _check_face("face", options.face)
    if device is not None and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"--device is {device!r}", allowed="auto, cpu, cuda or cuda:N")
    needed = ["geometry", f"fusion-{variant}", *([] if variant == "mean_canonical" else ["canonical"])]
    missing = [name for name in needed if not (Path(models) / f"{name}.safetensors").is_file()]
    if missing:
        known = sorted(path.stem.partition("-")[2] for path in Path(models).glob("fusion-*.safetensors"))
        raise UserError(
            f"{models}: no {', '.join(f'{name}.safetensors' for name in missing)} there",
            allowed=f"variants {', '.join(known)}" if known else None,
            fix="train the models with `dvc repro` first, or name their directory with --models",
        )
    from head3d.api import Head3D

    return params, Head3D.load(models, params=params, variant=variant, device=device)


def _subject(
    model: Head3D, params: Params, video: str | Path, options: Options, watch: Watch | None = None
) -> tuple[Footage, Subject, list[int]]:
    """The surveyed video, the subject with its canonical head, and where in the video its references are."""
    from head3d.data.footage import survey
    from head3d.streaming import Choice, make_subject

    filmed = survey(video, params, face=options.face, name="subject", watch=watch)
    count = options.references or params.model.references
    seed = params.seed if options.seed is None else options.seed
    return filmed, *make_subject(model, filmed, count, cast("Choice", options.choose), seed)


def _turned(
    model: Head3D, person: Subject, sweeps: dict[str, tuple[float, float]], count: int, batch: int, bar
) -> Iterator[np.ndarray]:
    """Output frames of a sweep, uint8 (H, W, 3), one by one."""
    import numpy as np

    from head3d.images import to_frames
    from head3d.views import hand_pose

    angles = {name: np.linspace(low, high, count, dtype=np.float32) for name, (low, high) in sweeps.items()}
    for start in range(0, count, batch):
        here = {name: values[start : start + batch] for name, values in angles.items()}
        made = model.view(person, hand_pose(person, here["yaw"], here["pitch"], here["roll"]))
        yield from to_frames(made.frames)
        bar.update(len(made.frames))


def _batch(params: Params) -> int:
    """Driving frames at a time: whole batches of the face parser and of the networks."""
    return min(64, math.lcm(params.parse.batch_size, params.evaluate.batch_size))


def _write(target: Path, frames: Iterator[np.ndarray], fps: float, audio_from: str | Path | None = None) -> None:
    from head3d.data.video import write_video

    try:
        write_video(target, frames, fps=fps, audio_from=audio_from)
    except OSError as error:
        raise UserError(f"--out {target}: cannot be written ({error.strerror or error})") from error


def _progress(total: int, name: str):
    from tqdm import tqdm

    return tqdm(total=total, desc=name, unit="frame", disable=None)


def _report(target: Path) -> None:
    from head3d.data.video import probe

    info = probe(target)
    print(f"{target}: {info.n_frames} frames of {info.width}x{info.height}, {info.fps:g} a second")
