"""Journals that are brought into a store: once, and whatever comes between."""

from __future__ import annotations

from pathlib import Path

import pytest

from head3d import tracking
from head3d.cli import main
from head3d.errors import UserError
from head3d.params import Params
from head3d.tracking import journal
from head3d.tracking.bring import bring
from head3d.tracking.store import Store, chunks

from .rows import rows
from .test_journal import UseStore, a_run, content, files


def test_a_second_import_adds_nothing(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    a_run(params)
    assert main(["runs", "import"]) == 0
    once, artifacts = content(), files()
    assert main(["runs", "import", "--remove"]) == 0
    assert content() == once
    assert files() == artifacts
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert "already there" in said[2] and "folder deleted" in said[2]
    assert said[1].startswith("1 of 1") and said[3].startswith("0 of 1")
    assert list(tracking.OFFLINE.iterdir()) == []


def test_an_import_that_was_cut_short_goes_on(
    in_tmp: Path, params: Params, use_store: UseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    a_run(params)
    lines = journal.read(journal.folders(tracking.OFFLINE)[0])
    calls = len(list(chunks(lines)))
    real, left = Store.write, 0

    def write(self: Store, run_id: str, chunk: list) -> None:
        nonlocal left
        real(self, run_id, chunk)
        left -= 1
        if left < 0:
            raise ConnectionError("the server was stopped")

    monkeypatch.setattr(Store, "write", write)
    for _ in range(calls - 1):  # each time one piece is in the store and the next one too, without a note of that
        left = 1
        with pytest.raises(UserError, match=r"the import stopped at .*: the server was stopped"):
            list(bring())
    monkeypatch.setattr(Store, "write", real)
    list(bring())
    cut = content()
    assert files() == [("notes/note.txt", b"hello")]
    use_store(in_tmp / "whole.db")
    list(bring())
    assert cut == content("whole.db")
    assert rows("select count(*) from runs") == [(2,)]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nowhere"], "nowhere: no such folder; allowed: a journal, or a folder of journals"), ([], None)],
)
def test_what_can_be_wrong_with_an_import(
    in_tmp: Path, words: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "import", *words]) == (2 if said else 0)
    out, err = capsys.readouterr()
    assert (said in err) if said else (out == "no runs in runs/mlflow-offline\n")


def test_a_store_that_is_away_stops_an_import_with_one_line(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    with tracking.run(stage="crop", params=params):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["runs", "import"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("head3d: http://127.0.0.1:9: the import stopped at runs/mlflow-offline/crop-")
    assert err.count("\n") == 1 and "nothing is written twice" in err
