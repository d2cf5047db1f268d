"""One training loop for every stage: it resumes where it stood and ends in the same weights, bit for bit on the CPU.

Nothing random survives between steps: step ``k`` draws everything from a generator seeded with (seed, k). So the state
is the weights, the optimiser and the losses so far; it lives in ``runs/<stage>/<digest>/``, outside the declared
outputs that the engines delete, and the digest covers parameters, data and code, so another run never continues it.
How many processes train together (:mod:`head3d.ranks`) is none of these: one may go on where two have stood.
"""

import contextlib
import csv
import hashlib
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from head3d.errors import UserError
from head3d.files import replacing
from head3d.ranks import STOPPED, current
from head3d.signals import handled
from head3d.training.batchnorm import sync_batchnorm

BETAS = (0.5, 0.999)  # of the paper's Adam (Sec. 4.2) and of every official baseline's
TELL_EVERY_S = 600.0  # between two lines of a training without a terminal, whose log else says nothing for days
PACKAGE = Path(__file__).resolve().parent.parent


def code_digest(parts: Iterable[str]) -> str:
    """Digest of the source files of some parts of the package, for example ``models`` or ``training/loop.py``."""
    digest = hashlib.sha256()
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: not there", fix="run what makes it first: `dvc repro`")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_digest(settings: dict[str, Any], code: Iterable[str]) -> str:
    """Short name of a run: what it is trained with, on what, by which code."""
    text = json.dumps({"settings": settings, "code": code_digest(code)}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def adam(parameters: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Adam that goes over each weight once, not once for every operation: a few per cent of a step.

    On a CPU it takes gradients to lie in memory as their weights do, which autograd sees to; who sets them has to, too.

    Args:
        parameters: what learns, or groups of that with settings of their own.
        lr: learning rate.
        betas: of the means of gradients and of their squares.
    """
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


@dataclass
class State:
    """What a training run is at a step.

    Attributes:
        modules: networks by name; those that do not learn in this stage are left out.
        optimizer: of the learning networks.
        step: steps done.
        history: a row (step, name, value) a logged loss.
        sums: losses added up since the last logged step.
        notes: anything else that must survive, for example the MLflow run's id.
    """

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[tuple[int, str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state to a temporary name, then rename."""
        content = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "sums": self.sums,
            "notes": self.notes,
        }
        with replacing(path) as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Go on from a saved state.

        Raises:
            UserError: the file is not whole, or none of this training.
        """
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            for name, module in self.modules.items():
                module.load_state_dict(saved["modules"][name])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.history = saved["step"], saved["history"]
            self.sums, self.notes = saved["sums"], saved["notes"]
        except OSError:  # says its own
            raise
        except Exception as error:  # of damaged files torch's reader raises whatever it stumbles over
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"{path}: can't be read: {reason}", fix="delete it: the training begins anew") from error


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each parameter group as a share of its base, by step.

    Attributes:
        steps: all steps of the stage.
        drops: steps from which it is a tenth of what it was.
        cosine: fall to zero along a half cosine.
        warmup: steps over which the rate rises from zero.
    """

    steps: int
    drops: tuple[int, ...] = ()
    cosine: bool = False
    warmup: int = 0

    def __call__(self, step: int) -> float:
        share = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.cosine:
            share *= 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * step / self.steps))))
        return share * 0.1 ** sum(step >= drop for drop in self.drops)


class Interrupted(SystemExit):
    """SIGTERM or SIGHUP came; the state was saved."""


