"""How cost grows: memory that is counted grows with the work, and a picture is drawn of what the table holds."""

from pathlib import Path

import pytest
from PIL import Image

from forked import Forked
from head3d.bench import growth
from head3d.bench.rows import Row, keep, read_table
from head3d.params import Params


def test_memory_of_tensors_grows_as_the_work_does(tiny: Params) -> None:
    few, many = (growth.references(tiny, count, 1) for count in (4, 8))
    assert min(few[0], many[0]) > 0
    assert 1.8 < many[1] / few[1] < 2.2
    small, large = (growth.size(tiny, side, 1) for side in (64, 128))
    assert 3.4 < large[1] / small[1] < 4.4


def test_memory_of_a_process_is_seen(in_tmp: Path) -> None:
    # In a process of its own, as every point is: one that has freed 80 MB before may take them again without growing.
    code = "from head3d.bench import growth\nprint(*growth.of_process(lambda: bytearray(80_000_000), 1))"
    seconds, memory = map(float, Forked(in_tmp, code).end().split())
    assert seconds > 0 and 70 < memory < 120


def test_clips_leave_nothing_behind(tiny: Params, in_tmp: Path) -> None:
    seconds, _ = growth.clips(tiny, 50, 1)
    assert 0 < seconds < 20
    assert list(in_tmp.iterdir()) == [] and Path.cwd() == in_tmp


def test_steepness() -> None:
    assert growth.steepness([1, 2, 4], [7, 5, 20]) == pytest.approx(2)


def test_the_picture(tiny: Params, in_tmp: Path) -> None:
    assert set(growth.CURVES) == {"references", "size", "length", "clips"}
    params = tiny.model_copy(update={"scale": "demo"})
    for of, slower in ((params, 1), (tiny, 10)):
        keep(
            Row("growth", curve.what, f"{x} {curve.against}", slower * 0.1 * x**curve.order, "s", memory_mb=2.0 * x,
                scale=curve.scale(of), on=curve.on(of))
            for curve in growth.CURVES.values()
            for x in curve.at
        )  # fmt: skip
    for name, curve in growth.CURVES.items():  # of params.yaml's scale alone, but for what is of none
        points = growth.points_of(curve, params, read_table())
        assert [x for x, _ in points] == list(curve.at)
        first = 0.1 * curve.at[0] ** curve.order * (10 if name == "clips" else 1)
        assert float(points[0][1]["value"]) == pytest.approx(first, rel=1e-3)
    growth.draw(params)
    with Image.open(growth.PICTURE) as picture:
        assert picture.width > 1000
        assert len(picture.getcolors(1 << 20) or []) > 20
