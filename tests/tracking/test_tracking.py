"""Tracking: real MLflow stores, real processes, and failures that cost nothing."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from forked import Forked
from head3d import tracking
from head3d.params import Params
from head3d.tracking import store
from head3d.tracking.ledger import LEDGER, git_commit, group_of

from .rows import rows

ROOT = Path(__file__).resolve().parents[2]

# MLflow's own imports and SQLAlchemy's open connections at the end of a test are not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_a_run_holds_everything(in_tmp: Path, params: Params) -> None:
    with tracking.run(stage="train_fusion", params=params, instance="full") as run:
        run.dataset("mini", "ab" * 32, n=7)
        for step in range(2500):  # more than MLflow takes in one call
            run.metrics({"loss": 1 / (1 + step), "odd(name)": step}, step=step)
        run.metrics({"never": float("nan")})
        run.tag("warm_start", "generic")
        (in_tmp / "note.txt").write_text("hello")
        run.artifact("note.txt")
    assert run.id
    assert dict(rows("select name, status from runs"))["train_fusion-full"] == "FINISHED"
    assert rows("select count(*), min(step), max(step) from metrics where key = 'loss'") == [(2500, 0, 2499)]
    assert rows("select count(*) from metrics where key = 'odd_name_'") == [(2500,)]
    logged = dict(rows(f"select key, value from params where run_uuid = '{run.id}'"))
    assert logged["fusion.lr"] == str(params.fusion.lr)
    assert logged["data.crop.margin"] == str(params.data.crop.margin)
    tags = dict(rows(f"select key, value from tags where run_uuid = '{run.id}'"))
    assert tags["data_digest"] == "ab" * 32
    assert tags["stage"] == "train_fusion"
    assert tags["scale"] == params.scale
    assert tags["git_commit"]
    assert rows("select name, digest from datasets") == [("mini", ("ab" * 32)[:36])]
    parent = rows(f"select value from tags where key = 'mlflow.parentRunId' and run_uuid = '{run.id}'")[0][0]
    assert rows(f"select status from runs where run_uuid = '{parent}'") == [("FINISHED",)]
    assert [path.name for path in (in_tmp / "mlruns").rglob("*") if path.is_file()] == ["note.txt"]


def test_stages_of_one_pipeline_run_share_a_parent(in_tmp: Path, params: Params) -> None:
    for stage in ("crop", "manifest"):
        with tracking.run(stage=stage, params=params):
            pass
    other = params.model_copy(update={"seed": 5})
    with tracking.run(stage="crop", params=other):
        pass
    parents = rows("select value from tags where key = 'mlflow.parentRunId'")
    assert sorted(parents.count(parent) for parent in set(parents)) == [1, 2]


def test_a_failed_stage_is_marked_and_raises_its_own_error(in_tmp: Path, params: Params) -> None:
    with pytest.raises(ZeroDivisionError), tracking.run(stage="crop", params=params):
        _ = 1 / 0
    with pytest.raises(SystemExit), tracking.run(stage="parse", params=params):
        sys.exit(143)
    status = dict(rows("select name, status from runs"))
    assert (status["crop"], status["parse"]) == ("FAILED", "KILLED")


def test_an_unfinished_run_is_continued_and_a_finished_one_is_not(in_tmp: Path, params: Params) -> None:
    with pytest.raises(SystemExit), tracking.run(stage="train_geometry", params=params) as first:  # noqa: PT012
        first.metrics({"loss": 1.0}, step=1)
        sys.exit(143)
    with tracking.run(stage="train_geometry", params=params) as second:
        second.metrics({"loss": 0.5}, step=2)
    assert second.id == first.id
    assert rows(f"select step from metrics where run_uuid = '{first.id}' order by step") == [(1,), (2,)]
    with tracking.run(stage="train_geometry", params=params) as third:
        pass
    assert third.id != first.id


def test_a_run_that_was_deleted_is_not_gone_on_with(in_tmp: Path, params: Params) -> None:
    with pytest.raises(SystemExit), tracking.run(stage="crop", params=params) as first:
        sys.exit(143)
    number = first.id
    assert number
    store.Store(tracking.tracking_uri()).call(lambda client: client.delete_run(number))
    with tracking.run(stage="crop", params=params) as second:
        second.metrics({"loss": 1.0}, step=1)
    assert second.id != number
    assert rows("select run_uuid from metrics") == [(second.id,)]


def test_a_run_killed_without_warning_is_continued(in_tmp: Path, params: Params) -> None:
    process = _start(in_tmp, "crop", wait=600)
    assert process.until(in_tmp / "started")
    process.kill()
    process.end()
    [(run_id, status)] = rows("select run_uuid, status from runs where name = 'crop'")
    assert status == "RUNNING"
    with tracking.run(stage="crop", params=params) as run:
        pass
    assert run.id == run_id


SCRIPT = textwrap.dedent("""
    import sys, time, pathlib
    from head3d import tracking
    from head3d.params import load_params
    params = load_params({params!r})
    with tracking.run(stage={stage!r}, params=params) as run:
        for step in range(50):
            run.metrics({{"loss": step}}, step=step)
            if step % 10 == 0:
                run.flush()
        pathlib.Path("started").touch()
        time.sleep({wait})
    sys.exit(run.id is None)
