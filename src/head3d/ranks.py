"""Processes that train one network together, as torchrun starts them; only this module knows torch.distributed.

A batch is that of the whole: every rank draws the randomness of all of it from the step's generator, and goes on with
its own rows. So W processes see what one would, and the mean over ranks of what a rank computes is what one process
computes: of losses, of gradients, of the statistics of batch normalisation (``training/batchnorm.py``). What divides by
a count of its own (pixels inside the image, frames with a known pose) must divide by :meth:`Ranks.share_of_count`.

Gradients are averaged here, once a step, and not by ``torch.nn.parallel.DistributedDataParallel``. That wants one
module, gone through once a step by its own ``forward``; a loss of Head3D is a function of several networks, some of
them called more than once, or in part, and of a discriminator that is a constant in some terms. It comes to the same:
weights begin equal, and equal gradients keep them so.

A process that is alone has no process group, and does what it did before there was this module.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec

from head3d.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

P = ParamSpec("P")
STORE = "HEAD3D_STORE"  # file through which the processes of head3d.launch find each other; torchrun has its own way
STOPPED = 143  # exit status after SIGTERM or SIGHUP
JOIN = timedelta(minutes=30)  # longest that ranks wait for each other at the start, as torch.distributed does
LEFT = 3  # exit status of a rank that ends because another one has failed, which has said why


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number; rank 0 leads: it alone writes files, tracks and prints.
        world_size: how many there are.
        device: what collectives send: ``cpu``, or ``cuda``, which is then the rank's own GPU.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def rows(self, count: int, what: str = "the batch") -> slice:
        """This rank's rows of ``count``; those of all ranks are disjoint, equally many, and together all.

        Args:
            count: rows of the whole batch.
            what: what an error calls them, such as ``canonical.batch_size``.

        Raises:
            UserError: the ranks can't have equally many, at least one each.
        """
        if count % self.world_size or count < self.world_size:
            raise UserError(
                f"params.yaml: {what} is {count}, which {self.world_size} processes can't share evenly",
                allowed=f"a multiple of {self.world_size}",
                fix="change it, or start as many processes as divide it",
            )
        share = count // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, the same bits on each; no gradient flows through it."""
        import torch.distributed as dist

        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def gather(self, values: Tensor) -> Tensor:
        """What each rank has, (world, ...), in their order; no gradient flows through it."""
        import torch
        import torch.distributed as dist

        values = values.detach().contiguous()
        found = [torch.empty_like(values) for _ in range(self.world_size)]
        dist.all_gather(found, values)
        return torch.stack(found)

    def means(self, values: Sequence[float]) -> list[float]:
        """Mean over ranks of each number."""
        if self.world_size == 1:
            return list(values)
        import torch

        return (self.sum(torch.tensor(values, dtype=torch.float64, device=self.device)) / self.world_size).tolist()

    def share_of_count(self, count: Tensor) -> Tensor:
        """What a rank divides a sum over its rows by, so that the mean over ranks is that of all rows that count.

        Args:
            count: how many of this rank's rows (frames, pixels) count.

        Returns:
            The count of all ranks, at least one, divided by their number.
        """
        if self.world_size == 1:
            return count.clamp(min=1)
        return self.sum(count).clamp(min=1) / self.world_size

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over ranks, in one message; all are of one type, float32."""
        if self.world_size == 1:
            return
        import torch

        gradients = [p.grad for p in parameters if p.grad is not None]
        mean = self.sum(torch.cat([g.reshape(-1) for g in gradients])) / self.world_size
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def broadcast_weights(self, modules: Iterable[nn.Module]) -> None:
        """Give all ranks the weights and statistics of rank 0: another kind of processor may have drawn others."""
        if self.world_size == 1:
            return
        import torch
        import torch.distributed as dist

        with torch.no_grad():
            for tensor in (t for module in modules for t in module.state_dict().values()):
                sent = tensor.contiguous()
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)

    def barrier(self) -> None:
        """Go on when all ranks are here."""
        self.means([0.0])


ALONE = Ranks()
_current = ALONE


def current() -> Ranks:
    """The ranks of this process: of the innermost :func:`group`, else it is alone."""
    return _current


def speaks() -> bool:
    """Whether an error that reaches the command line is this process's to print: before they join, one a machine."""
    try:
        return _current.world_size > 1 or _environment()[2] == 0
    except UserError:  # of the environment itself, which every process has to tell
        return True


