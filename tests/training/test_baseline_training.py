"""Training of a baseline: what its saved state depends on."""

from __future__ import annotations

import pytest

from head3d import ranks
from head3d.baselines.facev2v.head import HeadEstimator
from head3d.baselines.objective import TrainingPhase
from head3d.errors import UserError
from head3d.params import Params
from head3d.training import baseline
from head3d.training.baseline import what_is_read
from head3d.training.loop import run_digest


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mraa", "avd_lr", 0.5),
        ("mraa", "avd_epochs", 7),
        ("mraa", "avd_random_scale", 0.5),
        ("dagan", "depth_steps", 9),
        ("facev2v", "pose_steps", 9),
    ],
)
def test_parameters_of_a_methods_parts_start_it_afresh(tiny: Params, name: str, key: str, value: object) -> None:
    def digest(params: Params) -> str:
        return run_digest(what_is_read(params, name, geometry=False), ())

    changed = getattr(tiny.baseline, name).model_copy(update={key: value})
    other = tiny.model_copy(update={"baseline": tiny.baseline.model_copy(update={name: changed})})
    assert digest(tiny) == digest(tiny.model_copy()) != digest(other)


def test_a_part_sees_other_batches_than_its_method() -> None:
    """Seeds that batches, augmentation and other draws are made of (seed, seed + 2, seed + 4) never meet."""
    seeds = {shift: {shift, shift + 2, shift + 4} for shift in (0, baseline.BEFORE, baseline.AFTER)}
    assert len(set().union(*seeds.values())) == 9


@pytest.mark.parametrize("key", ["batch_size", "avd_batch_size"])
def test_a_batch_that_cannot_be_shared_is_named(tiny: Params, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """By the key in params.yaml that is to be changed."""
    mraa = tiny.baseline.mraa.model_copy(update={"batch_size": 6, "avd_batch_size": 6, key: 8})
    params = tiny.model_copy(update={"baseline": tiny.baseline.model_copy(update={"mraa": mraa})})
    monkeypatch.setattr(ranks, "_current", ranks.Ranks(0, 3))
    with pytest.raises(UserError, match=rf"params\.yaml: baseline\.mraa\.{key} is 8, which 3 processes can't share"):
        baseline.run(params, "mraa")


def test_a_part_can_let_some_layers_learn_slowly() -> None:
    network = HeadEstimator(width=4, most=16)
    part = TrainingPhase("pose", network, 8, 1e-2, 2, lambda *_: {}, rates={"yaw": 0.5, "roll": 0.25})
    rates = {id(p): group["lr"] for group in part.groups() for p in group["params"]}
    assert sum(len(group["params"]) for group in part.groups()) == len(rates) == len(list(network.parameters()))
    assert {rates[id(p)] for p in network.yaw.parameters()} == {5e-3}
    assert {rates[id(p)] for p in network.roll.parameters()} == {2.5e-3}
    assert {rates[id(p)] for p in network.pitch.parameters()} == {1e-2}
