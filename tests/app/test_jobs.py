"""The line of jobs: one at a time, in order, stopped when asked, and none takes the others down."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from head3d.app import jobs
from head3d.app.jobs import Job, Jobs
from head3d.errors import UserError

from .browser import wait_for


@pytest.fixture
def line():
    made = Jobs()
    yield made
    made.close()


class Gate:
    """Work that goes on until it is let through or cancelled."""

    def __init__(self) -> None:
        self.open, self.began = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> None:
        while not self.open.wait(0.005):
            job.watch("waiting at the gate", 1, 2)
            self.began.set()


def over(job: Job) -> bool:
    return wait_for(lambda: job.over, 5)


def test_one_at_a_time_in_order(line: Jobs) -> None:
    gate, done = Gate(), []
    first = line.add(Job(gate))
    others = [line.add(Job(lambda job, k=k: done.append(k))) for k in range(3)]
    assert gate.began.wait(5)
    assert [line.ahead(job) for job in (first, *others)] == [0, 1, 2, 3]
    assert (first.step, first.done, first.total) == ("waiting at the gate", 1, 2)
    assert (first.state, others[0].state, done) == ("running", "waiting", [])
    gate.open.set()
    assert over(others[-1])
    assert done == [0, 1, 2]
    assert first.state == "done" and line.ahead(others[-1]) == 0


def test_cancelling_stops_the_running_one_and_skips_a_waiting_one(line: Jobs) -> None:
    gate, done = Gate(), []
    running, waiting, last = line.add(Job(gate)), line.add(Job(done.append)), line.add(Job(done.append))
    assert gate.began.wait(5)
    line.cancel(waiting)
    assert waiting.state == "cancelled"
    line.cancel(running)
    assert over(running) and running.state == "cancelled"
    assert over(last)
    assert done == [last]
    line.cancel(last)
    assert last.state == "done"  # too late


def test_errors_end_one_job_only(line: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    def user(job: Job) -> None:
        raise UserError("a.mp4: no face was found in it", fix="give another")

    def bug(job: Job) -> None:
        raise ZeroDivisionError("secret details")

    wrong, broken, fine = line.add(Job(user)), line.add(Job(bug)), line.add(Job(lambda job: None))
    assert over(fine) and fine.state == "done"
    assert (wrong.state, wrong.error) == ("failed", "a.mp4: no face was found in it; give another")
    assert broken.state == "failed" and broken.error is not None
    assert "ZeroDivisionError" in broken.error and "secret" not in broken.error
    assert "secret details" in capsys.readouterr().err  # the traceback is for the terminal


def test_a_full_line_is_refused(line: Jobs) -> None:
    gate = Gate()
    line.add(Job(gate))
    assert gate.began.wait(5)
    for _ in range(jobs.MOST_WAITING):
        line.add(Job(gate))
    with pytest.raises(UserError, match="10 jobs are waiting already"):
        line.add(Job(gate))


def test_old_results_are_forgotten(line: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_KEPT", 2)
    made = []
    for index in range(4):
        result = tmp_path / str(index)
        made.append(line.add(Job(lambda job: job.result.write_text("x") and None, result)))  # type: ignore[union-attr]
        assert over(made[-1])
    assert [line.get(job.id) is not None for job in made] == [False, True, True, True]
    assert [job.result.exists() for job in made] == [False, True, True, True]


def test_videos_of_jobs_that_are_not_over_are_needed(line: Jobs) -> None:
    gate = Gate()
    first = line.add(Job(gate, videos=("a", "b")))
    line.add(Job(gate, videos=("b", "c")))
    assert line.needed() == {"a", "b", "c"}
    line.cancel(first)
    assert over(first)
    assert line.needed() == {"b", "c"}


def test_close_ends_the_running_job_and_starts_none(tmp_path: Path) -> None:
    line, gate = Jobs(), Gate()
    running, waiting = line.add(Job(gate)), line.add(Job(gate))
    assert gate.began.wait(5)
    line.close()
    assert running.state == "cancelled"
    assert waiting.state == "waiting"
    assert not line._thread.is_alive()
