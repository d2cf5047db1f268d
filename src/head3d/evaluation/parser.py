"""How near the small parser's head masks come to the face parser's, on a test set."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from head3d import tracking
from head3d.compute import Compute
from head3d.data.boxes import between, detection_indices
from head3d.data.store import ClipStore, write_json
from head3d.images import mask_tensor
from head3d.models.head_masks import Parser, head_masks
from head3d.models.small_parser import SmallParser, soft_iou
from head3d.training.weights import load_weights

if TYPE_CHECKING:
    from head3d.params import Params


def measure(
    parser: Parser, store: ClipStore, test_set: str, *, rim: float, looked_every: int
) -> dict[str, float | int]:
    """Intersection over union of the two parsers' masks, cut at a half, over all frames of a test set.

    The head is shown much as to ``head3d animate``, which looks for the face in some frames only; the clips' landmarks
    are smoother than those that it finds. Every frame has a head to compare: the manifest takes no clip in which the
    face parser misses one.

    Args:
        parser: the small one.
        store: of the clips.
        test_set: which of them.
        rim: taken off the heads, as off those of the face parser.
        looked_every: frames between two whose landmarks are known.

    Raises:
        UserError: the test set is empty.
    """
    records = store.split(test_set)
    found, areas = [], []
    for record in records:
        frames, masks = store.views(record)
        points = between_looks(store.landmarks(record), looked_every)
        said, wanted = mask_tensor(head_masks(frames, parser, points, rim=rim)), mask_tensor(masks)
        found.append(soft_iou((said >= 0.5).float(), (wanted >= 0.5).float()))
        areas.append(torch.stack((said.sum(), wanted.sum())).double())
    ratio, (ours, theirs) = torch.cat(found).double(), torch.stack(areas).sum(dim=0)
    return {
        "n_clips": len(records),
        "n_frames": len(ratio),
        "iou_mean": round(float(ratio.mean()), 4),
        "iou_5_percent": round(float(ratio.quantile(0.05)), 4),
        "iou_worst": round(float(ratio.min()), 4),
        "area_ratio": round(float(ours / theirs), 4),
    }


def between_looks(points: np.ndarray, every: int) -> np.ndarray:
    """Landmarks ``(T, 68, 2)`` as they are known where a clip is looked at in every ``every``-th frame and the last."""
    looks = np.array(detection_indices(len(points), every))
    seen = looks[np.isfinite(points[looks]).all(axis=(1, 2))]
    return between(seen, points[seen], np.arange(len(points))) if len(seen) else np.array(points)


def run(params: "Params", test_set: str) -> None:
    """Compare the parsers on a test set; writes metrics/parser-SET.json."""
    compute = Compute.resolve(params.device, params.precision, params.train.channels_last)
    with tracking.run(stage="evaluate_parser", params=params, instance=test_set) as tracked:
        network = SmallParser(params.parser.input_size, params.parser.width)
        parser = load_weights(network, Path("models/parser.safetensors")).prepare_for_inference(compute)
        every = params.data.crop.detect_every
        result = measure(parser, ClipStore(), test_set, rim=params.parse.rim, looked_every=every)
        tracked.metrics({k: float(v) for k, v in result.items()})
        write_json(Path("metrics") / f"parser-{test_set}.json", result)
