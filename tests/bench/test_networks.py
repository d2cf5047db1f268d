"""Both ways of a pair are measured on one device, and rows say on which and at which scale."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from head3d.bench import networks
from head3d.bench.rows import Work
from head3d.params import Params


def vgg16_features(weights: None) -> SimpleNamespace:
    """Its convolutions alone: to fill the rest with random numbers takes seconds."""
    return SimpleNamespace(features=make_layers(cfgs["D"]))


def test_both_ways_of_a_pair_are_on_the_device_of_params(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """``cpu:0`` is the processor, but no plain ``cpu`` that code names by itself is equal to it."""
    asked: list[Any] = []
    move, rand = nn.Module.to, torch.rand

    def moved(self: nn.Module, *args: Any, **more: Any) -> nn.Module:
        asked.extend(arg for arg in args if isinstance(arg, torch.device))
        return move(self, *args, **more)

    def drawn(*size: int, **more: Any) -> torch.Tensor:
        asked.append(more.get("device"))
        return rand(*size, **more)

    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(torch, "rand", drawn)
    monkeypatch.setattr(networks.baselines, "NAMES", ("fomm",))
    monkeypatch.setattr(networks, "vgg16", vgg16_features)
    monkeypatch.setattr(networks, "in_turns", lambda slow, quick, rounds: (2.0, 1.0))
    found = list(networks.rows(tiny.model_copy(update={"device": "cpu:0"}), 1))
    assert len(asked) > 10
    assert set(asked) == {torch.device("cpu:0")}
    assert {row.on.device for row in found} == {torch.device("cpu:0")}
    assert {row.what.split(",")[0]: row.scale for row in found} == {
        "stage 3": "smoke", "face parsing": "smoke", "driving 4 frames": "smoke", "blur of 17 pixels": "smoke",
        "fomm": "",
    }  # fmt: skip


@pytest.mark.slow
def test_every_pair_runs(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Work] = []

    def once(slow: Work, quick: Work, rounds: int) -> tuple[float, float]:
        for work in (slow, quick):
            work()
            ran.append(work)
        return 2.0, 1.0

    monkeypatch.setattr(networks, "vgg16", vgg16_features)
    monkeypatch.setattr(networks.baselines, "NAMES", ("fomm",))
    monkeypatch.setattr(networks, "in_turns", once)
    assert len(list(networks.rows(tiny, 1))) == 7
    assert len(ran) == 14
