"""DaGAN against the official code's answers, with both of its depth networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fill import fill, golden, is_fixed, official_shapes
from torch import Tensor

from head3d.assets import cache
from head3d.baselines import build
from head3d.baselines.dagan.depth import DepthDecoder
from head3d.baselines.dagan.generator import CrossModalAttention
from head3d.baselines.dagan.method import Dagan
from head3d.baselines.inference import for_inference
from head3d.errors import UserError

SMALL = {
    "depth_layers": 18, "keypoints": 3, "detector_width": 4, "detector_most": 16, "detector_levels": 4, "width": 8,
    "most": 32, "residuals": 1, "motion_width": 4, "motion_most": 16, "motion_levels": 4,
}  # fmt: skip


def numbered(network: str, layers: int) -> str:
    """Name that a network's golden weights were made from: depth networks say how deep their ResNet is."""
    return f"{network}{layers}" if network.startswith("depth") else network


def filled(method: Dagan, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    states: dict[str, dict[str, Tensor]] = {}
    ours = method.state_dict()
    for full, value in zip(method.to_official(ours), ours.values(), strict=True):
        network, _, name = full.partition(".")
        network = numbered(network, method.depth_layers)
        made = value.clone() if is_fixed(name) else fill(f"{network}.{name}", tuple(value.shape), seed)
        states.setdefault(network, {})[name] = made
    return states


def small(image_size: int = 64, **settings: object) -> Dagan:
    method = build("dagan", image_size, **{**SMALL, **settings})
    assert isinstance(method, Dagan)
    return method.load_official(filled(method))


def frames(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layers", [50, 18])
@torch.inference_mode()
def test_answers_are_the_official_ones(layers: int) -> None:
    method = build("dagan", 128, depth_layers=layers)
    assert isinstance(method, Dagan)
    method.load_official(filled(method))
    source, driving, answers = golden("dagan")
    answers = {name.removesuffix(str(layers)): value for name, value in answers.items() if name.endswith(str(layers))}
    ours = method.forward_pair(source, driving)
    assert len(answers) == 5
    for name, value in answers.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    driven = method.drive(method.prepare(source), driving)
    torch.testing.assert_close(driven, answers["prediction"], rtol=0, atol=1e-5)
    fast = for_inference(method, torch.bfloat16)
    driven = fast.drive(fast.prepare(source), driving)
    torch.testing.assert_close(driven, answers["prediction"], rtol=0, atol=1e-2)


@pytest.mark.parametrize("layers", [50, 18])
def test_names_and_shapes_are_the_official_ones(layers: int) -> None:
    with torch.device("meta"):
        method = build("dagan", 128, depth_layers=layers)
    official = {
        f"{network}.{name}": shape
        for network in method.networks()
        for name, shape in official_shapes(f"dagan_{numbered(network, layers)}").items()
    }
    ours = {name: tuple(value.shape) for name, value in method.state_dict().items()}
    assert dict(zip(Dagan.to_official(ours), ours.values(), strict=True)) == official
    assert dict(zip(Dagan.from_official(official), official.values(), strict=True)) == ours


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (128, 64)])
@torch.inference_mode()
def test_frames_of_a_batch_do_not_influence_each_other(size: tuple[int, int]) -> None:
    method, (source, *driving) = small(), frames(4, *size)
    state = method.prepare(source[None])
    together = method.drive(state, torch.stack(driving))
    pairs = method.forward_pair(torch.stack((source, driving[1])), torch.stack(driving[:2]))
    assert together.shape == (3, 3, *size)
    for index, frame in enumerate(driving):
        torch.testing.assert_close(method.drive(state, frame[None])[0], together[index], rtol=0, atol=1e-5)
    torch.testing.assert_close(pairs["prediction"][0], together[0], rtol=0, atol=1e-5)
    alone = method.forward_pair(driving[1][None], driving[1][None])
    torch.testing.assert_close(pairs["prediction"][1], alone["prediction"][0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_relative_motion_starts_at_the_source() -> None:
    method, (source, *rest) = small(), frames(4)
    driving = torch.stack(rest)
    state = method.prepare(torch.stack((driving[0], source)), frame=1)
    still = method.drive(state, source[None])
    torch.testing.assert_close(method.drive(state, driving, "relative")[:1], still, rtol=0, atol=1e-4)
    later = method.drive(state, driving[1:], "relative", first=driving[0])
    torch.testing.assert_close(later, method.drive(state, driving, "relative")[1:], rtol=0, atol=1e-4)


def test_attention_is_the_softmax_of_plain_products() -> None:
    torch.manual_seed(0)
    layer = CrossModalAttention(16)
    torch.nn.init.constant_(layer.gamma, 0.7)
    depth, seen = torch.randn(2, 16, 3, 4), torch.randn(2, 16, 3, 4)
    out = layer(depth, seen)
    query, key, value = layer.query(depth).relu(), layer.key(seen).relu(), layer.value(seen).relu()
    for b in range(2):
        for y in range(3):
            for x in range(4):
                energy = (query[b, :, y, x, None, None] * key[b]).sum(dim=0)
                share = energy.flatten().softmax(dim=0).view(3, 4)
                expected = 0.7 * (value[b] * share).sum(dim=(1, 2)) + seen[b, :, y, x]
                torch.testing.assert_close(out[b, :, y, x], expected, rtol=0, atol=1e-5)


def test_attention_starts_at_nothing() -> None:
    seen = torch.randn(1, 16, 3, 4)
    assert torch.equal(CrossModalAttention(16)(torch.randn(1, 16, 3, 4), seen), seen)


def test_disparities_of_every_level() -> None:
    torch.manual_seed(0)
    decoder = DepthDecoder((8, 8, 8, 8, 8), (4, 4, 4, 4, 4))
    features = [torch.randn(1, 8, 128 >> i, 64 >> i) for i in range(1, 6)]
    levels = decoder(features, (0, 1, 2, 3))
    assert [tuple(d.shape) for d in levels] == [(1, 1, 128 >> i, 64 >> i) for i in range(4)]
    assert torch.equal(decoder(features, (2,))[0], levels[2])
    x = torch.randn(1, 4, 5, 6)
    padded = torch.cat((x[..., 1:2], x, x[..., -2:-1]), dim=3)
    padded = torch.cat((padded[..., 1:2, :], padded, padded[..., -2:-1, :]), dim=2)
    conv = decoder.after[0].conv
    assert isinstance(conv, torch.nn.Conv2d)
    torch.testing.assert_close(decoder.after[0](x), F.conv2d(padded, conv.weight, conv.bias))


def test_depth_stays_and_everything_else_learns() -> None:
    method = small().train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    answer = method.forward_pair(frames(2), frames(2, seed=1))
    answer["prediction"].mean().backward()
    still = {name.partition(".")[0] for name, p in method.named_parameters() if p.grad is None}
    assert still == {"depth_encoder", "depth_decoder"}
    changed = {n.partition(".")[0] for n, v in method.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"generator", "kp_detector"}  # statistics of their normalisations


def test_depth_may_come_from_elsewhere() -> None:
    method = small()
    before = method.disparity(frames(1))
    states = filled(method, seed=5)
    plain = {name.removesuffix("18"): state for name, state in states.items()}
    method.load_official({name: plain[name] for name in ("generator", "kp_detector")})
    assert torch.equal(method.disparity(frames(1)), before)
    assert method.lacks == ("depth_encoder", "depth_decoder")
    method.load_official({**plain, "optimizer": {"lr": 1.0}})
    assert not torch.equal(method.disparity(frames(1)), before)
    assert method.lacks == ()


def test_depth_that_a_checkpoint_lacks_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the files that its authors publish apart: never by networks that were just made up."""
    method = small()
    states = {name.removesuffix("18"): state for name, state in filled(method, seed=5).items()}
    for part in ("encoder", "decoder"):
        torch.save(states[f"depth_{part}"], tmp_path / f"dagan-depth-{part}18")
    asked: list[str] = []

    def fetch_all(names: list[str]) -> dict[str, Path]:
        asked.extend(names)
        return {name: tmp_path / name for name in names}

    monkeypatch.setattr(cache, "fetch_all", fetch_all)
    method.complete()
    assert asked == []  # it lacks nothing
    method.load_official({name: states[name] for name in ("generator", "kp_detector")})
    method.complete()
    assert asked == ["dagan-depth-encoder18", "dagan-depth-decoder18"] and method.lacks == ()
    whole = small()
    whole.load_official(states)
    assert torch.equal(method.disparity(frames(1)), whole.disparity(frames(1)))


def test_errors_are_one_line() -> None:
    method = small()
    states = filled(method)
    states["depth_decoder18"]["decoder.3.conv.conv.bias"] = torch.zeros(7)
    with pytest.raises(UserError, match=r"1 of another shape \(depth_decoder.decoder.3.conv.conv.bias") as error:
        method.load_official(states)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="lacks the network generator") as error:
        method.load_official({"kp_detector": states["kp_detector"]})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="depth_layers is 34"):
        build("dagan", 128, depth_layers=34)
    with pytest.raises(UserError, match="multiples of 128"):
        build("dagan", 64)
    with pytest.raises(UserError, match="motion is 'free'"):
        method.drive(method.prepare(frames(1)), frames(1), "free")
