"""The table of the benchmark: ratios the right way round, and new rows in the place of old ones."""

import csv
from pathlib import Path

import pytest

from head3d.bench.rows import Row, in_turns, keep


def test_a_ratio_says_how_many_times_as_fast() -> None:
    assert Row("p", "w", "fast", 2.0, "ms", "plain", 6.0).ratio == 3.0
    assert Row("p", "w", "fast", 6.0, "frames/s", "plain", 2.0).ratio == 3.0
    assert Row("p", "w", "alone", 6.0, "ms").ratio is None
    line = Row("p", "what", "fast", 2.0, "ms", "plain", 6.0, gflop=12.0, share=0.25).line()
    assert "3.00x plain, 6" in line and "12 GFLOP" in line and "25 % of the peak" in line


def test_pairs_are_timed_in_turns() -> None:
    calls: list[str] = []
    in_turns(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3)
    assert calls == ["a", "b"] * 4  # the first of each warms up


def test_what_is_measured_again_takes_the_place_of_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"machine": "one", "threads": "2", "type": "float32", "torch": "2", "date": "2026-01-01"}
    monkeypatch.setattr("head3d.bench.rows.machine", lambda: about)
    table = tmp_path / "bench.csv"
    keep([Row("p", "w", "", 1.0, "ms"), Row("p", "v", "", 5.0, "ms", "plain", 10.0)], table)
    keep([Row("p", "w", "", 2.0, "ms")], table)
    about["machine"] = "two"
    keep([Row("p", "w", "", 3.0, "ms")], table)
    with table.open(newline="") as file:
        rows = {(row["machine"], row["what"]): row for row in csv.DictReader(file)}
    assert {key: float(row["value"]) for key, row in rows.items()} == {
        ("one", "w"): 2,
        ("one", "v"): 5,
        ("two", "w"): 3,
    }
    assert rows["one", "v"]["ratio"] == "2" and rows["one", "w"]["ratio"] == ""
