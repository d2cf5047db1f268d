"""The database: every answer once, whoever writes at the same time."""

from __future__ import annotations

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from head3d.errors import UserError
from head3d.study import store
from head3d.study.session import Answer
from head3d.study.store import DATABASE, Study, connect

from .conftest import given, sides


def test_the_first_answer_stays(study: Study) -> None:
    assert study.keep(1, Answer(3, "overall", "left", 2.5))
    assert not study.keep(1, Answer(3, "overall", "right", 1.0))
    assert study.keep(2, Answer(3, "overall", "right", None))  # another rater's third item
    assert given(study) == {(1, 3, "overall"): "left", (2, 3, "overall"): "right"}
    assert study.answered(1) == {(3, "overall")}
    assert [(rater.number, done, total) for rater, done, total in study.progress()] == [(1, 1, 8), (2, 1, 8)]


def test_answers_are_there_when_it_is_opened_again(study: Study) -> None:
    study.consent(2)
    study.keep(2, Answer(1, "overall", "left", None))
    again = Study(study.folder)
    assert again.answered(2) == {(1, "overall")}
    assert [rater.consented for rater in again.raters()] == [False, True]


def test_the_first_consent_stays(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in ("first", "second"):
        monkeypatch.setattr(store, "_now", lambda now=now: now)
        study.consent(1)
    with connect(study.folder / DATABASE) as database:
        assert database.execute("SELECT consented FROM rater").fetchall() == [("first",), (None,)]
        # FULL: what a browser was told is on the disk, whatever becomes of the machine.
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_write_at_once(study: Study) -> None:
    """Eight tabs of two raters answer everything in different orders: one of them is first at each question."""
    jobs = [
        (rater, item, ("left", "right")[(tab + item) % 2])
        for tab in range(4)
        for rater in (1, 2)
        for item in (study.items(rater) if tab % 2 else reversed(study.items(rater)))
    ]
    with ThreadPoolExecutor(8) as pool:
        firsts = list(
            pool.map(lambda job: Study(study.folder).keep(job[0], Answer(job[1], "overall", job[2], 1)), jobs)
        )
    assert sum(firsts) == 16
    won = {(rater, item, "overall"): choice for (rater, item, choice), first in zip(jobs, firsts, strict=True) if first}
    assert given(study) == won


def test_no_answer_without_a_question(study: Study) -> None:
    """What the session lets pass by mistake the database does not take."""
    for answer in (Answer(99, "overall", "left", None), Answer(1, "overall", "both", None)):
        with pytest.raises(sqlite3.IntegrityError):
            study.keep(1, answer)
    assert not given(study)


def test_an_unfinished_transaction_leaves_nothing(study: Study) -> None:
    def broken_off() -> None:
        with connect(study.folder / DATABASE) as database:
            database.execute("UPDATE rater SET consented = 'now'")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_off()
    assert not any(rater.consented for rater in study.raters())


def test_votes_name_the_methods_of_both_sides(study: Study) -> None:
    place = sides(study)[1, 4]
    study.keep(1, Answer(4, "overall", "right", 2.0))
    head, line = study.votes_csv().splitlines()
    assert head == "study,rater,item,dataset,pair,criterion,left,right,choice,seconds"
    cells = line.split(",")
    assert cells[:3] == [study.digest, "1", "4"]
    assert (cells[3], cells[5], *cells[6:]) == ("mini-seen", "overall", *place, "right", "2.0")


def test_links_cannot_be_guessed(study: Study) -> None:
    first, second = study.raters()
    assert study.rater(first.token) == first != study.rater(second.token)
    assert all(study.rater(wrong) is None for wrong in ("", "1", first.token[:-1], first.token.swapcase(), "' OR 1=1"))
    assert min(len(one.token) for one in (first, second)) >= 22  # 128 bits


def test_videos_are_found_by_item_and_place_only(study: Study) -> None:
    files = [study.video(1, 1, slot) for slot in ("subject", "driving", "left", "right")]
    assert all(file is not None and file.is_file() for file in files)
    assert len(set(files)) >= 3
    assert study.video(1, 1, "file") is study.video(1, 99, "left") is study.video(3, 1, "left") is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no study there; make one with head3d study build"),
        (lambda folder: (folder / DATABASE).write_bytes(b"text" * 999), "not the database of a study"),
        (lambda folder: (folder / DATABASE).write_bytes(b""), "not the database of a study"),
    ],
)
def test_what_is_no_study(study: Study, spoil, message: str) -> None:
    spoil(study.folder)
    with pytest.raises(UserError, match=message):
        Study(study.folder)


def test_a_study_of_another_format(study: Study) -> None:
    with connect(study.folder / DATABASE) as database:
        database.execute("UPDATE study SET value = '9' WHERE key = 'format'")
    with pytest.raises(UserError, match="a study of format 9; allowed: format 1"):
        Study(study.folder)


def test_a_study_that_has_lost_what_it_asks(study: Study) -> None:
    with connect(study.folder / DATABASE) as database:
        database.execute("DELETE FROM study WHERE key = 'criteria'")
    with pytest.raises(UserError, match="damaged, without criteria"):
        Study(study.folder)


def test_a_study_that_was_put_away_can_be_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(study.folder / DATABASE) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    before = sorted(study.folder.iterdir())
    assert Study(study.folder).criteria == study.criteria
    assert sorted(study.folder.iterdir()) == before
    with pytest.raises(sqlite3.OperationalError, match="readonly"), connect(study.folder / DATABASE) as database:
        database.execute("UPDATE study SET value = '9' WHERE key = 'format'")


def test_a_study_can_be_moved(study: Study, tmp_path: Path) -> None:
    moved = Study(shutil.move(study.folder, tmp_path / "elsewhere"))
    file = moved.video(1, 1, "left")
    assert file is not None and file.is_file() and file.is_relative_to(tmp_path / "elsewhere")
