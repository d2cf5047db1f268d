"""Threads that an engine gives, and work that keeps its order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

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


def test_what_threads_find_comes_in_the_order_of_the_items() -> None:
    begun: list[str] = []

    def letters(word: str) -> Iterator[str]:
        begun.append(word)
        for letter in word:
            time.sleep(0.05 if word == "first" else 0)
            yield letter

    words = ["first", "second", "", "fourth"]
    assert "".join(parallel.chained(letters, words, threads=3, ahead=2)) == "".join(words)
    assert sorted(begun) == sorted(words)
    assert list(parallel.chained(letters, [], 3, 2)) == []


def test_nothing_runs_further_ahead_than_it_may() -> None:
    counts = {"a": 0, "b": 0, "c": 0}

    def count(name: str) -> Iterator[str]:
        for _ in range(50):
            counts[name] += 1
            yield name

    found = parallel.chained(count, list(counts), threads=2, ahead=3)
    assert next(found) == "a"
    time.sleep(0.5)
    assert counts["b"] == 3 + 1 and counts["a"] <= 1 + 3 + 1  # one more of each waits for room
    assert counts["c"] == 0, "there are but two threads"
    assert "".join(found) == "a" * 49 + "b" * 50 + "c" * 50


def test_an_error_comes_after_what_was_found_before_it() -> None:
    def until_three(start: int) -> Iterator[int]:
        for number in range(start, start + 5):
            if number == 3:
                raise ValueError("three")
            yield number

    found = parallel.chained(until_three, [10, 0, 20], threads=2, ahead=9)
    assert [next(found) for _ in range(8)] == [10, 11, 12, 13, 14, 0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)


def test_torchs_threads_are_dealt_to_the_workers_and_given_back() -> None:
    def threads_of_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as alone:
            return alone.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        with parallel.workers(torch.device("cpu")) as pool:
            assert pool is not None
            barrier = threading.Barrier(parallel.MOST_WORKERS)

            def threads() -> int:
                barrier.wait()  # one task a worker
                return torch.get_num_threads()

            tasks = [pool.submit(threads) for _ in range(parallel.MOST_WORKERS)]
            assert {task.result() for task in tasks} == {8 // parallel.MOST_WORKERS}
        assert (torch.get_num_threads(), threads_of_a_new_thread()) == (8, 8)
        with parallel.workers(torch.device("cuda")) as pool:
            assert pool is None
        torch.set_num_threads(1)
        with parallel.workers(torch.device("cpu")) as pool:
            assert pool is None
    finally:
        torch.set_num_threads(before)
