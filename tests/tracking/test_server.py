"""Eight jobs at once on `mlflow server` with PostgreSQL, which is killed and started again in the middle."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .servers import Postgres, Server, binaries

ROOT = Path(__file__).resolve().parents[2]
LACKING = (
    "no PostgreSQL: apt-get install postgresql"
    if binaries() is None
    else None
    if importlib.util.find_spec("psycopg2")
    else 'psycopg2 is not installed, which MLflow needs for PostgreSQL: pip install -e ".[server]"'
)

JOBS, STEPS = 8, 100

# One process that becomes eight: so MLflow is imported once, and they begin at the same moment.
SCRIPT = textwrap.dedent("""
    import os, pathlib, sys, time
    from mlflow.tracking import MlflowClient
    from head3d import tracking
    from head3d.params import load_params

    def wait(name):
        while not pathlib.Path(name).exists():
            time.sleep(0.05)

    def job(k):
        with tracking.run(stage="train_fusion", params=params, instance=f"v{k}") as run:
            for half, stop in (0, "killed"), (1, "back"):
                if half == 0:
                    run.dataset("mini", "ab" * 32, n=7)
                for step in range(half * STEPS, (half + 1) * STEPS):
                    run.metrics({"loss": k + step / 1000, "one": 1}, step=step)
                run.tag(f"half{half}", k)
                note = pathlib.Path(f"note-{half}-{k}.txt")
                note.write_text(str(k))
                run.artifact(note)
                run.flush()
                pathlib.Path(f"half{half}-{k}").touch()
                wait(stop)

    params, STEPS, children = load_params(sys.argv[1]), int(sys.argv[2]), []
    for k in range(int(sys.argv[3])):
        child = os.fork()
        if child == 0:
            job(k)
            sys.stderr.flush()
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
""")


def wait_for(done: Callable[[], bool], jobs: subprocess.Popen, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert jobs.poll() is None and time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
def test_eight_jobs_on_a_server_that_is_killed_in_the_middle(in_tmp: Path) -> None:
    with Postgres() as postgres:
        server = Server(in_tmp, postgres.uri)
        server.start()
        command = [sys.executable, "-c", SCRIPT, str(ROOT / "params.yaml"), str(STEPS), str(JOBS)]
        environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
        with (in_tmp / "said").open("w") as said:
            jobs = subprocess.Popen(command, env=environment, stderr=said)
        try:
            wait_for(lambda: len(list(in_tmp.glob("half0-*"))) == JOBS, jobs)
            assert (in_tmp / "said").read_text() == ""
            found = postgres.rows("select count(*), count(distinct run_uuid) from metrics where key = 'loss'")
            assert found == [(JOBS * STEPS, JOBS)]
            server.kill()
            (in_tmp / "killed").touch()
            wait_for(lambda: len(list(in_tmp.glob("half1-*"))) == JOBS, jobs)
            server.start()
            (in_tmp / "back").touch()
            jobs.wait(200)
        finally:
            jobs.kill()
            server.kill()
        warned = (in_tmp / "said").read_text()
        assert jobs.returncode == 0, warned
        assert warned.count("tracking of") == JOBS, "the kill was seen by each"
        assert list((in_tmp / "runs/mlflow-offline").glob("*")) == [], "all reached the store in the end"

        runs = dict(postgres.rows("select name, run_uuid from runs where name like 'train_fusion-%'"))
        assert sorted(runs) == [f"train_fusion-v{k}" for k in range(JOBS)]
        assert postgres.rows("select count(*) from runs") == [(JOBS + 1,)], "one parent for all"
        assert {status for (status,) in postgres.rows("select status from runs")} == {"FINISHED"}
        for k in range(JOBS):
            of_run = f"where run_uuid = '{runs[f'train_fusion-v{k}']}'"
            losses = postgres.rows(f"select step, value from metrics {of_run} and key = 'loss' order by step")
            assert losses == [(step, k + step / 1000) for step in range(2 * STEPS)]
            params = postgres.rows(f"select count(*) from params {of_run}")
            assert params == postgres.rows("select count(distinct key) from params")
            tags = dict(postgres.rows(f"select key, value from tags {of_run}"))
            assert (tags["half0"], tags["half1"], tags["data_clips"]) == (str(k), str(k), "7")
            notes = list((in_tmp / "artifacts").rglob(f"{runs[f'train_fusion-v{k}']}/artifacts/note-*.txt"))
            assert len(notes) == 2
        assert postgres.rows("select count(*) from inputs where destination_type = 'RUN'") == [(JOBS,)]
