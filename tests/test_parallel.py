"""Threads that an engine gives, and work that keeps its order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from head3d import parallel


def test_processes_share_the_threads_that_an_engine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "40")
    assert parallel.threads_each(5) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert parallel.threads_each(5) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert parallel.threads_each(1) >= 1


def test_threads_share_work_and_keep_its_order() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        time.sleep(0.02 * (number % 3))
        return number * number

    def items() -> Iterator[int]:
        for number in range(12):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        made = parallel.in_order(pool, work, items(), 4)
        assert [next(made), next(made)] == [0, 1]
        assert len(begun) <= 2 + 4  # a long video is not read far ahead of what is asked for
        assert list(made) == [number * number for number in range(2, 12)]
        with pytest.raises(ZeroDivisionError):
            list(parallel.in_order(pool, lambda number: 1 // (3 - number), range(5), 0))
    assert list(parallel.in_order(None, work, range(3), 4)) == [0, 1, 4]
