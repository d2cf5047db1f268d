"""Self-reconstruction: the first half of a clip is the subject, the second half drives and is the ground truth.

It knows methods only as :class:`Reenactor`: prepare a subject, drive it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from head3d import tracking
from head3d.data.store import ClipRecord, ClipStore, write_rows
from head3d.evaluation.metrics import Lpips, mse_01
from head3d.images import mask_tensor, to_tensor
from head3d.parallel import MOST_WORKERS, in_order, workers
from head3d.references import draw_seed, subject_half
from head3d.sections.choices import Motion

if TYPE_CHECKING:
    from head3d.params import Params

VGG_EVERY = 4  # frames of which one has its LPIPS with VGG measured
COLUMNS = ("dataset", "method", "draw", "clip_id", "n_frames", "mse_01", "mse_pm1", "lpips_alex", "lpips_vgg")
STILL = ("copy", "copy_last")  # floors that hold one frame
MethodFrames = Iterable[tuple[str, int, Tensor]]  # name in the tables, draw, frames (T, 3, H, W) in [0, 1]
Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A test clip in two halves: images (T, 3, H, W) and head masks (T, 1, H, W), in [0, 1]."""

    subject: Tensor
    subject_masks: Tensor
    driving: Tensor
    driving_masks: Tensor


class Reenactor(Protocol):
    """A method, Head3D or another, as the evaluation sees it. Frames are (T, 3, H, W), RGB in [0, 1]."""

    def prepare(self, frames: Tensor, masks: Tensor, seed: int) -> Any:
        """What driving needs of a subject, computed once.

        Args:
            frames: of the subject video.
            masks: their head masks (T, 1, H, W) in [0, 1], for methods that look at them.
            seed: decides the reference frames; the first one is the same for every method
                (:func:`head3d.references.reference_of`).
        """
        ...

    def drive(self, state: Any, driving: Tensor, masks: Tensor, motion: Motion = "absolute") -> Tensor:
        """The subject as in each driving frame.

        Args:
            state: of :meth:`prepare`.
            driving: driving frames.
            masks: their head masks.
            motion: ``absolute``, or ``relative`` to the first driving frame.
        """
        ...


def split_clip(store: ClipStore, record: ClipRecord) -> Case:
    """The two halves of a clip."""
    frames, masks = to_tensor(store.frames(record)), mask_tensor(store.masks(record))
    half = subject_half(len(frames))
    return Case(frames[:half], masks[:half], frames[half:], masks[half:])


def reenact(method: Reenactor, name: str, params: "Params", record: ClipRecord, case: Case) -> Iterator:
    """A method's frames of a clip, for every draw, under its name."""
    for draw in range(params.evaluate.draws):
        state = method.prepare(case.subject, case.subject_masks, draw_seed(params, record, draw))
        yield name, draw, method.drive(state, case.driving, case.driving_masks)


def score(
    store: ClipStore,
    test_set: str,
    label: str,
    device: torch.device,
    make: Callable[[ClipRecord, Case], MethodFrames],
    vgg_of: Collection[str] | None = None,
) -> list[Row]:
    """Rows of every clip, method and draw.

    Args:
        store: the clips.
        test_set: which of them.
        label: for the progress bar.
        device: where metrics are computed.
        make: frames of a clip; several threads call it at once.
        vgg_of: names of methods for which LPIPS with VGG is measured too, on every ``VGG_EVERY``-th frame; None for
            all.

    Raises:
        UserError: the test set is empty.
    """
    alex = Lpips("alex").to(device)
    vgg = Lpips("vgg").to(device) if vgg_of is None or vgg_of else None
    records = store.split(test_set)

    def rows_of(record: ClipRecord) -> list[Row]:
        rows: list[Row] = []
        case = split_clip(store, record)
        truth = case.driving.to(device)
        truth_alex, truth_vgg = alex.features(truth), vgg.features(truth[::VGG_EVERY]) if vgg else []
        for name, draw, frames in make(record, case):
            # What a video file can hold is measured: eight bits a channel.
            frames = (frames.to(device).clamp(0, 1) * 255).round() / 255
            error = float(mse_01(frames, truth).mean())
            still = name in STILL  # one frame, repeated: its features are computed once
            shown = frames[:1] if still else frames
            row: Row = {"dataset": test_set, "method": name, "draw": draw, "clip_id": record.clip_id}
            row |= {"n_frames": len(truth), "mse_01": error, "mse_pm1": 4 * error}
            row["lpips_alex"] = lpips_mean(alex, shown, truth_alex)
            # VGG costs ten times AlexNet's time: a share of the frames, the first draw only, and empty elsewhere.
            if vgg and draw == 0 and (vgg_of is None or name in vgg_of):
                row["lpips_vgg"] = lpips_mean(vgg, shown[::VGG_EVERY], truth_vgg)
            rows.append(row)
        return rows

    with workers(device) as pool:
        of_clips = in_order(pool, rows_of, records, MOST_WORKERS)
        shown = tqdm(of_clips, f"{label} on {test_set}", len(records), unit="clip", disable=None)
        return [row for rows in shown for row in rows]


def lpips_mean(metric: Lpips, frames: Tensor, truth: list[Tensor]) -> float:
    """Mean LPIPS over frames, against features of the truth; a single frame stands for all."""
    features = metric.features(frames)
    if len(frames) == 1:
        features = [f.expand_as(t) for f, t in zip(features, truth, strict=True)]
    return float(metric.distance(features, truth).mean())


def run_evaluation(
    params: "Params", test_set: str, method: str, evaluate: Callable[["Params", str, str, ClipStore], list[Row]]
) -> None:
    """A stage that evaluates a method on a test set, tracked; writes metrics/reconstruction/SET-METHOD.csv."""
    store = ClipStore()
    with tracking.run(stage="evaluate", params=params, instance=f"{test_set}-{method}") as tracked:
        tracked.dataset(test_set, store.digest, len(store.records(test_set)))
        rows = evaluate(params, test_set, method, store)
        told = [{k: f"{v:.8f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        write_rows(Path("metrics/reconstruction") / f"{test_set}-{method}.csv", COLUMNS, told)
        for name in sorted({str(r["method"]) for r in rows}):
            own = [r for r in rows if r["method"] == name]
            means = {k: sum(float(str(r[k])) for r in own) / len(own) for k in ("mse_01", "lpips_alex")}
            tracked.metrics({f"{name}/{k}": v for k, v in means.items()})
