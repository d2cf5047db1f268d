"""FOMM against the answers of its official code, and what must hold at any size."""

from __future__ import annotations

import pytest
import torch
from fill import fill, golden, official_shapes, official_states
from torch import Tensor

from head3d.baselines import build
from head3d.baselines.fomm.method import Fomm
from head3d.baselines.keypoints import Keypoints, relative_keypoints
from head3d.baselines.method import Method
from head3d.errors import UserError

SMALL = {
    "keypoints": 5,
    "width": 8,
    "most": 16,
    "residuals": 2,
    "detector_width": 4,
    "detector_most": 16,
    "motion_width": 8,
    "motion_most": 32,
}


def small(image_size: int, levels: int, **settings: object) -> Method:
    method = build("fomm", image_size, detector_levels=levels, motion_levels=levels, **SMALL, **settings)
    return method.load_official(official_states(method, seed=3))


def frames(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def official() -> Method:
    method = build("fomm")
    return method.load_official(official_states(method))


def test_names_and_shapes_are_the_official_ones(official: Method) -> None:
    wanted = {
        f"{network}.{name}": shape
        for network in ("generator", "kp_detector")
        for name, shape in official_shapes(f"fomm_{network}").items()
    }
    ours = {name: tuple(value.shape) for name, value in official.state_dict().items()}
    assert dict(zip(official.to_official(ours), ours.values(), strict=True)) == wanted
    assert dict(zip(official.from_official(wanted), wanted.values(), strict=True)) == ours


def test_every_answer_is_the_official_one(official: Method) -> None:
    source, driving, answers = golden("fomm")
    with torch.no_grad():
        ours = official.forward_pair(source, driving)
    for name, value in answers.items():
        assert ours[name].shape == value.shape, name
        assert torch.allclose(ours[name], value, rtol=0, atol=1e-5), name


def test_driving_is_the_same_as_a_pair(official: Method) -> None:
    source, driving, answers = golden("fomm")
    state = official.prepare(torch.cat((driving, source)), frame=1)
    moved = official.drive(state, torch.cat((source, driving)))
    assert torch.allclose(moved[1:], answers["prediction"], rtol=0, atol=1e-5)


def test_parameters_of_the_official_networks(official: Method) -> None:
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in official.networks().items()}
    assert sizes == {"generator": 45_575_391, "kp_detector": 14_215_368}  # kernels are no parameters


@pytest.mark.parametrize(("height", "width", "levels"), [(64, 64, 4), (96, 96, 3), (256, 256, 5), (64, 128, 4)])
def test_other_sizes(height: int, width: int, levels: int) -> None:
    method = small(min(height, width), levels)
    with torch.no_grad():
        answer = method.forward_pair(frames(1, 3, height, width), frames(1, 3, height, width).flip(-1))
    assert answer["prediction"].shape == (1, 3, height, width)
    assert answer["occlusion"].shape == (1, 1, height // 4, width // 4)
    assert answer["prediction"].isfinite().all()
    assert answer["prediction"].std() > 0.01


def test_a_motion_of_another_resolution_than_the_features() -> None:
    method = small(64, 3, scale=0.125, downs=1)  # motion at 8x8, features at 32x32
    assert isinstance(method, Fomm)
    source, driving = frames(2, 3, 64, 64), frames(2, 3, 64, 64).flip(-1)
    with torch.no_grad():
        answer = method.forward_pair(source, driving)
        features = method.generator.encode(source)[-1]
        flow = answer["flow"].permute(0, 3, 1, 2)
        size = {"size": (32, 32), "mode": "bilinear"}
        grid = torch.nn.functional.interpolate(flow, **size).permute(0, 2, 3, 1)
        moved = torch.nn.functional.grid_sample(features, grid, align_corners=False)
        moved = moved * torch.nn.functional.interpolate(answer["occlusion"], **size)
        out = method.generator.up[0](method.generator.bottleneck(moved))
        expected = method.generator.final(out).sigmoid()
    assert torch.allclose(answer["prediction"], expected, atol=1e-5)


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"frames of 64x64; allowed: sides that are multiples of 128"):
        build("fomm", 64)
    method = small(64, 4)
    with pytest.raises(UserError, match="frames of 70x64"):
        method.prepare(frames(1, 3, 64, 70))


