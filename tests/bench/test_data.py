"""What ``head3d bench data`` measures, on a short video and a small store; nothing of its speed."""

from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from head3d.assets.cache import fetch
from head3d.bench import data
from head3d.data import video
from head3d.params import Params, load_params


@pytest.fixture
def demo() -> Params:
    return load_params(Path(__file__).parents[2] / "workflow/scales/demo.yaml")


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "rate", partial(data.rate, seconds=0))


@pytest.mark.slow
def test_from_a_video_to_clips(demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(data.VIDEO)
    info = video.probe(path)
    short = tmp_path / "short.mp4"
    video.write_video(short, islice(video.stream(path, info), 50), fps=info.fps)
    monkeypatch.setattr(data, "fetch", lambda name: short)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    rows = {row.what: row for row in data.from_video(demo)}
    assert set(rows) == {"video into memory", "a clip of frames in memory", "video to crops", "videos to clips"}
    assert rows["videos to clips"].way == "2 videos at a time"
    for row in rows.values():
        assert row.value > 0 and row.plain_value == rows["video to crops"].plain_value, row


def test_from_a_store(demo: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CLIPS", demo.fusion.batch_size)
    rows = list(data.from_store(demo))
    assert [row.what for row in rows[:2]] == ["clip store", "clip store"]
    assert [row.way for row in rows[2:]] == ["as tensors", "augmented too"]
    assert all(row.value > 0 for row in rows)
