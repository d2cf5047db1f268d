"""``head3d animate``, ``view`` and ``export``: trained models on anybody's videos.

A video goes the way that the training data went: one steady square box around the head, then the same inference as in
the evaluation (:class:`head3d.api.Head3D`). Frames are read, made in batches and written as they come, so that a
long video takes no more memory than a short one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from head3d.errors import UserError
from head3d.options import Options, check_choice, check_device, check_files, check_sweeps, check_transfer

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from head3d.api import Head3D, Subject
    from head3d.data.footage import Footage, Watch
    from head3d.sections.choices import Choice, Motion, Parser

VIEW_FPS = 25.0
SYNTHETIC = "Synthetic video of a person, made by Head3D"  # in the metadata of every video that a user gets


class Person(NamedTuple):
    """A subject video that has been looked through.

    Attributes:
        footage: where its face is.
        subject: with its canonical head.
        indices: where in the video each of the references is.
    """

    footage: Footage
    subject: Subject
    indices: list[int]


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
        **chosen: fields of :class:`head3d.options.Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    check_transfer(motion, driving_face)
    target = check_files(out, (".mp4",), subject=subject, driving=driving)
    model = load(options)
    person = prepare_person(model, subject, options, watch)
    shown = {"paste": paste, "compare": compare}
    line = transfer(model, person, driving, target, motion=motion, driving_face=driving_face, watch=watch, **shown)
    if line:
        print(line)
    _report(target)
    return target


def transfer(
    model: Head3D,
    person: Person,
    driving: str | Path,
    target: Path,
    *,
    paste: bool = False,
    compare: bool = False,
    driving_face: int | None = None,
    motion: str | None = None,
    watch: Watch | None = None,
) -> str | None:
    """What :func:`animate` does once the person is known; arguments as there.

    Returns:
        What to say of frames in which no face was found; None if there were none.
    """
    from head3d.data.footage import survey
    from head3d.streaming import Drive, Paste, side_by_side

    params, (filmed, subject, indices) = model.params, person
    moving = survey(driving, params, face=driving_face, name="driving", watch=watch)
    if watch is not None:
        watch("animate", 0, moving.n_frames)
    how: Motion = params.animate.motion if motion is None else cast("Motion", motion)
    drive = Drive(model, subject, moving, how, _batch(model))
    size, place = model.image_size, None
    if paste:
        place = Paste(*filmed.whole(indices[drive.subject.reference_index]), size)
    still = (
        place.frame
        if place
        else filmed.crops_at([indices[drive.subject.reference_index]], size)[0]
        if compare
        else None
    )

    def pictures(bar: tqdm) -> Iterator[np.ndarray]:
        for count, (seen, made) in enumerate(drive, start=1):
            result = place(made) if place else made
            yield result if not compare or still is None else side_by_side(still, seen, result)
            bar.update()
            if watch is not None:
                watch("animate", count, moving.n_frames)

    with _progress(moving.n_frames, "animate") as bar:
        _write(target, pictures(bar), moving.fps, audio_from=driving)
    return drive.lost_line()


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
        **chosen: fields of :class:`head3d.options.Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    sweeps = check_sweeps(yaw, pitch, roll, frames)
    target = check_files(out, (".mp4",), subject=subject)
    model = load(options)
    render_sweep(model, prepare_person(model, subject, options), target, sweeps, frames)
    _report(target)
    return target


def render_sweep(
    model: Head3D,
    person: Person,
    target: Path,
    sweeps: dict[str, tuple[float, float]],
    frames: int,
    watch: Watch | None = None,
) -> None:
    """What :func:`view` does once the person is known.

    Args:
        sweeps: from :func:`head3d.options.check_sweeps`.
        watch: called after every batch; may raise to stop.
    """
    with _progress(frames, "view") as bar:
        _write(target, _turned(model, person.subject, sweeps, frames, bar, watch), VIEW_FPS)


def export(subject: str | Path, out: str | Path, **chosen: Any) -> Path:
    """Write the canonical head of a video as a textured mesh.

    Args:
        subject: video of the person.
        out: .glb or .ply file to write; it appears when it is complete.
        **chosen: fields of :class:`head3d.options.Options`.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    options = Options(**chosen)
    target = check_files(out, (".glb", ".ply"), subject=subject)
    model = load(options)
    from head3d.mesh import head_mesh, save

    mesh = head_mesh(prepare_person(model, subject, options).subject.head(), model.geometry)
    save(mesh, target)
    print(f"{target}: {len(mesh.positions)} vertices, {len(mesh.faces)} triangles, in the model's metres")
    return target


