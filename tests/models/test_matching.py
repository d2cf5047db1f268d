"""The matcher: cost volumes against known shifts, and no motion where nothing can be compared."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from head3d.geometry import double_flow, warp
from head3d.models.fusion import FusionNet
from head3d.models.matching import ROUNDS, SHARPER, Level, Matcher, correlate


def textured(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, -1), (-3, 3)])
def test_costs_are_highest_at_the_true_shift(x: int, y: int) -> None:
    a = textured(1, 16)
    reach = 3
    costs = correlate(a, a.roll((y, x), dims=(2, 3)), reach)[0, :, 4:-4, 4:-4]
    assert (costs.argmax(dim=0) == (y + reach) * (2 * reach + 1) + x + reach).all()
    assert float(costs.max()) == pytest.approx(1, abs=1e-3)


def plain_costs(a: torch.Tensor, b: torch.Tensor, reach: int) -> torch.Tensor:
    """An offset after another, as one would write it down."""
    a, b = (F.normalize(F.instance_norm(x), dim=1) for x in (a, b))
    height, width = a.shape[-2:]
    around, window = F.pad(b, (reach,) * 4), range(2 * reach + 1)
    return torch.stack([(a * around[..., y : y + height, x : x + width]).sum(dim=1) for y in window for x in window], 1)


@pytest.mark.parametrize(("height", "width"), [(9, 32), (16, 16), (7, 11), (3, 2)])
@pytest.mark.parametrize("reach", [1, 4])
def test_costs_and_gradients_by_matrix_products_are_those_of_an_offset_after_another(
    height: int, width: int, reach: int
) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 5, height, width, generator=rng)
    weight = torch.rand(2, (2 * reach + 1) ** 2, height, width, generator=rng)
    answers = []
    for costs in (correlate, plain_costs):
        a, b = (x.clone().requires_grad_() for x in images)
        found = costs(a, b, reach)
        (found * weight).sum().backward()
        answers.append((found.detach(), a.grad, b.grad))
    torch.testing.assert_close(*answers, atol=2e-5, rtol=1e-4)


def test_costs_of_features_in_bfloat16_are_made_in_float32() -> None:
    a, b = textured(1, 16).bfloat16(), textured(1, 16, seed=1).bfloat16()
    costs = correlate(a, b, 2)
    assert costs.dtype == torch.float32
    torch.testing.assert_close(costs, plain_costs(a.float(), b.float(), 2), atol=1e-5, rtol=0)


def test_features_of_no_contrast_cost_nothing_and_have_finite_gradients() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    costs = correlate(flat, textured(1, 8), 1)
    costs.sum().backward()
    assert flat.grad is not None and bool(flat.grad.isfinite().all())
    assert float(costs.detach().abs().max()) == 0


def test_costs_are_exact_under_autocast() -> None:
    a, b = textured(1, 16), textured(1, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = correlate(a, b, 2)
    torch.testing.assert_close(within, correlate(a, b, 2), atol=0, rtol=0)


def test_light_and_contrast_do_not_count() -> None:
    a, b = textured(1, 16), textured(1, 16, seed=1)
    torch.testing.assert_close(correlate(a, 0.4 * b + 0.3, 2), correlate(a, b, 2), atol=1e-3, rtol=0)


def test_flows_of_every_level_in_the_scale_of_the_image() -> None:
    torch.manual_seed(0)
    matcher = Matcher()
    flows = matcher(textured(2, 64), textured(2, 64, seed=1))
    assert [tuple(f.shape) for f in flows] == [(2, 2, 64, 64)] * 3
    assert tuple(matcher.flow(textured(2, 64), textured(2, 64)).shape) == (2, 2, 64, 64)


def test_what_a_level_finds_lies_where_it_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell j of a level is centred on pixel 2 j, 4 j or 8 j, as its convolutions of stride 2 are."""
    matcher = Matcher()
    bump = torch.zeros(1, 3, 64, 64)
    bump[..., 40, 24] = 1
    hat = torch.tensor((1.0, 2.0, 1.0))
    for part in matcher.encoders.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.weight.data.copy_(torch.outer(hat, hat).expand_as(part.weight))
            part.bias = None
    places = [x.sum(dim=1)[0].flatten().argmax() for x in matcher._features(bump)]
    sides = (32, 16, 8)
    assert [divmod(int(place), side) for place, side in zip(places, sides, strict=True)] == [(20, 12), (10, 6), (5, 3)]
    x = torch.arange(64.0).expand(1, 1, 64, 64)
    flow = torch.cat((0.1 * x, 0.2 * x.mT), dim=1)
    of_levels = [flow[..., ::stride, ::stride] / stride for stride in (8, 4, 2)]
    monkeypatch.setattr(matcher, "_between", lambda source, target: of_levels)
    for found, stride in zip(matcher(bump, bump), (8, 4, 2), strict=True):
        inner = (..., slice(65 - stride), slice(65 - stride))  # beyond the last cell it goes on as it was
        torch.testing.assert_close(found[inner], flow[inner])


