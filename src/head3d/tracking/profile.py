"""``HEAD3D_PROFILE=N``: where the time of a training goes, N of its steps as torch.profiler sees them.

Works for every training, also through the engines, whose commands cannot take another option::

    HEAD3D_PROFILE=5 head3d train fusion --variant full

leaves ``trace.json.gz`` (for https://ui.perfetto.dev) and ``operators.txt`` (the operators by their own time) in
``runs/NAME/profile`` and, as artifacts, in the MLflow run. Of several processes the first one is recorded.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.tracking import Run

VARIABLE = "HEAD3D_PROFILE"
BEFORE = 2  # steps that are let pass: the first ones allocate and choose algorithms
LINES = 40  # of the table


def profiled_steps() -> int:
    """How many steps are recorded, 0 for none.

    Raises:
        UserError: the variable is no such number.
    """
    value = os.environ.get(VARIABLE) or "0"
    if not value.isdecimal():
        raise UserError(f"{VARIABLE} is {value!r}", allowed="a number of steps, 0 for none", fix="unset it")
    return int(value)


@contextmanager
def profiled(folder: Path, tracked: "Run | None") -> Iterator[Callable[[], None]]:
    """Record steps if the variable says so.

    Args:
        folder: where the files go.
        tracked: takes them as artifacts; None records nothing.

    Yields:
        What is to be called after each step. If a training has fewer steps to do, as many as there are are recorded.
    """
    steps = profiled_steps()
    if not steps or tracked is None:
        yield lambda: None
        return

    recorded = False

    def keep(found: profile) -> None:
        nonlocal recorded
        recorded = True
        folder.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(folder / "trace.json.gz"))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=order, row_limit=LINES, max_name_column_width=60)
        (folder / "operators.txt").write_text(table + "\n")
        for name in ("trace.json.gz", "operators.txt"):
            tracked.artifact(folder / name, folder.name)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    when = schedule(wait=BEFORE - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=when, on_trace_ready=keep) as profiler:
        yield profiler.step
    if not recorded:
        print(
            f"{VARIABLE}: too few steps were left to record any; {folder.parent} holds what they go on from", flush=True
        )
