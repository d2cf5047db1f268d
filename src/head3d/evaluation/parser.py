"""How near the small parser's head masks come to the face parser's, on a test set."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from head3d import tracking
from head3d.compute import Compute
from head3d.data.store import ClipStore, write_json
from head3d.images import mask_tensor, to_tensor
from head3d.models.small_parser import SmallParser, soft_iou
from head3d.training.weights import load_weights

if TYPE_CHECKING:
    from head3d.params import Params


def measure(parser: SmallParser, compute: Compute, store: ClipStore, test_set: str) -> dict[str, float | int]:
    """Intersection over union of the two parsers' masks, cut at a half, over all frames of a test set.

    Every frame has a head to compare: the manifest takes no clip in which the face parser misses one.

    Raises:
        UserError: the test set is empty.
    """
    records = store.split(test_set)
    found, areas = [], []
    for record in records:
        frames, masks = store.views(record)
        images, wanted = to_tensor(frames).to(compute.device), mask_tensor(masks).to(compute.device)
        said = parser.masks(images)
        found.append(soft_iou((said >= 0.5).float(), (wanted >= 0.5).float()).cpu())
        areas.append(torch.stack((said.sum(), wanted.sum())).double().cpu())
    ratio, (ours, theirs) = torch.cat(found).double(), torch.stack(areas).sum(dim=0)
    return {
        "n_clips": len(records),
        "n_frames": len(ratio),
        "iou_mean": round(float(ratio.mean()), 4),
        "iou_5_percent": round(float(ratio.quantile(0.05)), 4),
        "iou_worst": round(float(ratio.min()), 4),
        "area_ratio": round(float(ours / theirs), 4),
    }


def run(params: "Params", test_set: str) -> None:
    """Compare the parsers on a test set; writes metrics/parser-SET.json."""
    compute = Compute.resolve(params.device, params.precision, params.train.channels_last)
    with tracking.run(stage="evaluate_parser", params=params, instance=test_set) as tracked:
        network = SmallParser(params.parser.input_size, params.parser.width)
        parser = load_weights(network, Path("models/parser.safetensors")).prepare_for_inference(compute)
        result = measure(parser, compute, ClipStore(), test_set)
        tracked.metrics({k: float(v) for k, v in result.items()})
        write_json(Path("metrics") / f"parser-{test_set}.json", result)