def train(
    state: State,
    path: Path,
    schedule: Schedule,
    loss_fn: Callable[[int], dict[str, Tensor]],
    *,
    label: str,
    checkpoint_every: int,
    log_every: int,
    on_log: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    logged_to: Callable[[], str | None] = lambda: None,
    after_step: Callable[[], None] = lambda: None,
    clip_norm: float | None = None,
) -> None:
    """Train until ``schedule.steps`` steps are done, from wherever the state at ``path`` stands.

    Args:
        state: networks and optimiser; overwritten by the saved state if there is one.
        path: file of the saved state.
        schedule: number of steps and learning rates.
        loss_fn: losses of one step by name, of this rank's rows; ``loss`` is what is minimised.
        label: what the progress bar says.
        checkpoint_every: steps between two saves.
        log_every: steps between two logged losses; each logged value is the mean since the last one.
        on_log: called with the step and the losses.
        logged_to: makes what was logged durable and names where it is, None if nobody knows. Where a saved state names
            the same place its losses are there already; else they are logged once more.
        after_step: called when a step's weights are there.
        clip_norm: largest norm of the gradient, or None.

    Raises:
        Interrupted: SIGTERM or SIGHUP came, to this rank or another; the state is saved, exit code 143.
        FloatingPointError: a loss or a weight is not finite; the last saved state stays.
        UserError: this rank does not see the state that rank 0 goes on from.
    """
    ranks = current()
    _resume(state, path, on_log, logged_to)
    for group in state.optimizer.param_groups:
        group.setdefault("base_lr", group["lr"])
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    ranks.broadcast_weights(state.modules.values())
    for module in state.modules.values():
        sync_batchnorm(module, ranks)

    def save() -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in parameters):  # of a loss that still was a number
            raise FloatingPointError(f"{label}: weights are not finite at step {state.step}; {path} stays as it is")
        state.notes["logged_to"] = logged_to()
        state.save(path)

    first = state.step
    with _told_to_stop() as told, _Progress(label, first, schedule.steps) as progress:
        while state.step < schedule.steps:
            losses = _optimise(state, parameters, schedule, loss_fn, clip_norm)
            after_step()
            progress.bar.update()
            # All ranks stop at the step at which one of them is told to.
            stopping, *values = ranks.means([told.came, *(float(value.detach()) for value in losses.values())])
            for name, value in zip(losses, values, strict=True):
                if not math.isfinite(value):
                    raise FloatingPointError(f"{label}: {name} is {value} at step {state.step}; {path} stays as it is")
                state.sums[name] = state.sums.get(name, 0.0) + value
            if state.step % log_every == 0 or state.step == schedule.steps:
                means = _take_means(state)
                on_log(state.step, means)
                progress.tell(state.step, means["loss"])
            if stopping:
                break
            if ranks.is_rank_zero and state.step % checkpoint_every == 0 and state.step < schedule.steps:
                save()
        if state.step > first:  # still in here: whoever is told to stop twice, as by torchrun and Slurm, must save, too
            state.notes["seconds_per_step"] = progress.pace(state.step)
            if ranks.is_rank_zero:
                save()
            ranks.barrier()
    if state.step < schedule.steps:
        raise Interrupted(STOPPED)


def _resume(
    state: State,
    path: Path,
    on_log: Callable[[int, dict[str, float]], None],
    logged_to: Callable[[], str | None],
) -> None:
    """Go on from the state at ``path``, if rank 0 sees one; its losses are logged again if they may be nowhere else."""
    ranks = current()
    if not any(ranks.means([ranks.is_rank_zero and path.exists()])):
        return
    if not path.exists():
        raise UserError(f"{path}: process {ranks.rank} does not see it", fix="put runs/ where all processes see it")
    state.load(path)
    if state.notes.get("logged_to") is None or state.notes["logged_to"] != logged_to():
        for step, rows in groupby(state.history, key=itemgetter(0)):
            on_log(step, {name: value for _, name, value in rows})


def _optimise(
    state: State,
    parameters: list[nn.Parameter],
    schedule: Schedule,
    loss_fn: Callable[[int], dict[str, Tensor]],
    clip_norm: float | None,
) -> dict[str, Tensor]:
    """One step of the optimiser on what all ranks' rows say together; returns this rank's losses."""
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * schedule(state.step)
    losses = loss_fn(state.step)
    state.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    current().average_gradients(parameters)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    state.optimizer.step()
    state.step += 1
    return losses


def _take_means(state: State) -> dict[str, float]:
    """The means of the losses since the last logged step, which go into the history and begin anew."""
    count = state.step - (state.history[-1][0] if state.history else 0)  # log_every may have changed meanwhile
    means = {name: value / count for name, value in state.sums.items()}
    state.sums.clear()
    state.history += [(state.step, name, value) for name, value in means.items()]
    return means


@dataclass
class _Signal:
    came: bool = False


@contextlib.contextmanager
def _told_to_stop() -> Iterator[_Signal]:
    """SIGTERM and a closed terminal do not end the process in here, they are only noted."""
    noted = _Signal()

    def note(*_: object) -> None:
        noted.came = True

    with handled(note, signal.SIGTERM, signal.SIGHUP):
        yield noted


class _Progress:
    """How far a training is: a bar on rank 0's terminal or, where there is none, a line in the log now and then."""

    def __init__(self, label: str, first: int, steps: int) -> None:
        self.label, self.first, self.steps = label, first, steps
        terminal = current().is_rank_zero and sys.stderr.isatty()
        self.writes_lines = current().is_rank_zero and not terminal
        self.bar = tqdm(total=steps, initial=first, desc=label, unit="step", file=sys.stderr, disable=not terminal)
        self.started = self.told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def pace(self, step: int) -> float:
        """Seconds a step since this process began."""
        return (time.monotonic() - self.started) / (step - self.first)

    def tell(self, step: int, loss: float) -> None:
        """Show the loss that has just been logged."""
        self.bar.set_postfix(loss=f"{loss:.4f}")
        if self.writes_lines and time.monotonic() - self.told > TELL_EVERY_S:
            self.told = time.monotonic()
            pace = self.pace(step)
            print(
                f"{self.label}: step {step} of {self.steps}, loss {loss:.4f}, "
                f"{pace:.3g} s a step, {(self.steps - step) * pace / 3600:.1f} hours left",
                file=sys.stderr,
                flush=True,
            )


def write_history(history: list[tuple[int, str, float]], path: Path) -> None:
    """Training curves as CSV with the columns step, name, value."""
    with replacing(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "name", "value"))
        writer.writerows((step, name, f"{value:.6g}") for step, name, value in history)
