"""The driving loop is timed with the networks that are there, or refused in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from head3d.bench import loop
from head3d.data import video
from head3d.data.footage import Footage
from head3d.errors import UserError
from head3d.params import Params
from whole_frames import whole_frames


def test_without_trained_networks_it_is_one_line(tiny: Params, in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"models: no geometry\.safetensors"):
        next(loop.rows(tiny, 1))


def test_every_part_has_its_row(
    tiny: Params, models: Path, in_tmp: Path, heads_in_the_middle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models, "models")
    video.write_video(Path("person.mp4"), (np.full((64, 64, 3), 20 * i, np.uint8) for i in range(9)), fps=25)
    monkeypatch.setattr(loop, "fetch", lambda name: Path("person.mp4"))
    monkeypatch.setattr(loop, "rate", lambda work: work())

    def whole_frame(path: Path, params: Params, **_: object) -> Footage:
        info = video.probe(path)
        return whole_frames(path, info)

    for module in ("head3d.data.footage", "head3d.bench.loop"):
        monkeypatch.setattr(f"{module}.survey", whole_frame)
    first, *parts = list(loop.rows(tiny, 1))
    assert (first.unit, first.value, first.plain_value) == ("frames/s", loop.FRAMES, loop.FRAMES)
    assert len(parts) == 7
    assert all(row.unit == "ms" and row.value > 0 for row in parts)
    assert {row.scale for row in (first, *parts)} == {"smoke"}
