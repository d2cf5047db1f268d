"""Processes that begin with torch and this project imported: a fork in place of seven seconds of imports.

They are real processes all the same, that can be killed. What they are forked from has only imported, never computed,
so that it has no threads which a fork would lose.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from head3d.baselines import NAMES

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *(f"head3d.training.{s}" for s in ("geometry", "canonical", "matching", "parser", "fusion", "baseline")),
        *(f"head3d.baselines.{name}.training" for name in NAMES),
        *("head3d.assets.cache", "mlflow.tracking", "torch._dynamo"),
    ]
)
_count = itertools.count()


class Forked:
    """Python code that runs in a process of its own.

    Args:
        folder: its current directory.
        code: run as a script would be; what it prints is kept.
        environment: variables beside those of this test.
    """

    def __init__(self, folder: Path, code: str, environment: dict[str, str] | None = None) -> None:
        self._said = folder / f".said-{os.getpid()}-{next(_count)}"
        self._said.touch()  # it may be killed before it begins
        # All of them: what it is forked from has those of whatever test came first.
        variables = dict(os.environ) | (environment or {})
        self._process = _FORKS.Process(target=_run, args=(str(folder), str(self._said), code, variables), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """As a Popen's: None while it runs, minus the signal that ended it."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, signal.SIGKILL)

    def end(self, seconds: float = 240) -> str:
        """What it printed until it ended.

        Raises:
            TimeoutError: it still ran; it is killed.
        """
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"after {seconds} s: {self._said.read_text()[-2000:]}")
        return self._said.read_text(errors="replace")

    def until(self, path: Path, seconds: float = 120) -> bool:
        """Wait for a file; False if the process ended before."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            if self.returncode is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def _run(folder: str, said: str, code: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    faulthandler.enable()  # a crash in native code shows where Python stood
    os.environ.clear()
    os.environ.update(environment)
    exec(code, {"__name__": "__main__"})
