"""How many cores there are to use, and work that several threads do in order."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

MOST_WORKERS = 4  # threads that each have a batch, or a clip, of their own in memory
T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(count: int = 1) -> int:
    """Threads of each of ``count`` processes: its share of those that an engine gives the job, else of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, (int(given) if given.isdecimal() else cores()) // count)


def in_order(pool: Executor | None, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """``map``, by a pool where there is one, that begins at most ``ahead`` items more than are asked for."""
    if pool is None:
        yield from map(work, items)
        return
    begun = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@contextlib.contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that have a batch or a clip each, among which torch's are dealt; None where a GPU computes, or one core.

    Networks as small as these leave cores idle where all work on one: two cores drive a fifth more frames when each has
    a batch of its own.
    """
    import torch

    threads = torch.get_num_threads()
    count = min(threads, MOST_WORKERS)
    if device.type != "cpu" or count == 1:
        yield None
        return
    pool = ThreadPoolExecutor(count, "batches", initializer=torch.set_num_threads, initargs=(threads // count,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a thread sets for itself, those that begin later start with


def chained(make: Callable[[T], Iterable[R]], items: Iterable[T], threads: int, ahead: int) -> Generator[R]:
    """All that ``make`` gives of each item, one item after the other, while threads go through several items at once.

    Args:
        make: called, and gone through, in a thread of its own.
        items: as many are begun as there are threads.
        threads: number of them.
        ahead: results of an item that may wait until they are asked for; its thread rests then.
    """
    ended, over = threading.Event(), object()

    def go_through(item: T, found: Queue[Any]) -> None:
        try:
            for result in make(item):
                if not _put(found, result, ended):
                    return
        finally:
            _put(found, over, ended)

    pool = ThreadPoolExecutor(threads, "chained")
    begun: deque[tuple[Future[None], Queue[Any]]] = deque()
    waiting = iter(items)
    try:
        while True:
            while len(begun) < threads:
                try:
                    item = next(waiting)
                except StopIteration:
                    break
                found: Queue[Any] = Queue(ahead)
                begun.append((pool.submit(go_through, item, found), found))
            if not begun:
                return
            job, found = begun.popleft()
            while (result := found.get()) is not over:
                yield result
            job.result()  # raises what ended it
    finally:
        ended.set()
        pool.shutdown(cancel_futures=True)


def _put(queue: Queue[Any], thing: object, ended: threading.Event) -> bool:
    """Put something into a queue when there is room; False if nobody takes anything any more."""
    while not ended.is_set():
        try:
            queue.put(thing, timeout=0.1)
        except Full:
            continue
        return True
    return False