@pytest.mark.parametrize("motion", ["absolute", "relative"])
def test_a_batch_is_the_same_as_one_by_one(motion: str) -> None:
    method = small(64, 4)
    state, driving = method.prepare(frames(3, 3, 64, 64)), frames(4, 3, 64, 64).flip(-1)
    together = method.drive(state, driving, motion, first=driving[0])
    alone = torch.cat([method.drive(state, frame[None], motion, first=driving[0]) for frame in driving])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(method.drive(state, driving, motion), together, atol=1e-5)  # the first frame is the default
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_relative_motion_of_a_still_video_moves_nothing() -> None:
    method = small(64, 4)
    still = frames(1, 3, 64, 64).expand(3, -1, -1, -1)
    subject = frames(1, 3, 64, 64).flip(-1)
    with torch.no_grad():
        own = method.forward_pair(subject, subject)["prediction"]
    moved = method.drive(method.prepare(subject), still, "relative")
    assert torch.allclose(moved, own.expand_as(moved), atol=1e-4)


def test_relative_keypoints() -> None:
    def points(seed: int, batch: int = 1) -> Keypoints:
        g = torch.Generator().manual_seed(seed)
        return Keypoints(
            torch.rand(batch, 5, 2, generator=g), torch.eye(2) + 0.2 * torch.randn(batch, 5, 2, 2, generator=g)
        )

    source, driving, first = points(0), points(1, 3), points(2)
    still = relative_keypoints(source, first, first)
    assert torch.allclose(still.value, source.value, atol=1e-6)
    assert still.jacobian is not None and source.jacobian is not None
    assert torch.allclose(still.jacobian, source.jacobian, atol=1e-5)
    moved = relative_keypoints(source, driving, first)
    assert moved.jacobian is not None and driving.jacobian is not None and first.jacobian is not None
    assert torch.allclose(moved.value[2, 4], source.value[0, 4] + driving.value[2, 4] - first.value[0, 4])
    expected = driving.jacobian[2, 4] @ first.jacobian[0, 4].inverse() @ source.jacobian[0, 4]
    assert torch.allclose(moved.jacobian[2, 4], expected, atol=1e-5)
    double = Keypoints(first.value * 0.5, first.jacobian)  # a driving head of half the size
    scaled = relative_keypoints(first, driving, double, adapt_scale=True)
    assert torch.allclose(scaled.value, first.value + 2 * (driving.value - double.value), atol=1e-5)


def test_a_new_detector_has_identities_for_jacobians() -> None:
    found = build("fomm", 64, detector_levels=4, motion_levels=4, **SMALL).networks()["kp_detector"](
        frames(2, 3, 64, 64)
    )
    assert torch.allclose(found.jacobian, torch.eye(2).expand(2, 5, 2, 2), atol=1e-6)


def test_align_corners_reaches_the_sampling() -> None:
    states = official_states(small(64, 4))
    pair = frames(1, 3, 64, 64), frames(1, 3, 64, 64).flip(-1)
    answers = []
    for align_corners in (False, True):
        method = small(64, 4, align_corners=align_corners).load_official(states)
        with torch.no_grad():
            answers.append(method.forward_pair(*pair)["prediction"])
    assert not torch.allclose(*answers, atol=1e-3)


def test_bfloat16_is_close() -> None:
    method = small(64, 4)
    pair = frames(1, 3, 64, 64), frames(1, 3, 64, 64).flip(-1)
    with torch.no_grad():
        exact = method.forward_pair(*pair)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = method.forward_pair(*pair)
    assert {v.dtype for v in rough.values()} == {torch.float32}
    assert (rough["prediction"] - exact["prediction"]).abs().mean() < 1e-2


def test_it_can_be_trained() -> None:
    method = small(64, 4).train()
    method.forward_pair(frames(2, 3, 64, 64), frames(2, 3, 64, 64).flip(-1))["prediction"].mean().backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_seeds_make_other_weights() -> None:
    assert not torch.equal(fill("a.weight", (3, 3)), fill("a.weight", (3, 3), seed=1))
