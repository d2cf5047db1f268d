"""The votes file, and whose votes count."""

from __future__ import annotations

from pathlib import Path

import pytest

from head3d.errors import UserError
from head3d.study import votes
from head3d.study.plan import BROKEN, OURS, TRUTH

ROOT = Path(__file__).resolve().parents[2]
HEAD = ",".join(votes.COLUMNS) + "\n"


def line(rater: object, item: object, left: str, right: str, choice: str, study: str = "s") -> str:
    return f"{study},{rater},{item},seen,p0,overall,{left},{right},{choice},1.5\n"


def test_winners_whatever_the_side() -> None:
    text = (
        HEAD + line(1, 1, OURS, "fomm", "left") + line(1, 2, "fomm", OURS, "right") + line(1, 3, "fomm", OURS, "left")
    )
    text += line(1, 4, "mraa", "fomm", "left")  # two others: by name
    compared, raters = votes.sort_out(votes.parse([text], "votes"))
    assert compared[["first", "second", "win"]].values.tolist() == [
        [OURS, "fomm", True], [OURS, "fomm", True], [OURS, "fomm", False], ["fomm", "mraa", False]]  # fmt: skip
    assert raters.to_dict("records") == [{"rater": "s/1", "votes": 4, "checks": 0, "failed": 0, "counts": True}]


def test_who_fails_more_than_a_quarter_of_the_checks_does_not_count() -> None:
    text = HEAD
    for rater, failed in [(1, 0), (2, 1), (3, 2)]:
        text += line(rater, 1, OURS, "fomm", "left")
        for number in range(4):
            sides = (BROKEN, TRUTH) if number % 2 else (TRUTH, BROKEN)
            wrong = number < failed
            text += line(rater, 2 + number, *sides, "left" if (sides[0] == BROKEN) == wrong else "right")
    compared, raters = votes.sort_out(votes.parse([text], "votes"))
    assert raters["failed"].tolist() == [0, 1, 2]
    assert raters["counts"].tolist() == [True, True, False]
    assert compared["rater"].tolist() == ["s/1", "s/2"]


def test_pairs_of_other_videos_are_other_pairs() -> None:
    """The part of a study's digest before the dash is of its videos."""
    texts = [HEAD + line(1, 1, OURS, "fomm", "left", study) for study in ("one-a", "one-b", "two-c")]
    compared, _ = votes.sort_out(votes.parse(texts, "three"))
    assert compared["pair"].tolist() == ["one/p0", "one/p0", "two/p0"]
    assert compared["rater"].nunique() == 3


def test_raters_of_two_studies_are_different_people() -> None:
    texts = [HEAD + line(1, 1, OURS, "fomm", "left", study) for study in ("a", "b")]
    compared, _ = votes.sort_out(votes.parse(texts, "two"))
    assert compared["rater"].tolist() == ["a/1", "b/1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no votes file"),
        ("study,rater\n1,2\n", "no column item, dataset, pair"),
        (HEAD + line(1, 1, OURS, "fomm", "both"), "choice is 'both'; allowed: left or right"),
        (HEAD + line(1, 1, OURS, "fomm", ""), "choice is ''"),
        (HEAD + 2 * line(1, 1, OURS, "fomm", "left"), "rater 1, item 1 comes twice; keep each study once"),
        (HEAD + "a,b,c\n" + "x," * 30 + "\n", "no votes file"),
    ],
)
def test_wrong_files_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        votes.read(path)
    assert f"{path}: " in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; put the line study,rater,item"):
        votes.read(tmp_path / "votes.csv")
    (tmp_path / "votes.csv").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="cannot be read"):
        votes.read(tmp_path / "votes.csv")


def test_the_committed_file_can_be_read() -> None:
    compared, _ = votes.sort_out(votes.read(ROOT / "study" / "votes.csv"))
    assert list(compared.columns) == ["rater", "dataset", "pair", "criterion", "first", "second", "win"]
    assert votes.sort_out(votes.none())[0].empty
