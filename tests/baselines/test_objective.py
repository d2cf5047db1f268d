"""What each method trains on: every term of the frames and points that it is of, under the weight of its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from head3d.baselines import losses
from head3d.baselines.keypoints import Keypoints
from head3d.baselines.mraa.regions import Regions
from head3d.baselines.objective import Objective, Pairs
from head3d.losses import ThinPlateSpline
from head3d.params import Params
from head3d.training.baseline import load_objective, make
from head3d.training.build.geometry import build_geometry

ANGLES = {"yaw": 21.0, "pitch": -9.0, "roll": 6.0}  # centres of three classes


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def training_of(name: str, params: Params, perceptual: Any = F.l1_loss) -> Objective:
    """A method's objective with another weight for each term."""
    settings = getattr(params.baseline, name)
    weights = {term: float(index) for index, term in enumerate(settings.weights.model_dump(), start=2)}
    settings = settings.model_copy(update={"weights": settings.weights.model_copy(update=weights)})
    return load_objective(name)(make(params, name), settings, perceptual, build_geometry(params))


def random_pairs() -> Pairs:
    return Pairs(*rand(2, 2, 3, 64, 64), *rand(2, 2, 1, 64, 64, seed=1))


@pytest.mark.parametrize(
    ("name", "kind"), [("fomm", "least_squares"), ("mraa", None), ("dagan", "least_squares"), ("facev2v", "hinge")]
)
def test_every_term_is_of_what_it_should_be(
    name: str, kind: str | None, tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points that T carries exactly, frames that T' carries, the teacher's own angles: what is of these is zero."""
    module, pairs = import_module(f"head3d.baselines.{name}.training"), random_pairs()
    spline = ThinPlateSpline(2, torch.Generator().manual_seed(0), 0.05, 0.05)
    found, local = rand(2, 5, 2, seed=2) * 1.6 - 0.8, rand(2, 5, 2, 2, seed=3) + 2 * torch.eye(2)
    value, carried = spline(found), losses.spline_jacobian(spline, found) @ local
    predicted, deformed, points = rand(2, 3, 64, 64, seed=4), rand(2, 3, 64, 64, seed=5), F.pad(value, (0, 1))
    answer = {"prediction": predicted, "kp_driving_value": value, "kp_driving_jacobian": carried}
    answer |= {"driving_shift": value, "driving_affine": carried}
    answer |= {"kp_driving": points, "kp_canonical": found, "driving_exp": torch.full((2, 15), 0.1)}
    for angle, degrees in ANGLES.items():
        answer[f"driving_{angle}_logits"] = 1e4 * F.one_hot(torch.full((2,), round(degrees + 99) // 3), 66).float()
    pixels, real = [], []

    def perceptual(*frames: Tensor) -> Tensor:
        pixels.append(frames)
        return torch.tensor(1.0)

    def gan(*given: Any) -> dict[str, Tensor]:
        real.append(given)
        return {"generator_gan": torch.tensor(2.0), "feature_matching": torch.tensor(3.0)} | {
            "discriminator_gan": torch.tensor(4.0)
        }

    def of_deformed(images: Tensor, *_: Any) -> Any:
        assert images is deformed
        return Regions(found, local, -local) if name == "mraa" else Keypoints(found, local)

    def taught(_: Any, images: Tensor, masks: Tensor) -> Tensor:
        assert images is pairs.driving and masks is pairs.driving_mask
        return torch.tensor([[degrees] * 2 for degrees in ANGLES.values()])

    training = training_of(name, tiny, perceptual)
    method: Any = training.method
    monkeypatch.setattr(method, "forward_pair", lambda source, driving: answer)
    monkeypatch.setattr(training, "random_tps", lambda images, rng: (deformed, spline))
    for place, stub in (
        (getattr(method, "region_predictor", None) or method.kp_detector, of_deformed),
        (getattr(method, "he_estimator", None), of_deformed),
    ):
        if place is not None:
            monkeypatch.setattr(place, "forward", stub)
    if name == "dagan":
        monkeypatch.setattr(method, "disparity", lambda images: images)
        monkeypatch.setattr(method, "detect", of_deformed)
    if name == "facev2v":
        monkeypatch.setattr(module, "transform_keypoints", lambda canonical, head: F.pad(canonical, (0, 1)))
        monkeypatch.setattr(module, "teacher_euler", taught)
    if kind:
        monkeypatch.setattr(module, "adversarial", gan)
    terms = {term: float(value) for term, value in training.losses(pairs, torch.Generator()).items()}

    weights = {term: weight for term, weight in training.weights.items() if not term.startswith(("avd_", "pixel"))}
    assert terms.keys() == {"loss", *weights}
    assert terms["loss"] == pytest.approx(sum(weights[term] * terms[term] for term in weights), rel=1e-5)
    zero = {term for term in terms if term.startswith(("equivariance", "headpose"))}
    assert {term: terms[term] for term in zero} == pytest.approx(dict.fromkeys(zero, 0.0), abs=1e-4)
    ((made, truth),) = pixels
    assert made is predicted and truth is pairs.driving
    if name == "facev2v":
        assert terms["expression"] == pytest.approx(1.5)
        assert terms["keypoint"] == pytest.approx(float(losses.keypoint_prior(points)))
    if kind:
        ((network, made, truth, said, *shown),) = real
        assert network is training.discriminator and made is predicted and truth is pairs.driving and said == kind
        assert (shown == []) if name == "facev2v" else (shown[0] is value)


@pytest.mark.parametrize(
    ("name", "spectral", "shown"), [("fomm", False, True), ("dagan", False, True), ("facev2v", True, False)]
)
def test_discriminators_are_the_official_ones(name: str, spectral: bool, shown: bool, tiny: Params) -> None:
    training = training_of(name, tiny)
    network = training.discriminator
    assert network is not None and training.networks()["discriminator"] is network
    convolutions = [name for name, _ in network.named_parameters() if name.endswith("original")]
    assert len(convolutions) == (5 if spectral else 0)
    assert network.keypoints == (training.settings.network.keypoints if shown else 0)
    assert [isinstance(down.norm, torch.nn.Identity) for down in network.down] == [True, False, False, False]
    assert [down.pool for down in network.down] == [True, True, True, False]


def test_disparity_is_large_where_the_teacher_sees_what_is_near(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d.baselines.dagan.training import disparity_of

    geometry = build_geometry(tiny)
    monkeypatch.setattr(geometry.depth, "forward", lambda images: images[:, :1] * geometry.depth.range_m / 2)
    images, masks = torch.full((1, 3, 1, 3), 0.5), torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 1, 3)
    images[..., 0] = -1.0  # nearer than the centre of the head
    assert disparity_of(geometry, images, masks).flatten().tolist() == pytest.approx([0.75, 0.45, 0.05])


@pytest.mark.parametrize(("name", "frozen"), [("dagan", True), ("facev2v", False)])
def test_what_is_taught_first_sees_each_frame_with_its_own_mask(
    name: str, frozen: bool, tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the depth stays as it was taught, while poses are learnt on."""
    module, pairs, asked = import_module(f"head3d.baselines.{name}.training"), random_pairs(), []

    def taught(_: Any, images: Tensor, masks: Tensor) -> Tensor:
        asked.append((images, masks))
        return torch.zeros(4, 1, 64, 64) if name == "dagan" else torch.zeros(3, 4)

    monkeypatch.setattr(module, "disparity_of" if name == "dagan" else "teacher_euler", taught)
    settings = getattr(tiny.baseline, name).model_copy(update={"depth_steps" if name == "dagan" else "pose_steps": 8})
    part = load_objective(name)(make(tiny, name), settings, lambda a, b: a, build_geometry(tiny)).pretraining(9)
    assert part is not None and part.steps == 8 and part.frozen_after is frozen
    assert float(part.losses(5, {5: pairs}.__getitem__, torch.Generator())["loss"].detach()) > 0
    ((images, masks),) = asked
    assert torch.equal(images, torch.cat((pairs.source, pairs.driving)))
    assert torch.equal(masks, torch.cat((pairs.source_mask, pairs.driving_mask)))


@pytest.mark.parametrize(
    ("name", "still"),
    [("fomm", set()), ("mraa", {"avd_network"}), ("dagan", {"depth_encoder", "depth_decoder"}), ("facev2v", set())],
)
def test_the_optimiser_moves_all_but_what_is_taught_by_itself(name: str, still: set[str], tiny: Params) -> None:
    training = training_of(name, tiny)
    moved = {id(parameter) for parameter in training.parameters()}
    networks = training.method.networks() | {k: v for k, v in training.networks().items() if k == "discriminator"}
    found = {part: {id(p) in moved for p in network.parameters()} for part, network in networks.items()}
    assert found == {part: {part not in still} for part in networks}
