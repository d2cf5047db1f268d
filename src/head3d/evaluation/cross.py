"""Transfer between people: every method's video of every pair, as mp4 for people and as exact frames for the measures.

The first half of the subject's clip is the subject video, as in self-reconstruction. The whole clip of the other person
drives: none of it serves as subject, and twice as long a motion is seen. ``data/transfer/SET/METHOD/PAIR.mp4`` and
``PAIR.npz``, with ``frames`` uint8 (T, H, W, 3) and, of methods that render a head, ``rendered`` uint8 (T, H, W), its
mask.
"""

import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from head3d import tracking
from head3d.data.store import ClipRecord, ClipStore
from head3d.data.video import write_video
from head3d.errors import UserError
from head3d.evaluation import pairs
from head3d.files import replacing, replacing_directory
from head3d.images import mask_frames, mask_tensor, to_frames, to_tensor
from head3d.parallel import MOST_WORKERS, in_order, workers
from head3d.references import draw_seed, reference_of, subject_half
from head3d.sections.choices import Motion

if TYPE_CHECKING:
    from head3d.params import Params


@dataclass(frozen=True)
class CrossCase:
    """Two people: frames (T, 3, H, W) and head masks (T, 1, H, W) in [0, 1] of subject video and driving video.

    ``seed`` decides the reference frames: the same for every method.
    """

    subject: Tensor
    subject_masks: Tensor
    driving: Tensor
    driving_masks: Tensor
    seed: int


RenderedVideo = tuple[Tensor, Tensor | None]  # frames (T, 3, H, W), masks of the rendered head (T, 1, H, W) or None
Make = Callable[[CrossCase, Motion], dict[str, RenderedVideo]]


def load_case(store: ClipStore, params: "Params", subject: ClipRecord, driving: ClipRecord) -> CrossCase:
    """A pair's frames."""
    frames, masks = store.views(subject)
    half = subject_half(len(frames))
    moving, moving_masks = store.views(driving)
    return CrossCase(
        to_tensor(frames[:half]),
        mask_tensor(masks[:half]),
        to_tensor(moving),
        mask_tensor(moving_masks),
        draw_seed(params, subject, 0),
    )


def save(folder: Path, name: str, frames: Tensor, rendered: Tensor | None, fps: float) -> None:
    """Write a video and its exact frames."""
    pixels = to_frames(frames)
    write_video(folder / f"{name}.mp4", pixels, fps, crf=pairs.CRF)
    arrays = {"frames": pixels}
    if rendered is not None:
        arrays["rendered"] = mask_frames(rendered)
    with replacing(folder / f"{name}.npz") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames uint8 (T, H, W, 3) of a pair's video, and masks of the rendered head uint8 (T, H, W) if there are any.

    Raises:
        UserError: the file is not there, or damaged.
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise UserError(f"{path}: not there", fix="make the videos first (dvc repro)")
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # opened here, as numpy leaves a damaged one open
            return arrays["frames"], arrays.get("rendered")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: can't be read ({error})", fix="delete it, and make the videos again") from error


def hold_reference(case: CrossCase) -> Tensor:
    """The reference frame, held still: what moves nothing."""
    return case.subject[reference_of(len(case.subject), case.seed)].expand(len(case.driving), -1, -1, -1)


def make_videos(
    params: "Params", test_set: str, method: str, outs: tuple[str, ...], device: torch.device, make: Make
) -> None:
    """A stage that makes the videos of one method, or of several at once; each has a directory of its own.

    Args:
        params: all of them.
        test_set: whose pairs.
        method: which is run, for the record.
        outs: names of what it makes.
        device: that it runs on.
        make: each one's video of a pair; several threads call it at once.
    """
    store, folder = ClipStore(), pairs.folder_of(test_set)
    with tracking.run(stage="transfer", params=params, instance=f"{test_set}-{method}") as tracked:
        tracked.dataset(test_set, store.digest, len(store.records(test_set)))
        known = {record.clip_id: record for record in store.records(test_set)}
        chosen = pairs.read(folder / "pairs.csv", known)
        with ExitStack() as stack:
            places = {out: stack.enter_context(replacing_directory(folder / out)) for out in outs}

            def make_pair(pair: pairs.Pair) -> None:
                driving = known[pair.driving_clip]
                case = load_case(store, params, known[pair.subject_clip], driving)
                for out, (frames, rendered) in make(case, params.animate.motion).items():
                    save(places[out], pair.pair, frames, rendered, driving.fps)

            with workers(device) as pool:
                made = in_order(pool, make_pair, chosen, MOST_WORKERS)
                for _ in tqdm(made, f"{method} across people of {test_set}", len(chosen), unit="pair", disable=None):
                    pass
        tracked.metrics({"pairs": float(len(chosen))})
