"""Shapes, starting points and invariances of the networks."""

import pytest
import torch
from torch import nn

from head3d.compute import Compute
from head3d.geometry import pixel_grid, pose_from_euler, warp
from head3d.models import canonical
from head3d.models.blocks import STRIDE, ImageEncoder, at_cells, imagenet
from head3d.models.canonical import CanonicalNet
from head3d.models.depth import DepthNet
from head3d.models.fusion import FusionNet
from head3d.models.head3d import Canonical, HeadGeometry, freeze, recurrent_canonical
from head3d.models.pose import PoseNet


def small_fusion(**settings: object) -> FusionNet:
    torch.manual_seed(0)
    return FusionNet(width=8, blocks=1, flow_width=8, flow_max=32, **settings).eval()  # type: ignore[arg-type]


def frames(count: int, size: int = 128, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [64, 128, 130])
def test_features_are_carried_as_the_image_is(size: int) -> None:
    """E of a moved image is E of the image, moved: everywhere, not only where aligned corners agree with the stride."""
    torch.manual_seed(0)
    encoder = ImageEncoder(8, 1).eval()
    image, move = frames(1, size), 16  # four cells
    moved = torch.zeros_like(image)
    moved[..., :-move] = image[..., move:]
    flow = torch.zeros(1, 2, size, size)
    flow[:, 0] = move
    with torch.no_grad():
        features, wanted = encoder(image), encoder(moved)
    assert at_cells(image).shape[-2:] == features.shape[-2:]
    carried = warp(features, at_cells(flow) / STRIDE)
    inside = slice(5, features.shape[-1] - 4 - 5)  # what the padding of the convolutions has not reached
    torch.testing.assert_close(carried[..., inside], wanted[..., inside])


def test_a_map_is_read_where_cells_are_centred() -> None:
    encoder = ImageEncoder(4, 0)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1.0)  # keeps every ReLU open
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    encoder.eval()(image)[..., 7, 9].sum().backward()
    assert image.grad is not None
    felt = image.grad[0].abs().sum(dim=0)
    place = torch.arange(64.0)
    y, x = ((felt.sum(dim=dim) * place).sum() / felt.sum() for dim in (1, 0))
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    assert float(at_cells(rows[None, None])[..., 7, 9]) == pytest.approx(float(y), abs=1e-3)
    assert float(at_cells(columns[None, None])[..., 7, 9]) == pytest.approx(float(x), abs=1e-3)


def test_depth_net_of_the_paper_has_the_official_layout() -> None:
    net = DepthNet()
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items() if k.endswith("weight") and ("conv" in k)}
    # Facts of the official checkpoint of [20].
    assert shapes["conv2.weight"] == (768, 1280, 1, 1)
    assert [shapes[f"up.{i}.convA.weight"][:2] for i in range(6)] == [
        (384, 1088), (384, 544), (192, 448), (96, 224), (96, 120), (48, 112),
    ]  # fmt: skip
    assert shapes["conv3.weight"] == (1, 48, 3, 3)


@pytest.mark.parametrize("size", [64, 128])
def test_depth_is_bounded_and_full_size(size: int) -> None:
    depth = DepthNet(0.5, 0.15, range_m=0.1).eval()(frames(2, size))
    assert depth.shape == (2, 1, size, size)
    assert depth.abs().max() < 0.1


def test_pose_net_reads_the_place_from_the_head_image() -> None:
    torch.manual_seed(0)
    net = PoseNet("resnet18", 128).eval()
    x = torch.zeros(2, 3, 128, 128)
    x[0, :, 30:90, 20:70] = 0.5
    x[1, :, 30:90, 60:110] = 0.5
    with torch.no_grad():
        pose = net(x)
    assert pose.rotation.shape == (2, 3, 3)
    # 40 pixels further to the right, a little more than the 5.5 cm that the image spans there.
    assert float(pose.translation[1, 0] - pose.translation[0, 0]) > 0.03
    assert pose.translation.abs().amax(0)[0] <= net.bounds[0]


def test_the_first_guess_of_a_pose_scales_with_the_distance() -> None:
    """A head twice as small is twice as far away, whatever the unit."""
    x = torch.zeros(1, 3, 128, 128)
    x[:, :, 40:80, 50:90] = 0.5
    near = PoseNet("resnet18", 128, max_z_m=3.0).first_guess(x)
    far = PoseNet("resnet18", 128, max_xy_m=0.2, max_z_m=6.0, span_m=0.35, distance_m=2.0).first_guess(x)
    assert near[0, 2] > 0.5
    assert torch.allclose(far, 2 * near)


def test_hopenet_layout() -> None:
    net = PoseNet("resnet50")
    state = net.state_dict()
    assert state["fc_yaw.weight"].shape == (66, 2048)
    assert sum(k.startswith("backbone.") for k in state) == 318  # the 326 of HopeNet less its four linear layers


