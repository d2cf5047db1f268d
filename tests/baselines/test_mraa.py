"""MRAA against the answers of its official code, and what must hold at any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fill import golden, official_shapes, official_states
from torch import Tensor

from head3d.baselines import build
from head3d.baselines.method import Method
from head3d.baselines.mraa.method import Mraa
from head3d.baselines.mraa.regions import (
    Regions,
    align_axes,
    gram,
    principal_axes,
    relative_regions,
    stretched,
    to_source,
)
from head3d.baselines.mraa.training import Training
from head3d.baselines.objective import Pairs
from head3d.errors import UserError
from head3d.params import Params

SMALL = {
    "regions": 5,
    "width": 8,
    "most": 16,
    "residuals": 2,
    "detector_width": 4,
    "detector_most": 16,
    "motion_width": 8,
    "motion_most": 32,
    "background_width": 4,
    "background_most": 16,
    "identity": 8,
    "pose": 12,
}


def small(image_size: int, levels: int, **settings: object) -> Mraa:
    method = build("mraa", image_size, detector_levels=levels, motion_levels=levels, **SMALL, **settings)
    assert isinstance(method, Mraa)
    return method.load_official(official_states(method, seed=3))


def frames(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def official() -> Method:
    method = build("mraa")
    return method.load_official(official_states(method))


def test_names_and_shapes_are_the_official_ones(official: Method) -> None:
    wanted = {
        f"{network}.{name}": shape
        for network in ("generator", "region_predictor", "bg_predictor", "avd_network")
        for name, shape in official_shapes(f"mraa_{network}").items()
    }
    ours = {name: tuple(value.shape) for name, value in official.state_dict().items()}
    assert dict(zip(official.to_official(ours), ours.values(), strict=True)) == wanted
    assert dict(zip(official.from_official(wanted), wanted.values(), strict=True)) == ours


def test_every_answer_is_the_official_one(official: Method) -> None:
    source, driving, answers = golden("mraa")
    with torch.no_grad():
        ours = official.forward_pair(source, driving)
    for name, value in answers.items():
        assert ours[name].shape == value.shape, name
        assert torch.allclose(ours[name], value, rtol=0, atol=1e-5), name


def test_driving_is_the_same_as_a_pair(official: Method) -> None:
    source, driving, answers = golden("mraa")
    state = official.prepare(torch.cat((driving, source)), frame=1)
    moved = official.drive(state, torch.cat((source, driving)))
    assert torch.allclose(moved[1:], answers["prediction"], rtol=0, atol=1e-5)


def test_parameters_of_the_official_networks(official: Method) -> None:
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in official.networks().items()}
    assert sizes == {
        "generator": 45_575_391,
        "region_predictor": 14_146_728,
        "bg_predictor": 6_282_438,
        "avd_network": 2_290_620,
    }


@pytest.mark.parametrize(("height", "width", "levels"), [(64, 64, 4), (96, 96, 3), (256, 256, 5), (64, 128, 4)])
def test_other_sizes(height: int, width: int, levels: int) -> None:
    method = small(min(height, width), levels)
    with torch.no_grad():
        answer = method.forward_pair(frames(1, 3, height, width), frames(1, 3, height, width).flip(-1))
    assert answer["prediction"].shape == (1, 3, height, width)
    assert answer["occlusion"].shape == (1, 1, height // 4, width // 4)
    assert answer["prediction"].isfinite().all()


def test_skips_blend_by_occlusion_at_every_resolution() -> None:
    method = small(64, 4)
    source, driving = frames(2, 3, 64, 64), frames(2, 3, 64, 64).flip(-1)
    with torch.no_grad():
        answer = method.forward_pair(source, driving)
        net, flow, occlusion = method.generator, answer["flow"].permute(0, 3, 1, 2), answer["occlusion"]

        def moved(x: Tensor) -> tuple[Tensor, Tensor]:
            size = {"size": x.shape[-2:], "mode": "bilinear"}
            grid = F.interpolate(flow, **size).permute(0, 2, 3, 1)
            return F.grid_sample(x, grid, align_corners=False), F.interpolate(occlusion, **size)

        full, half, quarter = net.encode(source)
        seen, share = moved(quarter)
        out = net.bottleneck(seen * share)
        out = net.up[0](seen * share + out * (1 - share))
        seen, share = moved(half)
        out = net.up[1](seen * share + out * (1 - share))
        seen, share = moved(full)
        out = net.final(seen * share + out * (1 - share)).sigmoid()
        seen, share = moved(source)
        expected = seen * share + out * (1 - share)
    assert torch.allclose(answer["prediction"], expected, atol=1e-5)


@pytest.mark.parametrize("motion", ["absolute", "relative", "avd"])
def test_a_batch_is_the_same_as_one_by_one(motion: str) -> None:
    method = small(64, 4)
    state, driving = method.prepare(frames(3, 3, 64, 64)), F.interpolate(frames(4, 3, 4, 4), size=(64, 64))
    together = method.drive(state, driving, motion, first=driving[0])
    alone = torch.cat([method.drive(state, frame[None], motion, first=driving[0]) for frame in driving])
    assert torch.allclose(together, alone, atol=1e-4)  # random regions are thin: rounding grows a thousandfold
    assert (together[0] - together[1]).abs().mean() > 3 * (together - alone).abs().mean()


def test_unknown_motions_are_named() -> None:
    method = small(64, 4)
    with pytest.raises(UserError, match="motion is 'fast'; allowed: absolute, relative, avd"):
        method.drive(method.prepare(frames(1, 3, 64, 64)), frames(1, 3, 64, 64), "fast")


def regions(seed: int, batch: int = 1) -> Regions:
    g = torch.Generator().manual_seed(seed)
    affine = torch.eye(2) + 0.3 * torch.randn(batch, 5, 2, 2, generator=g)
    return Regions(torch.rand(batch, 5, 2, generator=g), gram(affine), affine)


def test_relative_motion_of_a_still_video_moves_nothing() -> None:
    source, first = regions(0), regions(1)
    still = relative_regions(source, first, first)
    assert torch.allclose(still.shift, source.shift, atol=1e-6)
    assert torch.allclose(still.affine, source.affine, atol=1e-5)


def test_relative_regions_keep_the_driving_covariances_and_scale_the_movement() -> None:
    source, driving = regions(0), regions(1, 3)
    half = Regions(source.shift * 0.5, source.covar, source.affine)  # a driving head of half the size
    moved = relative_regions(source, driving, half)
    assert torch.equal(moved.covar, driving.covar)
    assert torch.allclose(moved.shift, source.shift + 2 * (driving.shift - half.shift), atol=1e-5)
    assert torch.allclose(moved.affine, driving.affine, atol=1e-5)


def test_principal_axes_are_a_root_of_the_covariance() -> None:
    covar = regions(2, 4).covar
    axes = principal_axes(covar)
    assert torch.allclose(gram(axes), covar, atol=1e-5)
    between_axes = axes[..., 0] * axes[..., 1]
    assert torch.allclose(between_axes.sum(dim=-1), torch.zeros(4, 5), atol=1e-5)
    assert (axes[..., 0].norm(dim=-1) >= axes[..., 1].norm(dim=-1)).all()


def test_opposite_axes_are_aligned() -> None:
    source = regions(3, 2).affine
    assert torch.allclose(align_axes(to_source(-source, source)), torch.eye(2).expand(2, 5, 2, 2), atol=1e-5)


def test_avd_takes_no_notice_of_opposite_axes() -> None:
    method = small(64, 4)
    identity, pose = regions(4, 2), regions(5, 2)
    turned = Regions(identity.shift, identity.covar, -identity.affine)
    with torch.no_grad():
        one, other = method.avd_network(identity, pose), method.avd_network(turned, pose)
    assert torch.allclose(one.affine, other.affine, atol=1e-5)
    assert torch.allclose(one.covar, one.affine @ one.affine.mT, atol=1e-6)


def test_a_new_background_predictor_moves_nothing() -> None:
    net = build("mraa", 64, detector_levels=4, motion_levels=4, **SMALL).networks()["bg_predictor"]
    with torch.no_grad():
        assert torch.equal(net(frames(2, 3, 64, 64), frames(2, 3, 64, 64)), torch.eye(3).expand(2, 3, 3))


def test_it_can_be_trained() -> None:
    method = small(64, 4).train()
    answer = method.forward_pair(frames(2, 3, 64, 64), frames(2, 3, 64, 64).flip(-1))
    assert "avd_shift" not in answer  # trained on its own, later
    answer["prediction"].mean().backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert all(name.startswith("avd_network.") for name in without)


# --- training of the AVD network --------------------------------------------------------------------------------------


def test_regions_are_stretched_frame_by_frame() -> None:
    plain = regions(6, 400)
    got = stretched(plain, 0.25, torch.Generator().manual_seed(0))
    factors = got.shift / plain.shift  # (B, K, 2): along x, along y
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-3)  # one stretch for all of a frame
    x, y = factors[:, 0].unbind(-1)
    for one in (x, y):
        assert 0.75 <= float(one.min()) < 0.77 and 1.23 < float(one.max()) <= 1.2501
    assert abs(float(torch.corrcoef(torch.stack((x, y)))[0, 1])) < 0.15
    for frame in (0, 1):
        stretch = torch.diag(factors[frame, 0])
        for k in range(5):
            assert torch.allclose(got.affine[frame, k], stretch @ plain.affine[frame, k], atol=1e-5)
            assert torch.allclose(got.covar[frame, k], stretch @ plain.covar[frame, k] @ stretch.T, atol=1e-5)


def avd_training(params: Params, **settings: object) -> Training:
    chosen = params.baseline.mraa.model_copy(update=settings)
    return Training(small(64, 4).eval(), chosen, lambda predicted, truth: (predicted - truth).abs().mean())


def pairs(number: int) -> Pairs:
    images = torch.rand(2, 6, 3, 64, 64, generator=torch.Generator().manual_seed(number))
    return Pairs(*images, *torch.ones(2, 6, 1, 64, 64))


def test_the_avd_network_is_taught_to_give_back_unstretched_regions(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = avd_training(tiny, avd_random_scale=0.2)
    shown, answer = [], regions(7, 6)
    monkeypatch.setattr(training.method.avd_network, "forward", lambda *given: shown.append(given) or answer)
    got = training.avd_losses(3, lambda number: pairs(3), torch.Generator().manual_seed(1))
    with torch.no_grad():
        source, driving = (training.method.region_predictor(x) for x in (pairs(3).source, pairs(3).driving))
    ((identity, pose),) = shown
    assert torch.equal(identity.affine, source.affine) and torch.equal(identity.shift, source.shift)
    assert torch.equal(pose.affine, stretched(driving, 0.2, torch.Generator().manual_seed(1)).affine)
    shift, affine = (driving.shift - answer.shift).abs().mean(), (driving.affine - answer.affine).abs().mean()
    assert float(got["loss"]) == pytest.approx(float(shift + affine))
    assert got.keys() == {"loss", "avd_shift", "avd_affine"}


@pytest.mark.parametrize(("draws", "asked"), [(2, [0, 1]), (0, [0, 1, 2, 3, 4])])
def test_regions_of_repeated_frames_are_kept(tiny: Params, draws: int, asked: list[int]) -> None:
    training, numbers = avd_training(tiny, avd_draws=draws), []
    for step in range(5):
        training.regions_of(step, lambda number: numbers.append(number) or pairs(number))
    assert numbers == asked


def test_the_avd_network_alone_learns_after_the_rest(tiny: Params) -> None:
    training = avd_training(tiny, avd_epochs=30, avd_repeats=2000, avd_batch_size=256, avd_milestones=(20, 25))
    part = training.posttraining(clips=100)
    assert (part.steps, part.drops) == (30 * 782, (20 * 782, 25 * 782))
    before = {name: value.clone() for name, value in training.method.state_dict().items()}
    part.network.requires_grad_(True).train()
    optimizer = torch.optim.Adam(part.network.parameters(), lr=part.lr)
    values = []
    for step in range(60):
        loss = part.losses(step % 2, pairs, torch.Generator().manual_seed(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.3 * sum(values[:5])
    moved = {name for name, value in training.method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and {name.partition(".")[0] for name in moved} == {"avd_network"}
    assert all(p.grad is None for name, p in training.method.named_parameters() if not name.startswith("avd_network"))