def test_a_level_begins_with_what_the_coarser_one_has_found() -> None:
    torch.manual_seed(0)
    matcher, given = Matcher(), []
    for level in matcher.levels:
        level.register_forward_hook(lambda level, inputs, found: given.append((inputs[2], found)))
    matcher(textured(1, 64), textured(1, 64, seed=1))
    assert not given[0][0].any()
    for (_, found), (start, _) in itertools.pairwise(given):
        assert torch.equal(start, double_flow(found, *start.shape[-2:]))


def test_it_learns_a_shift() -> None:
    """Fifty steps are enough to tell single shifts of one texture."""
    torch.manual_seed(0)
    matcher, image = Matcher(channels=(8, 8), reaches=(2, 2), widths=(16, 16)), textured(1, 32)
    image = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    optimizer = torch.optim.Adam(matcher.parameters(), 3e-3)
    shifts = torch.tensor([[2, 0], [-2, 0], [0, 2], [0, -2]])
    seen = torch.cat([image.roll((-int(y), -int(x)), dims=(2, 3)) for x, y in shifts])
    truth = shifts[:, :, None, None].float().expand(-1, -1, 32, 32)
    for _ in range(50):
        error = (matcher.flow(image.expand(4, -1, -1, -1), seen) - truth).norm(dim=1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert float(error.detach()) < 1.0  # of shifts by two pixels


def test_a_second_round_finds_what_the_first_one_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round finds half of what is left of four pixels, told by a ramp whose values are places."""
    matcher, ramp = Matcher(), torch.arange(32.0).expand(1, 3, 32, 32)

    def half(source: list[torch.Tensor], target: list[torch.Tensor]) -> list[torch.Tensor]:
        along = (target[0] - source[0])[:, :1] / 2 / 2  # half of it, in cells of two pixels
        return [torch.cat((along, torch.zeros_like(along)), dim=1)]

    monkeypatch.setattr(matcher, "_features", lambda image: [image[..., ::2, ::2]])
    monkeypatch.setattr(matcher, "_between", half)
    found = matcher.flow(ramp, ramp + 4)[0, :, :, :24]  # further right the source ends
    assert ROUNDS == 2
    assert torch.allclose(found[0], torch.tensor(3.0)) and not found[1].any()


def test_phi_matches_unless_it_is_told_what_has_moved() -> None:
    torch.manual_seed(0)
    net = FusionNet(width=4, blocks=1, flow_width=4, flow_max=8, flow_scale=0.5, matching=True).eval()
    head, reference, driving = textured(1, 64), textured(1, 64, seed=1), textured(1, 64, seed=2)
    assert net.matcher is not None
    found = net.matcher.flow(reference, driving)
    plain, same, other = (net(head, reference, driving, nonrigid_flow=m) for m in (None, found, found + 1))
    assert torch.equal(plain.frame, same.frame)
    assert not torch.equal(plain.reference_flow, other.reference_flow)


def test_a_level_compares_the_target_with_the_source_where_the_flow_leads() -> None:
    torch.manual_seed(0)
    level, seen = Level(3, 1, 8), []
    level.body.register_forward_pre_hook(lambda body, given: seen.append(given[0]))
    source, target, flow = textured(1, 16), textured(1, 16, seed=1), torch.full((1, 2, 16, 16), 2.0)
    found = level(source, target, flow)
    assert torch.equal(seen[0], torch.cat((SHARPER * correlate(target, warp(source, flow), 1), target, flow), dim=1))
    assert (found - flow).abs().max() < 0.1, "it corrects what it is given"
