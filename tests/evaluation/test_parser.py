"""The small parser against the face parser, with masks whose overlap is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from head3d.data.store import ClipStore
from head3d.errors import UserError
from head3d.evaluation import parser
from head3d.models.small_parser import SmallParser
from head3d.params import Params
from head3d.training.weights import save_weights


def told(store: ClipStore, masks: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, float | int]:
    """What is measured of a parser that says these masks of the only clip of a test set."""

    def head_masks(frames: np.ndarray, asked: object, points: np.ndarray, *, rim: float) -> np.ndarray:
        assert (asked, rim, len(frames), len(points)) == ("small", 0.01, len(masks), len(masks))
        return masks

    monkeypatch.setattr(parser, "head_masks", head_masks)
    return parser.measure("small", store, "mini-seen", rim=0.01, looked_every=5)  # type: ignore[arg-type]


def shifted(store: ClipStore, by: int) -> np.ndarray:
    """What the face parser said, some pixels farther right."""
    (record,) = store.records("mini-seen")
    return np.roll(store.masks(record), by, axis=-1)


def test_the_same_masks_overlap_wholly(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(store, shifted(store, 0), monkeypatch)
    assert found == {
        "n_clips": 1, "n_frames": 8, "iou_mean": 1.0, "iou_5_percent": 1.0, "iou_worst": 1.0, "area_ratio": 1.0
    }  # fmt: skip


def test_a_shifted_disc(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two discs of radius r whose centres are d apart share 2 r^2 acos(d / 2r) - d / 2 sqrt(4 r^2 - d^2)."""
    r, d = 20.0, 6.0
    shared = 2 * r**2 * np.arccos(d / (2 * r)) - d / 2 * np.sqrt(4 * r**2 - d**2)
    found = told(store, shifted(store, 6), monkeypatch)
    assert found["iou_mean"] == pytest.approx(shared / (2 * np.pi * r**2 - shared), abs=0.01)
    assert found["area_ratio"] == 1.0


def test_landmarks_are_known_where_animate_would_look() -> None:
    points = np.arange(12.0)[:, None, None] ** 2 * np.ones((1, 68, 2))
    points[10] = np.nan  # not found there
    known = parser.between_looks(points, 5)[:, 0, 0]
    assert np.allclose(known, [0, 5, 10, 15, 20, 25, 41, 57, 73, 89, 105, 121])
    assert np.isnan(parser.between_looks(np.full((12, 68, 2), np.nan), 5)).all()


def test_an_empty_test_set_is_one_line(store: ClipStore, tiny: Params) -> None:
    network = SmallParser(tiny.parser.input_size, tiny.parser.width)
    with pytest.raises(UserError, match="no clip in the split 'mini-unseen'"):
        parser.measure(network, store, "mini-unseen", rim=0, looked_every=5)


def test_the_stage(store: ClipStore, tiny: Params, in_tmp: Path) -> None:
    Path("data").symlink_to(store.root)
    save_weights(SmallParser(tiny.parser.input_size, tiny.parser.width), Path("models/parser.safetensors"), {})
    parser.run(tiny, "mini-seen")
    found = json.loads(Path("metrics/parser-mini-seen.json").read_text())
    assert found["n_frames"] == 8
    assert 0 <= found["iou_worst"] <= found["iou_mean"] <= 1


def test_a_head_that_is_missed_once_is_the_worst_frame(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven frames of one and a nought; of eight, 5 % lie 0.35 of the way from the lowest to the next."""
    masks = shifted(store, 0)
    masks[3] = 0
    found = told(store, masks, monkeypatch)
    assert (found["iou_mean"], found["iou_5_percent"], found["iou_worst"]) == (0.875, 0.35, 0)
    assert found["area_ratio"] == 0.875