""")


def _start(folder: Path, stage: str, wait: float = 0.0) -> Forked:
    return Forked(folder, SCRIPT.format(params=str(ROOT / "params.yaml"), stage=stage, wait=wait))


@pytest.mark.slow
def test_eight_processes_at_once_lose_no_run(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All start on a missing database, the default one, as eight jobs of `snakemake --cores 8` would."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    Path("mlflow.db").unlink()
    processes = [_start(in_tmp, f"stage{k}") for k in range(8)]
    ended = [process.end() for process in processes]
    for process, errors in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
        assert "untracked" not in errors  # on a busy machine a lock may be waited for in vain, and a run kept in files
    status = dict(rows("select name, status from runs"))
    assert {f"stage{k}": "FINISHED" for k in range(8)}.items() <= status.items()
    assert len(status) == 9, "one parent for all"
    assert {count for (count,) in rows("select count(*) from metrics group by run_uuid")} == {50}


@pytest.mark.parametrize(
    "uri",
    ["http://127.0.0.1:9", "sqlite:////proc/no/such/place.db", "nonsense://x", "sqlite:///broken.db"],
)
def test_a_failing_store_is_one_warning(
    in_tmp: Path, params: Params, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (in_tmp / "broken.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with caplog.at_level(logging.WARNING, "head3d.tracking"), tracking.run(stage="crop", params=params) as run:
        run.dataset("mini", "00", 1)
        for step in range(1200):
            run.metrics({"loss": 1.0}, step=step)
        run.artifact("missing")
    assert run.id is None
    assert len(caplog.records) == 1
    assert "the stage goes on, kept in runs/mlflow-offline/crop-" in caplog.records[0].message


def test_a_store_that_comes_back_gets_everything(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tracking.Store

    def away(uri: str) -> tracking.Store:
        raise ConnectionError("not yet")

    monkeypatch.setattr(tracking, "Store", away)
    with tracking.run(stage="crop", params=params) as run:
        run.metrics({"loss": 1.0}, step=1)
        run.flush()
        monkeypatch.setattr(tracking, "Store", real)
    assert run.id
    assert rows("select step, value from metrics") == [(1, 1.0)]
    assert len(caplog.records) == 1


def test_each_outage_is_waited_for_anew(in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that only ever doubled would leave a healthy store without news for hours, after some bad moments."""
    monkeypatch.setattr(tracking, "RETRY_AFTER", 0.01)
    real = tracking.Store.write
    with tracking.run(stage="crop", params=params) as run:
        for _ in range(3):
            monkeypatch.setattr(tracking.Store, "write", lambda *_: 1 / 0)
            run.metrics({"loss": 1.0}, step=1)
            run.flush()
            assert run._pause == 0.02
            monkeypatch.setattr(tracking.Store, "write", real)
            time.sleep(0.05)
            run.flush()


def test_a_broken_ledger_costs_only_the_grouping(in_tmp: Path, params: Params) -> None:
    LEDGER.parent.mkdir()
    LEDGER.write_text("{ not json")
    with tracking.run(stage="crop", params=params) as run:
        pass
    assert run.id
    assert json.loads(LEDGER.read_text())


