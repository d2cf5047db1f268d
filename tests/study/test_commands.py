"""``head3d study`` from the command line: what it prints and writes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from head3d import cli
from head3d.report.table2 import name as title
from head3d.study import votes
from head3d.study.plan import BROKEN, OURS, TRUTH
from head3d.study.session import Answer
from head3d.study.store import Study

from .conftest import METHODS, rows_of, sides


def answer(study: Study, careless: int | None = None) -> Counter[tuple[str, bool]]:
    """Everybody answers by chance, the truth in checks but for the careless; (method, Head3D was chosen), counted."""
    draw = random.Random(4)
    clicked: Counter[tuple[str, bool]] = Counter()
    for (rater, item), (left, right) in sides(study).items():
        check, choice = BROKEN in (left, right), draw.choice(["left", "right"])
        if check:
            truth = "left" if left == TRUTH else "right"
            choice = {"left": "right", "right": "left"}[truth] if rater == careless else truth
        elif rater != careless:
            clicked[right if left == OURS else left, (left if choice == "left" else right) == OURS] += 1
        study.keep(rater, Answer(item, "overall", choice, 1.0))
    return clicked


def test_percentages_are_what_was_clicked(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clicked = answer(study)
    out, cast = tmp_path / "t" / "table2.csv", tmp_path / "votes.csv"
    assert cli.main(["study", "results", str(study.folder), "--out", str(out), "--votes", str(cast)]) == 0
    rows = rows_of(out)
    assert set(rows) == {title(method) for method in METHODS[1:]}
    for method in METHODS[1:]:
        won, lost = clicked[method, True], clicked[method, False]
        row = rows[title(method)]
        assert (row["votes"], row["wins"]) == (won + lost, won)
        assert row["win_percent"] == pytest.approx(100 * won / (won + lost), abs=1e-3)
        assert row["wilson_low"] < row["win_percent"] < row["wilson_high"] or won in (0, won + lost)
        assert (row["checks"], row["checks_failed"], row["raters_left_out"]) == (4, 0, 0)
    fomm = rows["FOMM"]
    assert (fomm["paper_dataset"], fomm["paper_win_percent"], fomm["paper_lose_percent"]) == ("VoxCeleb", 72, 28)
    printed = capsys.readouterr().out
    assert f"{study.folder}: rater 2, 8 of 8 answered" in printed and "72 / 28 (VoxCeleb)" in printed
    assert (tmp_path / "t" / "table2_strengths.csv").is_file()
    assert len(votes.read(cast)) == 16


def test_a_careless_rater_is_left_out(study: Study, tmp_path: Path) -> None:
    clicked = answer(study, careless=2)
    assert cli.main(["study", "results", str(study.folder), "--out", str(tmp_path / "t.csv")]) == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["votes"].sum() == sum(clicked.values()) == 6
    assert set(table["checks_failed"]) == {2} and set(table["raters_left_out"]) == {1}
    assert table["bootstrap_low"].isna().all()  # one rater says nothing on others


def test_no_votes_yet(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "results", str(study.folder), "--out", str(tmp_path / "t.csv")]) == 0
    printed = capsys.readouterr().out
    assert "No votes yet" in printed and printed.count("| no votes |") == 4 and "80 / 20 (VoxCeleb)" in printed
    table = pd.read_csv(tmp_path / "t.csv")
    assert (table["votes"] == 0).all() and table["win_percent"].isna().all()


def test_build_says_what_it_made(videos: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "build", str(videos), "--out", "s", "--raters", "3", "--per-rater", "2", "--against", "fomm"]
    assert cli.main([*words, "--criteria", "realism", "motion", "realism"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "s: 3 raters, 8 questions each; next: head3d study serve s\n"
    assert Study("s").criteria == ("realism", "motion")
    assert printed.err == ""  # no progress bar where nobody looks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["results", "STUDY", "--out", "t.txt"], "--out t.txt: no csv file; name it t.csv"),
        (["results", "STUDY", "--votes", "v"], "--votes v: no csv file; name it v.csv"),
        (["results", "nowhere"], "nowhere: no study there"),
        (["results", "STUDY", "--out", "/proc/t.csv"], "cannot be written"),
        (["serve", "nowhere"], "nowhere: no study there"),
        (["build", "nowhere", "--out", "s"], "nowhere/pairs.csv: no such file"),
    ],
)
def test_errors_are_one_line(
    study: Study, in_tmp: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["study", *(str(study.folder) if word == "STUDY" else word for word in words)]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
