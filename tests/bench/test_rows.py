"""The table of the benchmark: ratios the right way round, and new rows in the place of old ones."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from head3d.bench import commands
from head3d.bench.rows import COLUMNS, Row, in_turns, keep, read_table
from head3d.cli import main
from head3d.compute import Compute
from head3d.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


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
    monkeypatch.setattr("head3d.bench.rows.machine", lambda on: about)
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


def test_a_row_names_the_device_that_it_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU {device.index}")
    gpu = Compute(torch.device("cuda", 1), torch.bfloat16)
    keep([Row("p", "files", "", 1.0, "ms"), Row("p", "networks", "", 1.0, "ms", on=gpu)], tmp_path / "bench.csv")
    rows = {row["what"]: row for row in read_table(tmp_path / "bench.csv")}
    assert (rows["networks"]["machine"], rows["networks"]["type"]) == ("GPU 1", "bfloat16")
    assert "GPU" not in rows["files"]["machine"]


def test_scales_stand_beside_each_other(tmp_path: Path) -> None:
    table = tmp_path / "bench.csv"
    for scale, value in (("demo", 1.0), ("smoke", 2.0), ("smoke", 3.0)):
        keep([Row("p", "w", "", value, "ms", scale=scale)], table)
    assert {row["scale"]: row["value"] for row in read_table(table)} == {"demo": "1", "smoke": "3"}


def write(table: Path, columns: list[str], **values: str) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerow(dict.fromkeys(columns, "") | {"machine": "another"} | values)


def test_a_table_of_another_version_is_not_written_over(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table = Path("reports/bench.csv")
    table.parent.mkdir()
    write(table, [*COLUMNS, "watts"])
    before = table.read_bytes()
    with pytest.raises(UserError, match=r"bench\.csv: its columns are not .*; move the file away"):
        keep([Row("p", "w", "", 1.0, "ms")], table)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    monkeypatch.setattr(commands, "rows_of", lambda *_: pytest.fail("measured before the table was looked at"))
    assert main(["bench", "engines"]) == 2
    assert "move the file away" in capsys.readouterr().err
    assert table.read_bytes() == before
    table.write_bytes("Größe".encode("latin-1"))
    with pytest.raises(UserError, match=r"bench\.csv: no table that can be read \(.*; move it away"):
        read_table(table)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "0"], "--rounds is 0; allowed: 1 or more"),
        (["--steps", "-1"], "--steps is -1; allowed: 0 or more"),
        (["--batches", "2", "0"], "--batches is [2, 0]; allowed: 1 or more"),
        (["--sizes", "16"], "--sizes is [16]; allowed: 32 or more"),
    ],
)
def test_too_little_is_told_before_anything_is_measured(
    words: list[str], said: str, in_tmp: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["bench", "steps", *words]) == 2
    assert said in capsys.readouterr().err
