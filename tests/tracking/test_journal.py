"""Runs that are kept as files, where no store can be reached, and `head3d runs import`."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from head3d import tracking
from head3d.errors import UserError
from head3d.params import Params
from head3d.tracking import journal
from head3d.tracking.bring import bring
from head3d.tracking.store import Store

from .rows import rows

UseStore = Callable[[Path], None]  # the fixture of that name, conftest.py
ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def a_run(params: Params, stage: str = "train_fusion") -> None:
    with tracking.run(stage=stage, params=params, instance="full") as run:
        run.dataset("mini", "ab" * 32, n=7)
        for step in range(1500):  # more than MLflow takes in one call
            run.metrics({"loss": 1 / (1 + step), "odd(name)": step}, step=step)
        run.metrics({"never": float("nan"), "far": float("inf")})
        run.tag("pretrained", "generic")
        Path("note.txt").write_text("hello")
        run.artifact("note.txt", "notes")
        Path("note.txt").write_text("later")


CONTENT = {
    "runs": "select name, status from runs where name like 'train%'",
    "metrics": "select key, value, step, is_nan from metrics",
    "latest": "select key, value, step from latest_metrics",
    "params": "select name, key, value from params join runs using (run_uuid) where name like 'train%'",
    "tags": "select key, value from tags where key in ('stage', 'instance', 'scale', 'git_commit', 'pretrained',"
    " 'data_digest', 'data_clips', 'mlflow.source.git.commit')",
    "datasets": "select name, digest, dataset_profile, dataset_source from datasets",
    "contexts": "select name, value from input_tags",
}


def content(database: str = "mlflow.db") -> dict[str, list[str]]:
    """What a store holds, but for its ids and times."""
    return {name: sorted(map(repr, rows(query, database))) for name, query in CONTENT.items()}


def files(root: str = "mlruns") -> list[tuple[str, bytes]]:
    """Artifacts by name."""
    found = [path for path in Path(root).rglob("*") if path.is_file()]
    return sorted((f"{path.parent.name}/{path.name}", path.read_bytes()) for path in found)


def test_files_become_the_run_that_the_store_would_have_had(
    in_tmp: Path, params: Params, use_store: UseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(params)
    direct, artifacts = content(), files()
    (in_tmp / "other").mkdir()
    monkeypatch.chdir(in_tmp / "other")
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    a_run(params)
    use_store(in_tmp / "other/mlflow.db")
    before = Path("runs/mlflow-offline")
    lines = list(bring())
    assert "FINISHED" in lines[0] and len(list(before.iterdir())) == 1
    assert content() == direct
    assert [name for name, _ in artifacts] == [name for name, _ in files()]
    assert dict(artifacts) == dict(files())
    assert ("notes/note.txt", b"hello") in files(), "as it was when it was logged"


def test_times_parents_and_statuses_are_kept(in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    now = iter(range(1_000_000, 9_000_000, 1000))
    monkeypatch.setattr(tracking, "_now", lambda: next(now))
    with tracking.run(stage="crop", params=params) as run:  # 1_000_000
        run.metrics({"loss": 1.0}, step=4)
    with pytest.raises(ZeroDivisionError), tracking.run(stage="parse", params=params):  # 1_003_000
        _ = 1 / 0
    with pytest.raises(SystemExit), tracking.run(stage="manifest", params=params):  # 1_005_000
        sys.exit(143)
    list(bring())
    found = {name: rest for name, *rest in rows("select name, status, start_time, end_time from runs")}
    (parent,) = set(found) - {"crop", "parse", "manifest"}
    assert found["crop"] == ["FINISHED", 1_000_000, 1_002_000]
    assert found["parse"] == ["FAILED", 1_003_000, 1_004_000]
    assert found["manifest"] == ["KILLED", 1_005_000, 1_006_000]
    assert found[parent] == ["KILLED", 1_000_000, 1_006_000]
    assert rows("select key, value, step, timestamp from metrics") == [("loss", 1.0, 4, 1_001_000)]
    assert len(set(rows("select value from tags where key = 'mlflow.parentRunId'"))) == 1

    # A stage of the same pipeline run that reaches the store is nested under the same parent.
    monkeypatch.delenv("HEAD3D_TRACKING")
    with tracking.run(stage="tables", params=params):
        pass
    assert len(set(rows("select value from tags where key = 'mlflow.parentRunId'"))) == 1


def test_each_number_keeps_its_time_and_the_parent_its_last_end(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    now = iter(range(1000, 9000))
    monkeypatch.setattr(tracking, "_now", lambda: next(now))
    with pytest.raises(ZeroDivisionError), tracking.run(stage="crop", params=params):  # noqa: PT012
        with tracking.run(stage="parse", params=params) as inner:
            for step in (1, 2):
                inner.metrics({"loss": 1.0}, step=step)
        _ = 1 / 0
    list(bring())
    assert rows("select step, timestamp from metrics order by step") == [(1, 1002), (2, 1003)]
    ends = sorted(rows("select status, start_time, end_time from runs"))
    assert ends == [("FAILED", 1000, 1005), ("FAILED", 1000, 1005), ("FINISHED", 1001, 1004)]


def test_a_journal_of_a_killed_job_goes_when_its_run_has_ended_in_another(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    killed = tracking.run(stage="train_geometry", params=params).__enter__()
    killed.metrics({"loss": 1.0}, step=1)
    list(bring(remove=True))
    assert len(journal.folders(tracking.OFFLINE)) == 1, "it may be running still"
    with tracking.run(stage="train_geometry", params=params) as run:
        run.metrics({"loss": 0.5}, step=2)
    assert run.id == killed.id
    list(bring(remove=True))
    assert list(tracking.OFFLINE.iterdir()) == []
    assert rows("select step from metrics order by step") == [(1,), (2,)]


def test_a_killed_job_costs_at_most_its_last_line_and_goes_on(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    killed = tracking.run(stage="crop", params=params)
    killed.__enter__()
    for step in range(3):
        killed.metrics({"loss": 1.0}, step=step)
    (folder,) = journal.folders(tracking.OFFLINE)
    text = (folder / journal.NAME).read_bytes()
    (folder / journal.NAME).write_bytes(text[:-7])  # a write that a kill has cut
    assert "not ended so far" in next(iter(bring()))
    assert rows("select status from runs where name = 'crop'") == [("RUNNING",)]
    assert rows("select step from metrics order by step") == [(0,), (1,)]

    with tracking.run(stage="crop", params=params) as second:  # as the engine starts it again
        second.metrics({"loss": 0.5}, step=2)
    assert second.id == killed.id
    list(bring())
    assert rows("select name, status from runs where name = 'crop'") == [("crop", "FINISHED")]
    assert rows("select step from metrics order by step") == [(0,), (1,), (2,)]
    list(bring())
    assert rows("select name, status from runs where name = 'crop'") == [("crop", "FINISHED")]


def test_what_began_first_comes_first(in_tmp: Path) -> None:
    for name, time in (("b", 9), ("c", 10), ("a", 11)):
        journal.Journal(in_tmp, {"name": name, "run": "1", "time": time}).close()
    assert [folder.name[0] for folder in journal.folders(in_tmp)] == ["b", "c", "a"]


def test_a_journal_without_a_whole_line_is_nothing(in_tmp: Path) -> None:
    (tracking.OFFLINE / "crop-1").mkdir(parents=True)
    (tracking.OFFLINE / "crop-1" / journal.NAME).write_text('{"kind": "run", "na')
    assert "empty" in next(iter(bring()))


def test_a_store_that_is_away_until_the_end_loses_nothing(
    in_tmp: Path,
    params: Params,
    use_store: UseStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    a_run(params)
    direct, artifacts = content(), [name for name, _ in files()]
    (in_tmp / "other").mkdir()
    monkeypatch.chdir(in_tmp / "other")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "head3d.tracking"):
        a_run(params)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "kept in runs/mlflow-offline/train_fusion-full-" in warning and "head3d runs import" in warning
    use_store(in_tmp / "other/mlflow.db")
    list(bring())
    assert content() == direct
    assert [name for name, _ in files()] == artifacts


def test_what_was_kept_follows_into_the_run_it_belongs_to(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is lost in the middle of a run, and is back only after its end."""
    real = Store.write

    def away(self: Store, run_id: str, chunk: list) -> None:
        raise ConnectionError("the server was stopped")

    with tracking.run(stage="crop", params=params) as run:
        run.metrics({"loss": 1.0}, step=1)
        run.flush()
        monkeypatch.setattr(Store, "write", away)
        Path("note.txt").write_text("hello")
        run.artifact("note.txt")
        run.metrics({"loss": 0.5}, step=2)
    assert rows("select status from runs where name = 'crop'") == [("RUNNING",)]
    monkeypatch.setattr(Store, "write", real)
    list(bring())
    assert rows("select name, status from runs where name = 'crop'") == [("crop", "FINISHED")]
    assert rows("select run_uuid, step, value from metrics order by step") == [(run.id, 1, 1.0), (run.id, 2, 0.5)]
    assert len(list(Path("mlruns").rglob("note.txt"))) == 1


