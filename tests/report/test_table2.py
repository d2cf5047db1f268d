"""Table 2 from no votes, and from votes counted by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from head3d.params import Params
from head3d.report import columns, html_tables, names, paper, table2, tables
from head3d.study import votes
from head3d.study.plan import BROKEN, OURS, TRUTH

BASELINES = ["FOMM", "MRAA", "DaGAN", "FaceV2V"]
# The paper's Table 2, written out once more.
PRINTED = {"mini-seen": [72, 57, 80, 53], "mini-unseen": [68, 59, 86, 54]}


def cast(*lines: tuple[int, str, str, str, str]) -> pd.DataFrame:
    """Votes: (rater, pair, left, right, choice) on mini-seen."""
    rows = [
        f"one,{rater},{item},mini-seen,{pair},overall,{left},{right},{choice},2"
        for item, (rater, pair, left, right, choice) in enumerate(lines)
    ]
    return votes.parse(["\n".join([",".join(votes.COLUMNS), *rows])], "votes")


FEW = cast(
    (1, "p0", OURS, "fomm", "left"), (1, "p1", "fomm", OURS, "right"), (1, "p0", TRUTH, BROKEN, "left"),
    (2, "p0", "fomm", OURS, "right"), (2, "p1", OURS, "fomm", "right"), (2, "p0", BROKEN, TRUTH, "right"),
    (3, "p0", OURS, "fomm", "left"), (3, "p1", OURS, "fomm", "right"), (3, "p0", TRUTH, BROKEN, "right"),
)  # fmt: skip


@pytest.fixture
def folder(params: Params, made_up: SimpleNamespace) -> Path:
    tables.make(params, made_up.metrics, made_up.reports)
    return made_up.reports / "tables"


def test_without_votes_it_says_so_beside_the_papers_numbers(folder: Path) -> None:
    table = pd.read_csv(folder / "table2.csv")
    assert list(table.columns) == list(columns.PREFERENCES)
    for dataset, printed in PRINTED.items():
        rows = table[table["dataset"] == dataset]
        assert rows["against"].tolist() == BASELINES
        assert rows["paper_win_percent"].tolist() == printed
        assert rows["paper_lose_percent"].tolist() == [100 - percent for percent in printed]
    measured = ["win_percent", "wilson_low", "wilson_high", "bootstrap_low", "bootstrap_high", "agreement", "alpha"]
    assert table[measured].isna().all(axis=None)
    assert (table[["votes", "wins", "raters", "pairs", "checks", "checks_failed"]] == 0).all(axis=None)
    for name in ("table2.md", "table2.tex"):
        text = (folder / name).read_text()
        assert text.count("no votes") == 8 and "No votes yet" in text and "72 / 28 (VoxCeleb)" in text
    assert len(pd.read_csv(folder / "table2_strengths.csv")) == 0


def test_votes_counted_by_hand(params: Params, tmp_path: Path) -> None:
    table2.write(params, FEW, tmp_path)
    rows = {(row["dataset"], row["against"]): row for row in pd.read_csv(tmp_path / "table2.csv").to_dict("records")}
    row = rows["mini-seen", "FOMM"]
    # Rater 3 failed the check: what is left is 2 of 2 and 1 of 2.
    assert (row["votes"], row["wins"], row["raters"], row["pairs"]) == (4, 3, 2, 2)
    assert (row["checks"], row["checks_failed"], row["raters_left_out"]) == (3, 1, 1)
    assert row["win_percent"] == 75
    # In a sixteenth of the resamples, rater 2 and the pair that they gave to the other.
    assert (row["bootstrap_low"], row["bootstrap_high"]) == (0, 100)
    assert (row["wilson_low"], row["wilson_high"]) == pytest.approx((30.064, 95.442), abs=1e-3)
    # Both agree on p0 and not on p1: 1 - 3 * 1 / (3 * 1).
    assert (row["agreement"], row["alpha"]) == (0.5, 0)
    assert rows["mini-seen", "MRAA"]["votes"] == 0
    text = (tmp_path / "table2.md").read_text()
    assert "| 75.0 / 25.0 |" in text and "No votes yet" not in text and "study one" in text
    assert text.count("no votes") == 7
    latex = (tmp_path / "table2.tex").read_text()
    assert latex.isascii() and latex.count("{") == latex.count("}")


def test_criteria_and_methods_that_nobody_listed_follow(params: Params) -> None:
    more = FEW.assign(criterion="motion", study="two", left=FEW["left"].replace("fomm", "dream"))
    more["right"] = more["right"].replace("fomm", "dream")
    table = table2.build_table(pd.concat([more, FEW]), 100, 0, [("mini-seen", "overall", "mraa")])
    rows = table[["criterion", "against"]].values.tolist()
    assert rows == [["overall", "MRAA"], ["overall", "FOMM"], ["motion", "dream"]]
    assert math.isnan(table["paper_win_percent"].iloc[2])  # the paper asked one question


def test_votes_on_a_variant_are_latex_that_compiles(params: Params, tmp_path: Path) -> None:
    some = cast((1, "p0", OURS, "mean_canonical", "left"), (1, "p1", "no_head", OURS, "right"))
    table2.write(params, some, tmp_path)
    text = (tmp_path / "table2.tex").read_text()
    assert text.isascii() and text.count("^") == text.count(r"$\bar{x}^c$") == 1
    assert r"& Head3D w/o $\hat{x}_{\mathrm{dri}}$ &" in text
    assert names.escape_tex("a^b~c{d}\\") == r"a\textasciicircum{}b\textasciitilde{}c\{d\}\textbackslash{}"


def test_strengths_of_all_methods() -> None:
    """Head3D beats FOMM three to one, FOMM beats MRAA three to one."""
    lines = [(rater, f"p{n}", OURS, "fomm", "left" if n else "right") for rater in (1, 2) for n in range(4)]
    lines += [(rater, f"p{n}", "mraa", "fomm", "right" if n else "left") for rater in (1, 2) for n in range(4)]
    found = table2.strengths(cast(*lines), 50, 0)
    assert found["method"].tolist() == ["Head3D", "FOMM", "MRAA"]
    assert found["strength"].tolist() == pytest.approx([0, -math.log(3), -2 * math.log(3)], abs=1e-6)
    # In every third resample p0 is not drawn, and FOMM beats nobody.
    assert found[["strength_low", "strength_high"]].isna().all(axis=None)
    assert found["votes"].tolist() == [8, 16, 8]


def test_on_the_page(params: Params, folder: Path, tmp_path: Path) -> None:
    text = html_tables.preferences(folder / "table2.csv", params)
    assert text.count("no votes") == 8 and "No votes yet" in text and "53 / 47" in text
    assert "paper's column: FaceForensics" in text
    table2.write(params, FEW, tmp_path)
    text = html_tables.preferences(tmp_path / "table2.csv", params)
    assert "75.0 / 25.0" in text and "No votes yet" not in text and "0.0 to 100.0" in text and "1 of 3" in text


def test_every_number_of_the_paper_is_of_a_baseline() -> None:
    assert all(sorted(row) == ["dagan", "facev2v", "fomm", "mraa"] for row in paper.TABLE2.values())


def test_checks_are_counted_in_their_own_set() -> None:
    both = pd.concat([FEW, FEW.assign(study="two", dataset="mini-unseen")])
    rows = [(name, "overall", "fomm") for name in ("mini-seen", "mini-unseen")]
    table = table2.build_table(both, 100, 0, rows)
    assert table[["checks", "checks_failed", "raters_left_out"]].values.tolist() == [[3, 1, 1]] * 2


def test_agreement_is_over_pairs_and_intervals_over_raters_and_pairs() -> None:
    """Three raters of one opinion: Head3D on p0, FOMM on p1."""
    lines = [
        (rater, pair, OURS, "fomm", side) for rater in (1, 2, 3) for pair, side in (("p0", "left"), ("p1", "right"))
    ]
    row = table2.build_table(cast(*lines), 100, 0).iloc[0]
    assert (row["votes"], row["wins"], row["raters"], row["pairs"]) == (6, 3, 3, 2)
    assert (row["agreement"], row["alpha"]) == (1, 1)
    assert (row["bootstrap_low"], row["bootstrap_high"]) == (0, 100)  # either pair is drawn alone in a quarter
