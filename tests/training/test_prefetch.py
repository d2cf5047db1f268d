"""Batches made ahead are those that would have been made when asked for."""

import threading

import pytest
import torch

from head3d.training.prefetch import Prefetcher


class Maker:
    """Makes step ** 2, remembers who made what, and fails at one step."""

    def __init__(self, fails: int = -1) -> None:
        self.fails = fails
        self.made: list[tuple[int, bool]] = []

    def __call__(self, step: int) -> int:
        if step == self.fails:
            raise OSError(f"step {step}")
        self.made.append((step, threading.current_thread() is threading.main_thread()))
        return step**2


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_are_those_of_their_steps(device: str) -> None:
    batches = Prefetcher(Maker(), torch.device(device))
    steps = [5, 6, 7, 2, 3]  # as after a resume, which goes on elsewhere
    assert [batches(step) for step in steps] == [step**2 for step in steps]


def test_on_a_cpu_nothing_is_made_before_it_is_asked_for() -> None:
    maker = Maker()
    batches = Prefetcher(maker, torch.device("cpu"))
    assert [batches(step) for step in (0, 1)] == [0, 1]
    assert maker.made == [(0, True), (1, True)]


def test_beside_a_gpu_the_next_one_is_made_once_and_in_a_thread() -> None:
    maker = Maker()
    batches = Prefetcher(maker, torch.device("cuda"))
    assert [batches(step) for step in (0, 1, 2)] == [0, 1, 4]
    assert maker.made[:3] == [(0, True), (1, False), (2, False)]


def test_a_batch_that_cannot_be_made_fails_when_it_is_asked_for() -> None:
    batches = Prefetcher(Maker(fails=1), torch.device("cuda"))
    assert batches(0) == 0
    with pytest.raises(OSError, match="step 1"):
        batches(1)
