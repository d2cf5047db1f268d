"""Made-up metrics for the tests of the report: real code writes and reads them, no number means anything."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from head3d.params import Params, load_params

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "floors": ["copy", "copy_last", "paste"],
    "full": ["head3d", "head3d_n1", "head3d_n3", "head3d_n10"],
    "mean_canonical": ["head3d_mean_canonical"],
    "no_head": ["head3d_no_head"],
    "no_skip": ["head3d_no_skip"],
    "no_matching": ["head3d_no_matching"],
    **{name: [name] for name in ("fomm", "mraa", "dagan", "facev2v")},
}
LEVELS = {"copy": 0.010, "copy_last": 0.008, "paste": 0.006, "head3d": 0.002}
CLIPS = {"mini-seen": ["cap-0", "franck-0", "wolfgang-0"], "mini-unseen": ["carphone-0", "single-0"]}


@pytest.fixture
def params() -> Params:
    """The committed parameters with the paper's lists, whatever scale is committed now."""
    found = load_params(ROOT / "params.yaml")
    return found.model_copy(
        update={
            "scale": "demo",
            "test_sets": tuple(CLIPS),
            "variants": ("full", "mean_canonical", "no_head", "no_skip", "no_matching"),
            "baselines": ("fomm", "mraa", "dagan", "facev2v"),
            "model": found.model.model_copy(update={"references": 5}),
        }
    )


SIZE, LENGTH = 64, 8  # of the made-up clips: pixels and frames, as in the fixture tiny


def write_metrics(folder: Path) -> None:
    """Every file that the report reads from metrics/."""
    (folder / "reconstruction").mkdir(parents=True)
    (folder / "curves").mkdir()
    for test_set, clips in CLIPS.items():
        for name, methods in FILES.items():
            rows = [
                {"dataset": test_set, "method": method, "draw": draw, "clip_id": clip, "n_frames": 20,
                 "mse_01": value, "mse_pm1": 4 * value, "lpips_alex": 10 * value, "lpips_vgg": 20 * value}
                for method in methods
                for number, clip in enumerate(clips)
                for draw in range(2)
                for value in [LEVELS.get(method, 0.003) * (1 + number) * (0.9 + 0.2 * draw)]
            ]  # fmt: skip
            pd.DataFrame(rows).to_csv(folder / "reconstruction" / f"{test_set}-{name}.csv", index=False)
        write_cross(folder / "cross" / f"{test_set}.csv", test_set)
        geometry = {"n_clips": len(clips), "n_frames": 40, "yaw_correlation": 0.9, "head_mse_stage1": 0.003}
        (folder / f"geometry-{test_set}.json").write_text(json.dumps(geometry))
        parser = {"n_clips": len(clips), "n_frames": 40, "iou_mean": 0.9625, "iou_worst": 0.875}
        (folder / f"parser-{test_set}.json").write_text(json.dumps(parser))
    stages = ["geometry", "canonical", "matching", "fusion-full", "fusion-no_head", "parser"]
    stages += [f"baseline-{name}" for name in ("fomm", "mraa", "dagan", "facev2v")]
    for stage in stages:
        steps = np.arange(0, 100, 10)
        rows = [
            {"step": step, "epoch": step // 50, "name": name, "value": np.exp(-step / 50) + 0.1}
            for name in ("loss", "perceptual")
            for step in steps
        ]
        pd.DataFrame(rows).to_csv(folder / "curves" / f"train_{stage}.csv", index=False)


PAIRS = ("p00", "p01")
ACROSS = ("driving", "copy", "paste", "fomm", "mraa", "dagan", "facev2v", "head3d")


def write_cross(path: Path, test_set: str) -> None:
    """Measures of two pairs: 1 and 3, of Head3D half of it; ghosts of paste and Head3D only."""
    from head3d.evaluation.cross_measure import COLUMNS
    from head3d.evaluation.measures import GHOSTS, MEASURES

    rows = []
    for number, pair in enumerate(PAIRS):
        for method in ACROSS:
            value = (1 + 2 * number) * (0.5 if method == "head3d" else 1.0)
            about = {"dataset": test_set, "method": method, "pair": pair, "subject_clip": CLIPS[test_set][number]}
            about |= {"driving_clip": CLIPS[test_set][1 - number], "n_frames": LENGTH, "n_found": LENGTH}
            measured = {name: value for name in MEASURES if name != GHOSTS or method in ("paste", "head3d")}
            rows.append(about | measured)
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(path, index=False)


@pytest.fixture
def made_up(tmp_path: Path) -> SimpleNamespace:
    """Folders ``metrics`` (filled) and ``reports`` (not yet there)."""
    write_metrics(tmp_path / "metrics")
    return SimpleNamespace(metrics=tmp_path / "metrics", reports=tmp_path / "reports")


def disc(size: int = SIZE) -> np.ndarray:
    """A head-like mask, uint8 (size, size)."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    return (((x / 0.5) ** 2 + (y / 0.7) ** 2 < 1) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up clips: every clip of ``CLIPS``, one of training, one that was left out."""
    from head3d.data.store import COLUMNS, ClipRecord, write_records

    root = tmp_path_factory.mktemp("data")
    names = [("cap-train", "train"), *((clip, test_set) for test_set, clips in CLIPS.items() for clip in clips)]
    rng = np.random.default_rng(0)
    (root / "clips" / "shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    ramp = np.linspace(0, 1, SIZE)[:, None, None] + rng.random((len(names), LENGTH, 1, SIZE, 3)) * 0.2
    pixels = (ramp / 1.2 * 255).astype(np.uint8)
    np.save(root / "clips" / "shard-0" / "frames.npy", pixels)
    points = rng.uniform(0, SIZE, (len(names), LENGTH, 68, 2)).astype(np.float32)
    points[0, 0, :5] = np.nan
    np.save(root / "clips" / "shard-0" / "landmarks.npy", points)
    np.save(root / "masks" / "shard-0.npy", np.broadcast_to(disc(), (len(names), LENGTH, SIZE, SIZE)))

    def record(clip: str, split: str, row: int, status: str = "ok") -> ClipRecord:
        person = clip.partition("-")[0]
        known = {"clip_id": clip, "shard": 0, "row": row, "source": "mini", "video": person, "person": person,
                 "start_frame": 0, "fps": 25.0, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0, "status": status,
                 "split": split}  # fmt: skip
        return ClipRecord(**{name: known.get(name, "0" * 64) for name in COLUMNS})

    records = [record(clip, split, row) for row, (clip, split) in enumerate(names)]
    write_records(root / "manifest.csv", [*records, record("cap-bad", "unused", -1, "a cut")])
    write_videos(root)
    return root


def write_videos(root: Path) -> None:
    """What every method makes of two pairs of each test set: frames of one grey, 10, 20, ... by method."""
    from head3d.evaluation.pairs import Pair, folder_of, write

    for test_set, clips in CLIPS.items():
        folder = folder_of(test_set, root)
        write(folder / "pairs.csv", [Pair(pair, test_set, clips[n], clips[1 - n]) for n, pair in enumerate(PAIRS)])
        for number, method in enumerate(("copy", "paste", *ACROSS[3:-1], "full")):
            (folder / method).mkdir()
            for pair in PAIRS:
                frames = np.full((LENGTH, SIZE, SIZE, 3), 10 + 10 * number, np.uint8)
                np.savez_compressed(folder / method / f"{pair}.npz", frames=frames)
