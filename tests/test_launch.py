"""HEAD3D_PROCESSES: how many processes a training starts, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from head3d import launch
from head3d.errors import UserError
from head3d.ranks import LEFT


@pytest.mark.parametrize(("text", "count"), [(None, 1), ("", 1), ("1", 1), ("4", 4)])
def test_the_variable_says_how_many(monkeypatch: pytest.MonkeyPatch, text: str | None, count: int) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if text is None:
        monkeypatch.delenv(launch.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(launch.VARIABLE, text)
    assert launch.wanted() == count


def test_gpus_is_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(launch.VARIABLE, "gpus")
    for there, count in ((0, 1), (3, 3)):
        monkeypatch.setattr("torch.cuda.device_count", lambda there=there: there)
        assert launch.wanted() == count


@pytest.mark.parametrize("text", ["0", "-1", "all of them", "2.5"])
def test_another_value_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(launch.VARIABLE, text)
    with pytest.raises(UserError, match=r"HEAD3D_PROCESSES is .*; allowed: a number of processes"):
        launch.wanted()


def test_a_process_that_was_started_so_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.VARIABLE, "4")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.wanted() == 1


@pytest.mark.parametrize(
    ("codes", "status"), [((0, 0), 0), ((143, 143), 143), ((LEFT, 2), 2), ((LEFT, LEFT), LEFT), ((0, 1), 1)]
)
def test_the_exit_status_is_that_of_the_failure(codes: tuple[int, int], status: int) -> None:
    assert launch._wait([subprocess.Popen([sys.executable, "-c", f"raise SystemExit({c})"]) for c in codes]) == status


def test_one_that_fails_ends_the_others() -> None:
    words = ("import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)")
    started = time.monotonic()
    assert launch._wait([subprocess.Popen([sys.executable, "-c", w]) for w in words]) == 137
    assert time.monotonic() - started < 30


RANK = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
open(sys.argv[1] + os.environ["RANK"] + " of " + os.environ["WORLD_SIZE"], "w").close()
time.sleep(60)
"""


def test_sigterm_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", RANK))
    before = signal.getsignal(signal.SIGTERM)

    def tell() -> None:
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    telling = threading.Thread(target=tell)
    telling.start()
    assert launch.run([f"{tmp_path}/"], 3) == 143
    telling.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0 of 3", "1 of 3", "2 of 3"]
    assert signal.getsignal(signal.SIGTERM) is before
