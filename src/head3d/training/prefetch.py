"""Batches made while the device still works on the ones before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

B = TypeVar("B")


class Prefetcher(Generic[B]):
    """Makes the batch of a step and then, where a GPU computes meanwhile, that of the next one in a thread.

    On a CPU, whose cores the networks need, it makes them when they are asked for. They are the same: a batch is a
    function of its step.

    Args:
        make: the batch of a step, on the CPU. (A thread has a current GPU of its own: its caller moves the batch.)
        device: where the networks are.
    """

    def __init__(self, make: Callable[[int], B], device: torch.device) -> None:
        self.make = make
        self._threads = ThreadPoolExecutor(1, "batches") if device.type != "cpu" else None
        self._made: tuple[int, Future[B]] | None = None

    def __call__(self, step: int) -> B:
        """The batch of ``step``; what :attr:`make` raises is raised here."""
        if self._threads is None:
            return self.make(step)
        if self._made is not None and self._made[0] == step:
            batch = self._made[1].result()
        else:
            batch = self.make(step)
        self._made = step + 1, self._threads.submit(self.make, step + 1)
        return batch