def test_residual_canonical_net_starts_at_the_mean_head() -> None:
    torch.manual_seed(0)
    net = CanonicalNet(width=8, blocks=1, residual=True).eval()
    heads = frames(6).unflatten(0, (2, 3))
    mask = torch.ones(2, 1, 128, 128)
    mask[:, :, :40], mask[:, :, 40:50] = 0, 0.5  # a soft edge
    mean = frames(2, seed=1) * mask
    flows = torch.zeros(6, 2, 128, 128).unflatten(0, (2, 3))
    out = net(heads, flows, torch.ones(2, 3, 1, 128, 128), mean, mask)
    assert (out - mean).abs().max() < 0.02
    last = net.decoder[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.ones_(last.weight)
    assert (net(heads, flows, torch.ones(2, 3, 1, 128, 128), mean, mask) - mean).abs()[:, :, :40].max() == 0


def test_features_are_carried_by_exact_flows_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places beyond 128 are rounded to whole pixels in bfloat16, smaller ones to parts of them."""
    used: list[torch.Tensor] = []

    def seen_warp(source: torch.Tensor, flow: torch.Tensor, **how: str) -> torch.Tensor:
        used.append(flow)
        return warp(source, flow, **how)

    monkeypatch.setattr(canonical, "warp", seen_warp)
    net = Compute(torch.device("cpu"), torch.bfloat16, False).place(CanonicalNet(width=8, blocks=1).eval())
    flows = torch.full((1, 1, 2, 64, 64), 20.3)
    net(frames(1, 64)[None], flows, torch.ones(1, 1, 1, 64, 64), frames(1, 64), torch.ones(1, 1, 64, 64))
    assert torch.allclose(used[0], torch.tensor(20.3 / STRIDE), atol=1e-5)


def test_recurrence_depends_on_every_reference() -> None:
    torch.manual_seed(0)
    net = CanonicalNet(width=8, blocks=1).eval()
    heads = frames(3)[None]
    flows = torch.zeros(3, 2, 128, 128)[None]
    seen, mean, mask = torch.ones(1, 3, 1, 128, 128), frames(1, seed=1), torch.ones(1, 1, 128, 128)
    base = net(heads, flows, seen, mean, mask)
    for index in range(3):
        changed = heads.clone()
        changed[0, index] = 1 - changed[0, index]
        assert not torch.allclose(net(changed, flows, seen, mean, mask), base)


@pytest.mark.parametrize(
    "settings", [{}, {"image_skip": True}, {"use_head": False}, {"image_skip": True, "use_head": False}]
)
def test_attention_sums_to_one(settings: dict[str, bool]) -> None:
    fused = small_fusion(**settings)(frames(2), frames(2, seed=1), frames(2, seed=2))
    assert fused.frame.shape == (2, 3, 128, 128)
    assert fused.attention.shape == (2, 3, 32, 32)
    assert torch.allclose(fused.attention.sum(dim=1), torch.ones(2, 32, 32), atol=1e-6)
    assert fused.frame.min() >= 0 and fused.frame.max() <= 1
    if not settings.get("use_head", True):
        assert fused.attention[:, 0].max() == 0


def test_masked_attention_is_on_the_head_alone() -> None:
    net, mask = small_fusion(image_skip=True, masked_attention=True), torch.zeros(1, 1, 128, 128)
    mask[..., :64] = 1
    fused = net(frames(1), frames(1, seed=1), frames(1, seed=2), None, mask)
    assert torch.allclose(fused.attention.sum(dim=1), torch.ones(1, 32, 32), atol=1e-6)
    assert fused.attention[:, 0, :, 17:].max() < 0.01
    assert fused.attention[:, 0, :, :15].min() > 0.2
    # Without a mask, attention is as it would be if the head filled the frame.
    everywhere = net(frames(1), frames(1, seed=1), frames(1, seed=2), None, torch.ones_like(mask))
    plain = net(frames(1), frames(1, seed=1), frames(1, seed=2))
    assert torch.allclose(everywhere.frame, plain.frame, atol=1e-5)


def test_flows_start_small() -> None:
    fused = small_fusion()(frames(1), frames(1, seed=1), frames(1, seed=2))
    assert fused.head_flow.abs().max() < 0.5
    assert (fused.deformed - frames(1, seed=1)).abs().mean() < 0.05


def test_without_the_head_the_output_ignores_it() -> None:
    net = small_fusion(use_head=False, image_skip=True)
    a = net(frames(1), frames(1, seed=1), frames(1, seed=2)).frame
    b = net(frames(1, seed=9), frames(1, seed=1), frames(1, seed=2)).frame
    assert torch.equal(a, b)
    whole = small_fusion(image_skip=True)
    assert not torch.equal(
        whole(frames(1), frames(1, seed=1), frames(1, seed=2)).frame,
        whole(frames(1, seed=9), frames(1, seed=1), frames(1, seed=2)).frame,
    )


def geometry() -> HeadGeometry:
    torch.manual_seed(0)
    return freeze(HeadGeometry(DepthNet(0.5, 0.15), PoseNet("resnet18", 128)))


def head_images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(count, 1, 128, 128)
    mask[..., 30:100, 35:95] = 1
    return frames(count) * mask, mask


def test_canonical_heads_of_two_people_do_not_mix() -> None:
    net, heads = geometry(), head_images(6)
    together = net.mean_canonical(*heads, net.predict(heads[0]), 3)
    alone = net.mean_canonical(heads[0][3:], heads[1][3:], net.predict(heads[0][3:]), 3)
    # Sampling magnifies what rounding does to poses; another person would be off by a thousand times as much.
    assert torch.allclose(together.image[1], alone.image[0], atol=2e-4)


def test_recurrent_and_mean_heads_share_mask_and_depth() -> None:
    net, (images, masks) = geometry(), head_images(3)
    canonical = CanonicalNet(8, 1, residual=True).eval()
    head, mean = recurrent_canonical(net, canonical, images, masks, net.predict(images), 3)
    assert head.image.shape == (1, 3, 128, 128)
    assert torch.equal(head.mask, mean.mask) and torch.equal(head.depth, mean.depth)
    assert (head.image * (1 - (head.mask > 0).float())).abs().max() == 0


def test_rendering_does_not_depend_on_the_batch() -> None:
    net, (images, masks) = geometry(), head_images(1)
    head = Canonical(images, masks, net.canonical_depth(images))
    poses = pose_from_euler(torch.tensor([-20.0, 0.5, 20.0]), 3.0, 2.0)
    together = net.render(head.repeat(3), poses).image
    for index in range(3):
        alone = net.render(head, poses[slice(index, index + 1)]).image
        assert torch.allclose(together[index], alone[0], atol=1e-5)


@pytest.mark.parametrize("image_skip", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_attended_to_is_what_is_shown(image_skip: bool, place: int) -> None:
    torch.manual_seed(0)
    net = FusionNet(width=4, blocks=1, flow_width=4, flow_max=8, image_skip=image_skip).eval()
    assert net.predictor.head.bias is not None
    nn.init.zeros_(net.predictor.head.weight)
    net.predictor.head.bias.data[4 + place] = 30.0  # of the rendered head, or of the reference
    a, b, c, driving = torch.rand(4, 1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    plain, other_head, other_reference = (net(h, r, driving).frame for h, r in ((a, b), (c, b), (a, c)))
    same, changed = (other_reference, other_head) if place == 0 else (other_head, other_reference)
    assert torch.allclose(plain, same, atol=1e-5)
    assert not torch.allclose(plain, changed, atol=1e-5)
    if image_skip:
        assert torch.allclose(plain, (a, b)[place], atol=1e-4)


def test_what_a_reference_does_not_see_counts_for_nothing() -> None:
    torch.manual_seed(0)
    net = CanonicalNet(width=8, blocks=1).eval()
    heads, flows, mean = frames(3)[None], torch.zeros(1, 3, 2, 128, 128), frames(1, seed=1)
    seen, mask = torch.ones(1, 3, 1, 128, 128), torch.ones(1, 1, 128, 128)
    seen[:, 1], mask[..., :64] = 0, 0
    out = net(heads, flows, seen, mean, mask)
    heads[:, 1] = 1 - heads[:, 1]
    assert torch.equal(net(heads, flows, seen, mean, mask), out)
    assert out[..., :64].max() == 0 < out[..., 64:].min()


def test_phi_corrects_what_is_found_in_the_carried_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    net, given = small_fusion(), []
    grid = (pixel_grid(128, 128, torch.zeros(())) - 63.5).permute(2, 0, 1)[None]
    rigid, found = 0.05 * grid.flip(1) + 3, 0.03 * grid - 2
    head, reference, driving = frames(3).split(1)

    def predictor(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given.append(x)
        one = torch.ones(1, 2, 128, 128)
        return 2 * one, -3 * one, torch.zeros(1, 3, 128, 128)

    monkeypatch.setattr(net.predictor, "forward", predictor)
    of_head, of_reference, _ = net.flows(head, reference, driving, rigid, found)
    two, three = torch.full_like(found, 2.0), torch.full_like(found, -3.0)
    left = three + warp(found, three)
    assert torch.allclose(of_head, two + warp(found, two)) and torch.allclose(of_reference, left + warp(rigid, left))
    assert torch.equal(given[0], torch.cat((warp(head, found), warp(warp(reference, rigid), found), driving), dim=1))


def test_the_translation_is_learnt() -> None:
    torch.manual_seed(0)
    net, (x, _) = PoseNet("resnet18", 128).eval(), head_images(1)
    before = net(x).translation
    nn.init.constant_(net.fc_translation.bias, 30.0)
    assert ((net(x).translation - before) / net.bounds).min() > 0.05


def test_the_depth_net_sees_normalised_colours() -> None:
    net, seen, image = DepthNet(0.25, 0.1).eval(), [], frames(1, 64)
    net.encoder[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    net(image)
    assert torch.equal(seen[0], imagenet(image))