def _environment() -> tuple[int, int, int, int]:
    """Rank, number of ranks, rank on this machine and ranks on this machine, as torchrun gives them."""
    words = [os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    words += [os.environ.get("LOCAL_RANK", words[0]), os.environ.get("LOCAL_WORLD_SIZE", "0")]
    if not all(word.isdigit() for word in words):
        names = "RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE"
        raise UserError(f"{names} are {', '.join(words)}", allowed="numbers", fix="start the stage by torchrun")
    rank, world, local, here = map(int, words)
    if world > 1 and ("RANK" not in os.environ or rank >= world):
        raise UserError(
            f"WORLD_SIZE is {world}, but RANK is {os.environ.get('RANK', 'not set')}",
            allowed=f"0 to {world - 1}",
            fix="start the stage by torchrun, or unset WORLD_SIZE",
        )
    return (rank, world, local, max(here, local + 1)) if world > 1 else (0, 1, 0, 1)


def _backend(device: str, local: int, here: int) -> tuple[str, str]:
    """torch.distributed's backend and the kind of device, which becomes the rank's own if it is a GPU.

    Args:
        device: as in params.yaml.
        local: number of this rank among those of this machine.
        here: how many there are on this machine. All fail alike, so that the one that speaks says what is wrong.
    """
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "gloo", "cpu"
    if device not in ("auto", "cuda"):
        raise UserError(
            f"params.yaml: device is {device!r} for several processes",
            allowed="auto, cuda or cpu",
            fix="with auto or cuda each process takes a GPU of its own; CUDA_VISIBLE_DEVICES chooses among them",
        )
    if here > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{here} processes on this machine, which has {gpus} GPUs",
            allowed="at most one process a GPU",
            fix="start as many processes as there are GPUs, or set `device: cpu`",
        )
    torch.cuda.set_device(local)
    return "nccl", "cuda"


@contextlib.contextmanager
def group(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun or ``HEAD3D_PROCESSES`` has started; leave them together at the end.

    Of ranks that fail together, or one after the other because the first is gone, only one raises its error.

    Args:
        device: as in params.yaml.

    Raises:
        UserError: the device can't be shared as asked for.
    """
    global _current
    rank, world, local, here = _environment()
    if world == 1 or _current.world_size > 1:  # alone, or they are together already
        yield _current
        return
    import torch.distributed as dist
    from torch.distributed import FileStore, PrefixStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]

    backend, kind = _backend(device, local, here)
    if name := os.environ.get(STORE):
        threading.Thread(target=_end_with_launcher, daemon=True).start()
        store: Any = FileStore(name, world)
    else:
        store, _, _ = next(rendezvous("env://"))
    try:
        dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=world)
        _join(store, world)
        _current = Ranks(rank, world, kind)
        yield _current
        _leave(_current)
    except BaseException as error:  # noqa: BLE001 - every way out of here raises
        try:
            if isinstance(error, SystemExit) and error.code == STOPPED:
                _leave(_current)
                raise
            if _is_first(store):
                raise
            raise SystemExit(LEFT) from None
        finally:
            if kind == "cpu":  # Gloo's threads may abort a process that ends with them; NCCL's may wait for who is gone
                with contextlib.suppress(RuntimeError):  # the error that brought us here is the one to tell
                    _destroy()
    _destroy()
    _current = ALONE


def _end_with_launcher() -> None:
    """Wait until head3d.launch, which holds the other end of our input, is gone, killed perhaps; then end at once.

    Else ranks that nobody waits for would write into the state of those that take their place.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(LEFT)


def _join(store: Any, world: int) -> None:
    """Nobody goes on, and perhaps fails, before all are there: one that is still connecting then would be aborted."""
    if store.add("head3d/joined", 1) == world:
        store.set("head3d/together", "yes")
    store.wait(["head3d/together"], JOIN)


def _destroy() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _leave(ranks: Ranks) -> None:
    """Nobody ends before all are done: torchrun ends the others when one is gone, and rank 0 may still be writing."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ranks.barrier()


def _is_first(store: Any) -> bool:
    """Whether no other rank has failed before this one; if one has, wait until it has said so and is gone.

    torchrun ends all ranks as soon as it sees that one is gone: that must not be before the error has been printed.
    """
    try:
        if store.add("head3d/failed", 1) == 1:
            atexit.register(store.set, "head3d/gone", "yes")
            return True
        with contextlib.suppress(Exception):  # killed before it could say so
            store.wait(["head3d/gone"], timedelta(seconds=10))
        return False
    except Exception:  # noqa: BLE001 - who kept the store is gone; then this error is all there is to say
        return True


def distributed(run: Callable[P, None]) -> Callable[P, None]:
    """Make a stage's function, which is given ``params`` first, one that several processes can run together."""

    @functools.wraps(run)
    def begin(*args: P.args, **kwargs: P.kwargs) -> None:
        params: Any = args[0]
        with group(params.device):
            run(*args, **kwargs)

    return begin
