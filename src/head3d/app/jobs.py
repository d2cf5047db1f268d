"""Work that takes longer than a request: one job at a time in a thread of its own, the others wait in line."""

from __future__ import annotations

import secrets
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from head3d.errors import UserError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
MOST_WAITING = 10
MOST_KEPT = 20  # jobs that are over; older ones are forgotten with their results
PATIENCE_S = 30.0  # how long the end of the server waits for the running job to notice


class Cancelled(Exception):
    """Raised inside a job that shall not go on."""


@dataclass
class Job:
    """One job and how far it is.

    Attributes:
        work: what is done; it calls :meth:`watch` on its way.
        result: file that the work writes, if any.
        name: under which the result is saved by a browser.
        videos: ids of the videos that it needs.
        beside: id of the video that the result is looked at beside, if any.
        id: unguessable.
        state: waiting, running; then done, failed or cancelled.
        step: what is being done, ``done`` frames of ``total``; 0 of 0 where that is not known.
        error: one line, of a failed job.
        note: one line that the user should know of a job that is done.
        head: id of the canonical head, once it is made.
    """

    work: Callable[[Job], None]
    result: Path | None = None
    name: str = ""
    videos: tuple[str, ...] = ()
    beside: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    step: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    note: str | None = None
    head: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def watch(self, step: str, done: int = 0, total: int = 0) -> None:
        """Note how far the work is.

        Raises:
            Cancelled: it shall not go on.
        """
        if self.stop.is_set():
            raise Cancelled
        self.step, self.done, self.total = step, done, total


class Jobs:
    """The line of jobs and the thread that does them; :meth:`close` ends both."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}  # in the order in which they came
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Job:
        """Put a job at the end of the line.

        Raises:
            UserError: the line is full.
        """
        with self._changed:
            if sum(other.state == "waiting" for other in self._jobs.values()) >= MOST_WAITING:
                raise UserError(f"{MOST_WAITING} jobs are waiting already", fix="wait for one, or cancel one")
            self._jobs[job.id] = job
            over = [other for other in self._jobs.values() if other.over]
            for old in over[: max(0, len(over) - MOST_KEPT)]:
                del self._jobs[old.id]
                if old.result:
                    old.result.unlink(missing_ok=True)
            self._changed.notify()
        return job

    def get(self, name: str) -> Job | None:
        """The job with this id, if there is one."""
        return self._jobs.get(name)

    def ahead(self, job: Job) -> int:
        """How many jobs come before this one, the running one too."""
        with self._changed:
            names = list(self._jobs)
            before = names[: names.index(job.id)] if job.id in self._jobs else []
            return sum(not self._jobs[name].over for name in before)

    def needed(self) -> set[str]:
        """Ids of the videos of all jobs that are not over."""
        with self._changed:
            return {video for job in self._jobs.values() if not job.over for video in job.videos}

    def cancel(self, job: Job) -> None:
        """Take a job out of the line, or stop it at its next frames; one that is over stays as it is."""
        with self._changed:
            job.stop.set()
            if job.state == "waiting":
                job.state = "cancelled"
            elif not job.over:
                job.step, job.done, job.total = "stopping", 0, 0

    def close(self) -> None:
        """Cancel everything and wait for the thread."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.stop.set()
            self._changed.notify()
        self._thread.join(PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                job = None
                while not self._closed and job is None:
                    job = next((one for one in self._jobs.values() if one.state == "waiting"), None)
                    if job is None:
                        self._changed.wait()
                if job is None or self._closed:
                    return
                job.state = "running"
            _do(job)


def _do(job: Job) -> None:
    try:
        job.work(job)
    except Cancelled:
        job.state = "cancelled"
    except UserError as error:
        job.error, job.state = str(error), "failed"
    except Exception as error:  # noqa: BLE001 - a bug in one job must not end the server
        traceback.print_exc()
        job.error = f"this is a fault of Head3D ({type(error).__name__}); the terminal of `head3d app` says more"
        job.state = "failed"
    else:
        job.state = "done"
