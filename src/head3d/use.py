"""``head3d animate`` and ``head3d view``: trained models on anybody's videos.

A video goes the way that the training data went: one steady square box around the head, then the same inference as in
the evaluation (:class:`head3d.api.Head3D`). Frames are made in batches and written as they come.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from head3d.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from head3d.api import Head3D, Motion, Subject
    from head3d.params import Params

VIEW_FPS = 25.0
MOST_FRAMES = 100_000  # of a sweep; more than an hour is a slip of the finger
LIMITS = {"yaw": 85.0, "pitch": 85.0, "roll": 180.0}  # degrees; beyond these nothing of a face is left to see
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"


def animate(
    subject: str | Path,
    driving: str | Path,
    out: str | Path,
    *,
    models: str | Path = "models",
    variant: str = "full",
    motion: str | None = None,
    references: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    params: Params | None = None,
) -> Path:
    """Move the head of one video as the head of another moves; the sound of the driving video is kept.

    Args:
        subject: video of the person to be shown.
        driving: video of the person whose motion is taken.
        out: mp4 file to write; it appears when it is complete.
        models: directory of trained models.
        variant: which fusion model.
        motion: relative or absolute; default ``animate.motion`` of params.yaml.
        references: number N of reference frames; default ``model.references``.
        seed: of the choice of reference frames; default ``seed``.
        device: auto, cpu, cuda or cuda:N; default ``device``.
        params: default params.yaml of the current directory.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    if motion not in (None, "relative", "absolute"):
        raise UserError(f"--motion is {motion!r}", allowed="relative or absolute")
    target = _check_files(out, subject=subject, driving=driving)
    params, model = _load(params, models, variant, references, device)
    person, _ = _subject(model, params, subject, references, seed)
    frames, fps = _crop(driving, params, "driving")
    with _progress(len(frames), "animate") as bar:
        how: Motion = params.animate.motion if motion is None else cast("Motion", motion)
        made = _animated(model, person, frames, how, _batch(params), bar)
        _write(target, made, fps, audio_from=driving)
    print(f"{target}: {len(frames)} frames of {model.image_size}x{model.image_size}, {fps:g} a second")
    return target


def view(
    subject: str | Path,
    out: str | Path,
    *,
    yaw: str | float = "0",
    pitch: str | float = "0",
    roll: str | float = "0",
    frames: int = 60,
    models: str | Path = "models",
    variant: str = "full",
    references: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    params: Params | None = None,
) -> Path:
    """Look at the head of a video from other sides.

    Args:
        subject: video of the person to be shown.
        out: mp4 file to write; it appears when it is complete.
        yaw: degrees, a number or a sweep ``A:B``; so are ``pitch`` and ``roll``.
        frames: how many frames the sweep takes, at 25 a second.
        models: directory of trained models; the remaining arguments are those of :func:`animate`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    sweeps = {name: parse_range(name, text) for name, text in (("yaw", yaw), ("pitch", pitch), ("roll", roll))}
    if not 1 <= frames <= MOST_FRAMES:
        raise UserError(f"--frames is {frames}", allowed=f"1 to {MOST_FRAMES}")
    target = _check_files(out, subject=subject)
    params, model = _load(params, models, variant, references, device)
    person, _ = _subject(model, params, subject, references, seed)
    with _progress(frames, "view") as bar:
        _write(target, _turned(model, person, sweeps, frames, _batch(params), bar), VIEW_FPS)
    print(f"{target}: {frames} frames of {model.image_size}x{model.image_size}, {VIEW_FPS:g} a second")
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


def _check_files(out: str | Path, **videos: str | Path) -> Path:
    """Everything that can be known before the slow work: inputs that can be read, an output that can be written."""
    from head3d.data.video import probe

    for name, video in videos.items():
        if not Path(video).is_file():
            kind = "a directory, not a video" if Path(video).is_dir() else "not there"
            raise UserError(f"--{name} {video}: {kind}", allowed="a video file")
    target = Path(out)
    if target.suffix.lower() != ".mp4":
        raise UserError(f"--out {out}: no mp4 file", fix=f"name it {target.stem or 'out'}.mp4")
    if target.is_dir():
        raise UserError(f"--out {out}: a directory", allowed="the name of an mp4 file")
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


def _load(
    params: Params | None, models: str | Path, variant: str, references: int | None, device: str | None
) -> tuple[Params, Head3D]:
    from head3d.params import load_params

    params = params or load_params()
    if references is not None and references < 1:
        raise UserError(f"--references is {references}", allowed="1 or more")
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
    model: Head3D, params: Params, video: str | Path, references: int | None, seed: int | None
) -> tuple[Subject, float]:
    """The subject with its canonical head, and the video's frames a second."""
    from head3d.images import to_tensor

    frames, fps = _crop(video, params, "subject")
    count = references or params.model.references
    if count > len(frames):
        raise UserError(f"--references is {count}", allowed=f"at most {len(frames)}, the frames of {video}")
    import torch

    chosen = params.seed if seed is None else seed
    # The same frames that the model would pick of the whole video, so that a long video need not become one tensor.
    picks = torch.randperm(len(frames), generator=torch.Generator().manual_seed(chosen))[:count].tolist()
    return model.subject(to_tensor(frames[picks]), references=count, seed=chosen), fps


def _crop(video: str | Path, params: Params, name: str) -> tuple[np.ndarray, float]:
    from head3d.data.crop import crop_video

    print(f"{name} {video}: finding the face", flush=True)
    frames, _, fps, _ = crop_video(video, params)
    return frames, fps


def _animated(
    model: Head3D, person: Subject, frames: np.ndarray, motion: Motion, batch: int, bar
) -> Iterator[np.ndarray]:
    """Output frames, uint8 (H, W, 3), one by one; driving frames are seen ``batch`` at a time."""
    from head3d.api import Start
    from head3d.images import to_frames, to_tensor

    first = None
    for start in range(0, len(frames), batch):
        driving = to_tensor(frames[start : start + batch])
        masks = model.masks(driving)
        if first is None:
            first = Start(driving[:1], model.pose(driving[:1], masks[:1]))
            person = model.choose_reference(person, first.pose, motion)
        made = model.animate(person, driving, masks, motion=motion, first=first)
        yield from to_frames(made.frames)
        bar.update(len(driving))


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

    return tqdm(total=total, desc=name, unit="frame")