def test_nothing_phones_home() -> None:
    script = (
        "import sys; sys.path.insert(0, 'src')\n"
        "import os; os.environ.pop('MLFLOW_DISABLE_TELEMETRY', None); os.environ['MLFLOW_TRACKING_URI'] = 'sqlite://'\n"
        "from head3d.tracking.store import Store; Store('sqlite:///:memory:')\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()


MOUNTS = r"""
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
10.0.0.1@tcp:/scratch /my\040scratch lustre rw 0 0
beegfs_nodev /bee beegfs rw 0 0
//server/share /bee/share cifs rw 0 0
/dev/sdc1 /twice ext4 rw 0 0
gpfs0 /twice gpfs rw 0 0
a line cut sh
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mlflow.db", None),
        ("/tmp/run/mlflow.db", None),
        ("/home/ann/mlflow.db", "nfs4"),
        ("/homes/ann/mlflow.db", None),  # another directory, whose name only begins alike
        ("/home/local/mlflow.db", None),  # a disk below the network's
        ("/my scratch/mlflow.db", "lustre"),
        ("/bee/mlflow.db", "beegfs"),
        ("/bee/share/mlflow.db", "cifs"),
        ("/twice/mlflow.db", "gpfs"),  # mounted over the disk
    ],
)
def test_network_file_systems_are_known_by_the_mount_table(path: str, kind: str | None) -> None:
    assert store.network_file_system(Path(path), MOUNTS) == kind


def test_a_store_on_a_network_file_system_is_one_warning(
    in_tmp: Path, params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (in_tmp / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {in_tmp.resolve()} nfs4 rw 0 0\n")
    monkeypatch.setattr(store, "MOUNTS", in_tmp / "mounts")
    for stage in ("train_geometry", "train_canonical"):
        with tracking.run(stage=stage, params=params) as run:
            run.metrics({"loss": 1.0})
    (line,) = [record.getMessage() for record in caplog.records if "network" in record.getMessage()]
    assert line.startswith(f"{in_tmp.resolve()}/mlflow.db is on a network file system (nfs4)")
    assert "docs/cluster.md" in line
    assert {name for (name,) in rows("select name from runs")} >= {"train_geometry", "train_canonical"}


def test_a_silent_run_writes_nothing(in_tmp: Path, tiny: Params) -> None:
    """Of several processes of one training only the first tracks."""
    before = {path: path.read_bytes() for path in in_tmp.iterdir()}
    with tracking.run(stage="train_fusion", params=tiny, silent=True) as run:
        run.metrics({"loss": 1.0}, step=1)
        run.tag("a", "b")
    assert run.id is None and {path: path.read_bytes() for path in in_tmp.iterdir()} == before


def test_two_jobs_that_add_the_same_dataset_at_once(
    in_tmp: Path, params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    """A server has no lock of ours: both look for the data, both miss it, and the slower one may not insert it."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    others = []

    def faster(session: Session, *_: object) -> None:
        for new in session.new:
            if isinstance(new, SqlDataset) and not others:
                row = {column.name: getattr(new, column.name) for column in SqlDataset.__table__.columns}
                others.append(row | {"dataset_uuid": "ab" * 16})
                with sqlite3.connect("mlflow.db") as other:
                    marks = ",".join("?" * len(row))
                    other.execute(f"insert into datasets ({','.join(row)}) values ({marks})", [*others[0].values()])
                other.close()

    with tracking.run(stage="train_fusion", params=params) as run:
        event.listen(Session, "before_flush", faster)
        try:
            run.dataset("mini", "ab" * 32, n=7)
        finally:
            event.remove(Session, "before_flush", faster)
    assert len(others) == 1
    assert caplog.text == ""
    assert rows("select source_id from inputs where destination_type = 'RUN'") == [("ab" * 16,)]


def test_what_makes_two_pipeline_runs_of_one() -> None:
    known = [
        ({"seed": seed}, commit, place) for seed in (0, 1) for commit in "ab" for place in ("files", "sqlite:///m.db")
    ]
    assert len({group_of(*one) for one in known}) == 8
    assert group_of({"a": 1, "b": 2}, "c", "files") == group_of({"b": 2, "a": 1}, "c", "files")


def test_changed_code_and_parameters_are_not_those_of_the_commit(in_tmp: Path) -> None:
    (in_tmp / "src").mkdir()
    names = ("src/a.py", "params.yaml", "dvc.yaml", "README.md")
    for name in names:
        (in_tmp / name).write_text("1")
    who = ("-c", "user.name=x", "-c", "user.email=x@y")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", *words], check=True)
    for name in names:
        assert not git_commit().endswith("-dirty")
        (in_tmp / name).write_text("2")
        assert git_commit().endswith("-dirty") == (name != "README.md"), name
        (in_tmp / name).write_text("1")