def test_a_run_whose_journal_was_brought_in_meanwhile_goes_on_in_it(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracking.run(stage="crop", params=params) as run:
        run.metrics({"loss": 1.0}, step=1)
        run.flush()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        list(bring())
        run.metrics({"loss": 0.5}, step=2)
    assert rows("select name, status from runs where name = 'crop'") == [("crop", "FINISHED")]
    assert rows("select step from metrics order by step") == [(1,), (2,)]
    assert list(tracking.OFFLINE.iterdir()) == []


SCRIPT = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from head3d import tracking
    from head3d.params import load_params
    params, children = load_params(sys.argv[1]), []
    for k in range(8):
        child = os.fork()
        if child == 0:
            with tracking.run(stage="train_fusion", params=params, instance=f"v{k}") as run:
                for step in range(200):
                    run.metrics({"loss": k + step / 1000}, step=step)
                Path(f"note-{k}.txt").write_text("hello")
                run.artifact(f"note-{k}.txt")
            os._exit("mlflow" in sys.modules)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
""")


def test_eight_jobs_at_once_that_write_files(in_tmp: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "params.yaml")]
    subprocess.run(command, check=True, env=os.environ | {"HEAD3D_TRACKING": "files"})
    list(bring())
    status = dict(rows("select name, status from runs"))
    assert {f"train_fusion-v{k}": "FINISHED" for k in range(8)}.items() <= status.items()
    assert len(status) == 9, "one parent for all"
    for k in range(8):
        query = f"select step, value from metrics join runs using (run_uuid) where name = 'train_fusion-v{k}'"
        assert sorted(rows(query)) == [(step, k + step / 1000) for step in range(200)]
    assert len(list(Path("mlruns").rglob("note-*.txt"))) == 8


def test_a_full_disk_and_no_store_still_cost_no_training(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    Path("runs").mkdir()
    Path("note.txt").write_text("hello")
    tracking.OFFLINE.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "head3d.tracking"), tracking.run(stage="crop", params=params) as run:
        run.metrics({"loss": 1.0})
        run.artifact("note.txt")
        run.flush()
    assert "untracked" in caplog.records[0].getMessage()
    assert len(caplog.records) == 1


def test_where_files_cannot_be_locked_a_run_is_kept_all_the_same(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks() -> None:
        raise OSError("No locks available")

    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    monkeypatch.setattr(tracking, "ledger", no_locks)
    with tracking.run(stage="crop", params=params) as run:
        run.metrics({"loss": 1.0}, step=1)
    list(bring())
    assert rows("select name, status from runs where name = 'crop'") == [("crop", "FINISHED")]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_half_a_line_on_a_full_disk_is_taken_back(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = journal.Journal(in_tmp, {"name": "crop", "run": "1", "time": 1})
    with monkeypatch.context() as full:
        full.setattr(kept, "_file", _Half(kept._file))
        with pytest.raises(OSError, match="only a part"):
            kept.put({"kind": "tag", "key": "a", "value": "b"})
    kept.put({"kind": "tag", "key": "c", "value": "d"})
    kept.close()
    assert [entry.get("key") for entry in journal.read(kept.folder)] == [None, "c"]


class _Half:
    """A file on a disk that is full after half of what is written."""

    def __init__(self, file) -> None:
        self.write = lambda data: file.write(data[: len(data) // 2])
        self.fileno = file.fileno


def test_a_misspelt_way_of_tracking_is_said_before_any_work(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "file")
    with pytest.raises(UserError, match="HEAD3D_TRACKING is 'file'; allowed: store, files"):
        tracking.run(stage="crop", params=params)


def test_the_first_line_says_all_there_is_to_know(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    with tracking.run(stage="crop", params=params, instance="shard-0"):
        pass
    (folder,) = journal.folders(tracking.OFFLINE)
    head = json.loads((folder / journal.NAME).read_text().splitlines()[0])
    assert (head["kind"], head["version"], head["name"]) == ("run", 1, "crop-shard-0")
    assert head["params"] == params.model_dump(mode="json")
