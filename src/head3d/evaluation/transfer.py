"""Self-reconstruction: the first half of a clip is the subject, the second half drives and is the ground truth."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from head3d import tracking
from head3d.api import Head3D, Subject
from head3d.data.store import ClipRecord, ClipStore
from head3d.errors import UserError
from head3d.evaluation.metrics import Lpips, mse_01

if TYPE_CHECKING:
    from head3d.params import Params

COLUMNS = ("dataset", "method", "draw", "clip_id", "n_frames", "mse_01", "mse_pm1", "lpips_alex", "lpips_vgg")


@dataclass(frozen=True)
class Case:
    """A test clip in two halves: images (T, 3, H, W) and head masks (T, 1, H, W), in [0, 1]."""

    subject: Tensor
    subject_masks: Tensor
    driving: Tensor
    driving_masks: Tensor


def split_clip(store: ClipStore, record: ClipRecord) -> Case:
    """The two halves of a clip."""
    frames = torch.from_numpy(store.frames(record).copy()).permute(0, 3, 1, 2).float() / 255
    masks = torch.from_numpy(store.masks(record).copy())[:, None].float() / 255
    half = len(frames) // 2
    return Case(frames[:half], masks[:half], frames[half:], masks[half:])


def draw_seed(params: "Params", record: ClipRecord, draw: int) -> int:
    """Seed of the reference frames of a clip and draw: the same for every method, so that they are compared fairly."""
    return (params.seed * 1_000_003 + draw * 7919 + int(record.pixels_sha256[:8], 16)) % 2**31


def paste(model: Head3D, subject: Subject, case: Case) -> Tensor:
    """The rendered canonical head on the reference frame, no stage 3: a floor for the fusion."""
    head, mask = model.render(subject, model.pose(case.driving, case.driving_masks))
    return head + (1 - mask) * subject.reference


def floors(model: Head3D, params: "Params", record: ClipRecord, case: Case) -> Iterator[tuple[str, int, Tensor]]:
    """``copy`` for every subject frame, ``copy_last``, and ``paste`` for every draw."""
    length = len(case.driving)
    for draw, frame in enumerate(case.subject):
        yield "copy", draw, frame.expand(length, -1, -1, -1)
    yield "copy_last", 0, case.subject[-1].expand(length, -1, -1, -1)
    for draw in range(params.evaluate.draws):
        subject = model.subject(case.subject, case.subject_masks, seed=draw_seed(params, record, draw))
        yield "paste", draw, paste(model, subject, case)


def name_of(variant: str, references: int, params: "Params") -> str:
    """Name of a method in tables: ``head3d`` for N as trained, ``head3d_nK``, or ``head3d_VARIANT``."""
    if variant != "full":
        return f"head3d_{variant}"
    return "head3d" if references == params.model.references else f"head3d_n{references}"


def predictions(
    model: Head3D, variant: str, params: "Params", record: ClipRecord, case: Case
) -> Iterator[tuple[str, int, Tensor]]:
    """Output frames of Head3D in a variant, with every N of params.yaml for the full one."""
    usual = params.model.references
    pose = model.pose(case.driving, case.driving_masks)  # once for all N and draws
    counts = sorted({usual, *params.evaluate.references}) if variant == "full" else [usual]
    for references in counts:
        for draw in range(params.evaluate.draws):
            seed = draw_seed(params, record, draw)
            subject = model.subject(case.subject, case.subject_masks, references=references, seed=seed)
            subject = model.choose_reference(subject, pose)
            transfer = model.animate(subject, case.driving, pose=pose)
            yield name_of(variant, references, params), draw, transfer.frames


def evaluate(params: "Params", test_set: str, method: str, store: ClipStore) -> list[dict[str, object]]:
    """Rows of every clip and draw of a method on a test set.

    Raises:
        UserError: the test set is empty.
    """
    records = store.records(test_set)
    if not records:
        known = ", ".join(sorted({r.split for r in store.all_records if r.status == "ok"})) or "none"
        raise UserError(f"params.yaml: test_sets names {test_set!r}, which has no clip", allowed=known)
    model = Head3D.load(params=params, variant=None if method == "floors" else method)
    alex = Lpips("alex").to(model.compute.device)
    # VGG costs ten times AlexNet's time: of Head3D and the floors the first draw, of ablations nothing.
    vgg = Lpips("vgg").to(model.compute.device) if method in ("floors", "full") else None
    rows: list[dict[str, object]] = []
    for record in tqdm(records, desc=f"{method} on {test_set}", unit="clip", disable=None):
        case = split_clip(store, record)
        made = (
            floors(model, params, record, case)
            if method == "floors"
            else predictions(model, method, params, record, case)
        )
        truth = case.driving.to(model.compute.device)
        truth_alex, truth_vgg = alex.features(truth), vgg.features(truth) if vgg else []
        for name, draw, frames in made:
            # What a video file can hold is measured: eight bits a channel.
            frames = (frames.to(truth.device).clamp(0, 1) * 255).round() / 255
            error = float(mse_01(frames, truth).mean())
            still = name.startswith("copy")  # one frame, repeated: its features are computed once
            shown = frames[:1] if still else frames
            row = {"dataset": test_set, "method": name, "draw": draw, "clip_id": record.clip_id, "n_frames": len(truth)}
            row |= {"mse_01": error, "mse_pm1": 4 * error, "lpips_alex": lpips_mean(alex, shown, truth_alex)}
            if vgg and draw == 0 and (method == "floors" or name == "head3d"):
                row["lpips_vgg"] = lpips_mean(vgg, shown, truth_vgg)
            rows.append(row)
    return rows


def lpips_mean(metric: Lpips, frames: Tensor, truth: list[Tensor]) -> float:
    """Mean LPIPS over frames, against features of the truth; a single frame stands for all."""
    features = metric.features(frames)
    if len(frames) == 1:
        features = [f.expand_as(t) for f, t in zip(features, truth, strict=True)]
    return float(metric.distance(features, truth).mean())


def run(params: "Params", test_set: str, method: str) -> None:
    """Evaluate a method on a test set; writes metrics/transfer/SET-METHOD.csv."""
    store = ClipStore()
    with tracking.run(stage="evaluate", params=params, instance=f"{test_set}-{method}") as tracked:
        tracked.dataset(test_set, store.digest, len(store.records(test_set)))
        rows = evaluate(params, test_set, method, store)
        path = Path("metrics/transfer") / f"{test_set}-{method}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.8f}" if isinstance(v, float) else v for k, v in row.items()})
        os.replace(temporary, path)
        for name in sorted({str(r["method"]) for r in rows}):
            own = [r for r in rows if r["method"] == name]
            means = {k: sum(float(str(r[k])) for r in own) / len(own) for k in ("mse_01", "lpips_alex")}
            tracked.metrics({f"{name}/{k}": v for k, v in means.items()})