def load(options: Options) -> Head3D:
    """The trained networks that the options name; its ``params`` are theirs, or those of params.yaml.

    Raises:
        UserError: a wrong option, or models that are not there.
    """
    from head3d.params import load_params

    models, variant, device = options.models, options.variant, options.device
    params = options.params or load_params()
    check_choice(options)
    if device is not None:
        check_device(device)
    needed = ["geometry", f"fusion-{variant}", *([] if variant == "mean_canonical" else ["canonical"])]
    needed += ["parser"] if options.parser == "small" else []
    missing = [name for name in needed if not (Path(models) / f"{name}.safetensors").is_file()]
    if missing:
        known = sorted(path.stem.partition("-")[2] for path in Path(models).glob("fusion-*.safetensors"))
        raise UserError(
            f"{models}: no {', '.join(f'{name}.safetensors' for name in missing)} there",
            allowed=f"variants {', '.join(known)}" if known and f"fusion-{variant}" in missing else None,
            fix="train the models with `make demo` or `dvc repro` first, or name their directory with --models"
            + "; or leave out --parser small" * (missing == ["parser"]),
        )
    from head3d.api import Head3D

    parser = cast("Parser", options.parser)
    return Head3D.load(models, params=params, variant=variant, device=device, parser=parser)


def prepare_person(model: Head3D, video: str | Path, options: Options, watch: Watch | None = None) -> Person:
    """Find the person in a subject video and make the canonical head.

    Args:
        model: from :func:`load`.
        video: of the person.
        options: how the references are chosen, and which face.
        watch: called with what is being done, frames done and all frames, and may raise to stop.
    """
    from head3d.data.footage import survey
    from head3d.streaming import make_subject

    params = model.params
    filmed = survey(video, params, face=options.face, name="subject", watch=watch)
    count = options.references or params.model.references
    seed = params.seed if options.seed is None else options.seed
    if watch is not None:
        watch("subject: making the head", 0, 0)
    return Person(filmed, *make_subject(model, filmed, count, cast("Choice", options.choose), seed))


def _turned(
    model: Head3D,
    subject: Subject,
    sweeps: dict[str, tuple[float, float]],
    count: int,
    bar: tqdm,
    watch: Watch | None,
) -> Iterator[np.ndarray]:
    """Output frames of a sweep, uint8 (H, W, 3), one by one."""
    import numpy as np

    from head3d.images import to_frames
    from head3d.views import hand_pose

    angles = {name: np.linspace(low, high, count, dtype=np.float32) for name, (low, high) in sweeps.items()}
    batch = _batch(model)
    for start in range(0, count, batch):
        here = {name: values[start : start + batch] for name, values in angles.items()}
        made = model.view(subject, hand_pose(subject, here["yaw"], here["pitch"], here["roll"]))
        yield from to_frames(made.frames)
        bar.update(len(made.frames))
        if watch is not None:
            watch("view", start + len(made.frames), count)


def _batch(model: Head3D) -> int:
    """Driving frames at a time: whole batches of face parser and networks; on a CPU small ones, which threads share."""
    params = model.params
    if model.compute.device.type == "cpu":
        return params.evaluate.batch_size
    return min(64, math.lcm(params.parse.batch_size, params.evaluate.batch_size))


def _write(target: Path, frames: Iterator[np.ndarray], fps: float, audio_from: str | Path | None = None) -> None:
    from head3d.data.video import write_video

    try:
        write_video(target, frames, fps=fps, audio_from=audio_from, comment=SYNTHETIC)
    except OSError as error:
        raise UserError(f"--out {target}: cannot be written ({error.strerror or error})") from error


def _progress(total: int, name: str):
    from tqdm import tqdm

    return tqdm(total=total, desc=name, unit="frame", disable=None)


def _report(target: Path) -> None:
    from head3d.data.video import probe

    info = probe(target)
    print(f"{target}: {info.n_frames} frames of {info.width}x{info.height}, {info.fps:g} a second")
