"""What each stage does with its parameters: rates, schedules, weights of losses; none is trained."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_stages import STAGES, furnish

from head3d.params import Params, load_params
from head3d.training.loop import Schedule, State
from head3d.training.session import Session


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with small data and untrained networks."""
    folder = tmp_path_factory.mktemp("learning")
    furnish(folder)
    return folder


def trained_as(params: Params, stage: str, monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The loops of a stage, none of which is run: state, schedule, losses, ``part`` and ``clip_norm``."""
    loops: list[SimpleNamespace] = []

    def record(self: Session, state: State, schedule: Schedule, losses: Callable, **rest: Any) -> None:
        loops.append(SimpleNamespace(state=state, schedule=schedule, losses=losses, **rest))

    monkeypatch.setattr(Session, "train", record)
    monkeypatch.setattr(Session, "finish", lambda *_: None)
    import_module(STAGES[stage][0]).run(params)
    return loops


GEOMETRY_RATES = {"depth_lr": 0.5, "pose_lr": 0.25}


def with_section(params: Params, name: str, **values: object) -> Params:
    return params.model_copy(update={name: getattr(params, name).model_copy(update=values)})


@pytest.mark.parametrize(
    ("stage", "values", "rates", "shares", "norm"),
    [  # four clips in batches of two: two steps an epoch
        ("geometry", {**GEOMETRY_RATES, "lr_decay": "cosine"}, [0.5, 0.25], {0: 0.5, 10: 0.5, 20: 0}, 3),
        ("geometry", {**GEOMETRY_RATES, "lr_decay": "step"}, [0.5, 0.25], {0: 0.5, 9: 1, 10: 0.1}, 3),
        ("canonical", {"lr": 0.5}, [0.5], {0: 1, 9: 1, 10: 0.1}, 3),
        ("fusion", {"lr": 0.5, "lr_decay": "cosine"}, [0.5], {0: 0.5, 10: 0.5, 20: 0}, 3),
        ("fusion", {"lr": 0.5, "lr_decay": "constant"}, [0.5], {0: 0.5, 2: 1, 19: 1}, 3),
        ("matching", {"lr": 0.5, "steps": 20}, [0.5], {0: 0.5, 10: 0.5, 20: 0}, 3),
        ("parser", {"coarse_lr": 0.25, "lr": 0.5, "steps": 20}, [0.25, 0.5], {0: 0.5, 10: 0.5, 20: 0}, 3),
    ],
)  # fmt: skip
def test_a_stage_learns_as_its_parameters_say(
    place: Path, monkeypatch: pytest.MonkeyPatch, stage: str, values: dict[str, Any], rates: list[float],
    shares: dict[int, float], norm: float,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    params = load_params()
    own = {"batch_size": 2, "epochs": 10, "lr_drop_epoch": 5, "warmup_steps": 2, "clip_norm": norm} | values
    known = type(getattr(params, stage)).model_fields
    params = with_section(params, stage, **{name: value for name, value in own.items() if name in known})
    loop = trained_as(params, stage, monkeypatch)[-1]
    assert [group["lr"] for group in loop.state.optimizer.param_groups] == rates
    assert loop.schedule.steps == 20 and loop.clip_norm == norm
    assert {step: loop.schedule(step) for step in shares} == pytest.approx(shares, abs=1e-3)
    (network,) = loop.state.modules.values()
    learning = {id(p) for group in loop.state.optimizer.param_groups for p in group["params"]}
    assert network.training and learning == {id(p) for p in network.parameters()}


def test_pairs_of_faces_count_by_their_weight(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)

    def loss(weight: float) -> float:
        params = with_section(load_params(), "matching", pair_weight=weight)
        return float(trained_as(params, "matching", monkeypatch)[0].losses(0)["loss"].detach())

    none, one, three = (loss(weight) for weight in (0.0, 1.0, 3.0))
    assert one > none + 0.01
    assert three - none == pytest.approx(3 * (one - none), rel=1e-3)
