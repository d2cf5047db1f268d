"""``HEAD3D_PROCESSES``: a training stage starts itself several times, so that an engine need not know of torchrun.

It does for one machine what torchrun does, and differs where the engines look: after SIGTERM there is no limit to how
long the state takes to be saved and the exit status is the training's, 143; and an error of the user stays one line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from head3d.errors import UserError
from head3d.parallel import threads_each
from head3d.ranks import LEFT, STORE
from head3d.signals import handled
from head3d.training.shares import LEAST_ROWS

VARIABLE = "HEAD3D_PROCESSES"
COMMAND = (sys.executable, "-m", "head3d")
GRACE_S = 30.0  # after one process has failed, until the others, which wait for it, are killed


def wanted() -> int:
    """How many processes a training is to start: 1 to train in this one.

    Raises:
        UserError: the variable says something else than a number or ``gpus``.
    """
    text = os.environ.get(VARIABLE, "")
    if not text or "WORLD_SIZE" in os.environ:  # none asked for, or this is one of them
        return 1
    if text == "gpus":
        import torch

        return max(1, torch.cuda.device_count())
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{VARIABLE} is {text!r}", allowed="a number of processes, or gpus for one on each GPU")
    return int(text)


def fitting(count: int, batches: Mapping[str, int]) -> int:
    """The largest number of processes, at most ``count``, that can share every batch evenly; says so if it is less.

    Args:
        count: processes that are wanted.
        batches: sizes by their names in params.yaml.
    """

    def fit(n: int) -> bool:
        return all(size % n == 0 and size // n >= LEAST_ROWS.get(name, 1) for name, size in batches.items())

    fits = max((n for n in range(2, count + 1) if fit(n)), default=1)
    if fits < count:
        sizes = ", ".join(f"{name} {size}" for name, size in batches.items())
        print(f"head3d: {fits} of {count} processes: more can't share {sizes} evenly", file=sys.stderr, flush=True)
    return fits


def run(words: Sequence[str], count: int, device: str = "cpu") -> int:
    """Run ``head3d WORDS`` in ``count`` processes that train together; returns the exit status.

    SIGTERM, SIGHUP and SIGINT are passed on. If one process fails, the others are ended.

    Args:
        words: of the command.
        count: number of processes.
        device: as in params.yaml. Of more GPUs than processes those are taken that no other process of head3d has.
    """
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": str(threads_each(count))}
    shared |= _own_gpus(count, device)
    processes: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def pass_on(number: int, _: object) -> None:
        told.append(number)
        for process in processes:
            process.send_signal(number)

    with (
        tempfile.TemporaryDirectory(prefix="head3d-") as folder,
        handled(pass_on, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
    ):
        shared[STORE] = str(Path(folder) / "store")
        try:
            for rank in range(count):
                processes.append(
                    subprocess.Popen(
                        [*COMMAND, *words],
                        env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=subprocess.PIPE,  # closed with this process, however it ends: then its ranks end too
                        process_group=0,  # a Ctrl-C comes to them from here alone
                    )
                )
                for number in told:  # before this one was there
                    processes[-1].send_signal(number)
            return _wait(processes)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
                if process.stdin:
                    process.stdin.close()


def _own_gpus(count: int, device: str) -> dict[str, str]:
    """What makes the processes see their GPUs only; nothing if they take all that there are, or none."""
    if device == "cpu":
        return {}
    import torch

    from head3d.compute import own_gpus

    gpus = torch.cuda.device_count()
    taken = own_gpus(min(count, gpus)) if gpus else []  # held as long as this process lives
    if gpus <= count:
        return {}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible[n] if visible else str(n) for n in taken)}


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all, or for the first failure and what it brings about; returns the status of what failed first."""
    failed, deadline = 0, None
    while True:
        running = [process for process in processes if process.poll() is None]
        # Ranks that end because of another one say so: the other one's status is the one that tells.
        codes = [p.returncode for p in processes if p.returncode]
        found = failed or next((c for c in codes if c != LEFT), 0)
        if not running:
            code = found or (LEFT if codes else 0)
            return 128 - code if code < 0 else code
        if codes and deadline is None:
            deadline = time.monotonic() + GRACE_S
        if found and not failed:
            for process in running:
                process.terminate()
        failed = found
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(0.05)
