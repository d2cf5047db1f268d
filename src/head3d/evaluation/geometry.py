"""How good the geometry is: poses against landmarks, and the masked head after stages 1 and 2, on a test set."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from head3d import tracking
from head3d.api import Head3D
from head3d.data.store import ClipStore, write_json
from head3d.geometry import Pose, euler_from_pose
from head3d.models.head3d import head_error, recurrent_canonical
from head3d.references import draw_references, draw_seed, subject_half
from head3d.training.batches import clip_pose, load_clips

if TYPE_CHECKING:
    from head3d.params import Params

ANGLES = ("yaw", "pitch", "roll")
MAX_PNP_ERROR = 4 / 128  # of the image's side; frames whose landmarks fit a rigid head no better are left out


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation; NaN for fewer than three values."""
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1]) if len(a) > 2 else float("nan")


def pose_agreement(ours: Pose, landmarks: Pose) -> dict[str, float]:
    """Yaw, pitch and roll of T frames against poses that were fitted to landmarks.

    Returns:
        For each angle ``_correlation`` (Pearson's, NaN for fewer than three frames), ``_mae_deg``, the mean absolute
        difference, and ``_spread_deg``, the standard deviation of the landmarks' angle: where it is small, a low
        correlation says little.
    """
    found: dict[str, float] = {}
    for name, a, b in zip(ANGLES, euler_from_pose(ours), euler_from_pose(landmarks), strict=True):
        found[f"{name}_correlation"] = round(correlation(a, b), 4)
        found[f"{name}_mae_deg"] = round(float((a - b).abs().mean()), 3)
        found[f"{name}_spread_deg"] = round(float(b.std()), 3)
    return found


@torch.inference_mode()
def measure(model: Head3D, params: "Params", store: ClipStore, test_set: str) -> dict[str, float | int]:
    """Pose correlations and errors, and head errors, of a test set."""
    clips, records = load_clips(store, test_set, params, poses=True), store.records(test_set)
    n = params.model.references
    predicted, wanted, trusted = [], [], []
    most_px = MAX_PNP_ERROR * params.data.image_size
    pnp_errors = clips.pnp_error.split([len(frames) for frames in clips.frames])
    errors: dict[str, list[float]] = {"stage1": [], "stage2": [], "mean_reference": []}
    for index in range(len(clips)):
        length = len(clips.frames[index])
        batch = clips.load([index], [list(range(length))]).to(model.compute.device)
        heads, masks = batch.heads[0], batch.masks[0]
        prediction = model.geometry.predict(heads)
        pose, known = clip_pose(batch)
        predicted.append(prediction.pose)
        wanted.append(pose)
        trusted.append(known & (pnp_errors[index] < most_px).to(known.device))

        half = subject_half(length)
        for draw in range(params.evaluate.draws):
            picks = draw_references(half, n, draw_seed(params, records[index], draw))
            own, own_masks = heads[picks], masks[picks]
            view = model.geometry.predict(own)
            truth, poses = heads[half:], prediction.pose[half:]
            assert model.canonical_net is not None
            found, mean = recurrent_canonical(model.geometry, model.canonical_net, own, own_masks, view, len(picks))
            recurrent = replace(found, depth=model.geometry.canonical_depth(found.image))  # as it is used
            for name, head in (("stage1", mean), ("stage2", recurrent)):
                rendered = model.geometry.render(head.repeat(length - half), poses)
                errors[name].append(float(head_error(rendered, truth).mean()))
            flat = own.mean(dim=0, keepdim=True)
            errors["mean_reference"].append(float((flat - truth).square().mean()))

    use = torch.cat(trusted)
    ours, landmarks = (Pose.cat(poses)[use] for poses in (predicted, wanted))
    result: dict[str, float | int] = {
        "n_clips": len(clips),
        "n_frames": int(use.numel()),
        "n_pose_frames": int(use.sum()),
    }
    result |= pose_agreement(ours, landmarks)
    means = {name: sum(values) / len(values) for name, values in errors.items()}
    result |= {f"head_mse_{name}": round(value, 6) for name, value in means.items()}
    result["ratio_stage1"] = round(means["stage1"] / means["mean_reference"], 4)
    result["ratio_stage2"] = round(means["stage2"] / means["mean_reference"], 4)
    return result


def run(params: "Params", test_set: str) -> None:
    """Measure the geometry on a test set; writes metrics/geometry-SET.json."""
    store = ClipStore()
    with tracking.run(stage="evaluate_geometry", params=params, instance=test_set) as tracked:
        result = measure(Head3D.load(params=params, variant=None), params, store, test_set)
        tracked.metrics({k: float(v) for k, v in result.items()})
        write_json(Path("metrics") / f"geometry-{test_set}.json", result)
