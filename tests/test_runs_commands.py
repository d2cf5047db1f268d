"""`head3d runs prune`; `head3d runs import` is in tests/tracking."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from head3d import cli
from head3d.files import replacing, unfinished_by

KILLED = """
import os, signal, sys
from head3d.files import replacing
with replacing(sys.argv[1]) as file:
    file.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def runs(in_tmp: Path) -> Iterator[Path]:
    """Two states of a training, of which the first by name is the last that was written, and what lies beside."""
    names = (
        "train_fusion-full/0123456789abcdef",
        "train_fusion-full/fedcba9876543210",
        "train_geometry/00000000000000ff",
    )
    for age, name in enumerate(names):
        file = Path("runs", name, "state.pt")
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(3_000_000))
        os.utime(file, (1e9 - age, 1e9 - age))
    for other in ("train_fusion-full/profile/trace.json", "mlflow-offline/x/journal.jsonl"):
        Path("runs", other).parent.mkdir(parents=True)
        Path("runs", other).write_text("{}")
    state = in_tmp / "runs" / names[0] / "state.pt"
    with replacing(state) as half:  # of a process that lives
        half.write_bytes(b"half")
        subprocess.run([sys.executable, "-c", KILLED, str(state)], check=False)
        for path in (half, half_of_the_killed(in_tmp / "runs")):
            os.utime(path, (1e9, 1e9))
        yield in_tmp / "runs"


def half_of_the_killed(runs: Path) -> Path:
    [half] = (path for path in runs.rglob(".*.pt") if unfinished_by(path) not in (None, os.getpid()))
    return half


def files(runs: Path) -> set[str]:
    return {path.relative_to(runs).as_posix() for path in runs.rglob("*") if path.is_file()}


def test_what_a_job_on_another_machine_is_writing_stays(runs: Path) -> None:
    """Its process is not on this one; only its age tells."""
    half = half_of_the_killed(runs)
    then = time.time() - 23 * 3600
    os.utime(half, (then, then))
    assert cli.main(["runs", "prune"]) == 0
    assert half.exists()


def test_prune_bears_what_is_no_training_and_what_has_gone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file among the trainings, a link to nowhere, and a state that is replaced while it is looked at."""
    (runs / "train_notes").write_text("mine")
    state = runs / "train_geometry/00000000000000ff"
    (state / half_of_the_killed(runs).name).symlink_to("nowhere")
    gone = state / "gone.pt"
    there = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: [*there(path), *([gone] if path == state else [])])
    assert cli.main(["runs", "prune", "--dry-run"]) == 0


def test_prune_leaves_the_last_state_of_each_training(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(runs)
    gone = {"train_fusion-full/fedcba9876543210/state.pt", half_of_the_killed(runs).relative_to(runs).as_posix()}
    assert cli.main(["runs", "prune", "--dry-run"]) == 0
    assert files(runs) == before
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "runs/train_fusion-full/fedcba9876543210: 3 MB" and said[-1] == "0.00 GB would be freed"
    assert cli.main(["runs", "prune"]) == 0
    assert before - files(runs) == gone
    capsys.readouterr()
    assert cli.main(["runs", "prune"]) == 0
    assert capsys.readouterr().out == "0.00 GB freed\n"
