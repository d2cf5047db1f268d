"""The small parser against the face parser, with masks whose overlap is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from head3d.compute import Compute
from head3d.data.store import ClipStore
from head3d.errors import UserError
from head3d.evaluation import parser
from head3d.models.small_parser import SmallParser
from head3d.params import Params
from head3d.training.weights import save_weights


class Shifted:
    """Says what the face parser said, some pixels farther right."""

    def __init__(self, masks: np.ndarray, by: int) -> None:
        self.masked = torch.from_numpy(np.roll(masks, by, axis=-1))[:, None].float() / 255

    def masks(self, images: torch.Tensor) -> torch.Tensor:
        assert float(images.max()) <= 1
        return self.masked


def measure(store: ClipStore, by: int) -> dict[str, float | int]:
    (record,) = store.records("mini-seen")
    told = Shifted(store.masks(record), by)
    return parser.measure(told, Compute.resolve("cpu", "float32"), store, "mini-seen")  # type: ignore[arg-type]


def test_the_same_masks_overlap_wholly(store: ClipStore) -> None:
    found = measure(store, 0)
    assert found == {
        "n_clips": 1, "n_frames": 8, "iou_mean": 1.0, "iou_5_percent": 1.0, "iou_worst": 1.0, "area_ratio": 1.0
    }  # fmt: skip


def test_a_shifted_disc(store: ClipStore) -> None:
    """Two discs of radius r whose centres are d apart share 2 r^2 acos(d / 2r) - d / 2 sqrt(4 r^2 - d^2)."""
    r, d = 20.0, 6.0
    shared = 2 * r**2 * np.arccos(d / (2 * r)) - d / 2 * np.sqrt(4 * r**2 - d**2)
    found = measure(store, 6)
    assert found["iou_mean"] == pytest.approx(shared / (2 * np.pi * r**2 - shared), abs=0.01)
    assert found["area_ratio"] == 1.0


def test_an_empty_test_set_is_one_line(store: ClipStore, tiny: Params) -> None:
    network = SmallParser(tiny.parser.input_size, tiny.parser.width)
    with pytest.raises(UserError, match="no clip in the split 'mini-unseen'"):
        parser.measure(network, Compute.resolve("cpu", "float32"), store, "mini-unseen")


def test_the_stage(store: ClipStore, tiny: Params, in_tmp: Path) -> None:
    Path("data").symlink_to(store.root)
    save_weights(SmallParser(tiny.parser.input_size, tiny.parser.width), Path("models/parser.safetensors"), {})
    parser.run(tiny, "mini-seen")
    found = json.loads(Path("metrics/parser-mini-seen.json").read_text())
    assert found["n_frames"] == 8
    assert 0 <= found["iou_worst"] <= found["iou_mean"] <= 1


def test_a_head_that_is_missed_once_is_the_worst_frame(store: ClipStore) -> None:
    """Seven frames of one and a nought; of eight, 5 % lie 0.35 of the way from the lowest to the next."""
    (record,) = store.records("mini-seen")
    masks = store.masks(record).copy()
    masks[3] = 0
    told = Shifted(masks, 0)
    found = parser.measure(told, Compute.resolve("cpu", "float32"), store, "mini-seen")  # type: ignore[arg-type]
    assert (found["iou_mean"], found["iou_5_percent"], found["iou_worst"]) == (0.875, 0.35, 0)
    assert found["area_ratio"] == 0.875
