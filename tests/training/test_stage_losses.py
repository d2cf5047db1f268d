"""What the three stages minimise, on heads whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from head3d.geometry import Pose, pixel_grid, pose_from_euler, warp
from head3d.geometry.head_model import generic_depth
from head3d.losses import head_share
from head3d.models.canonical import CanonicalNet
from head3d.models.depth import DepthNet
from head3d.models.head3d import HeadGeometry, recurrent_canonical
from head3d.models.pose import PoseNet
from head3d.training import geometry as stage_1
from head3d.training.batches import Batch
from head3d.training.canonical import canonical_losses
from head3d.training.fusion import FusionBatches, Views, fusion_losses
from head3d.training.geometry import geometry_losses, pose_l1, pose_losses, warm_losses

PLACES = [[(-8, 0), (6, 2), (10, -4), (-3, 5)], [(4, 4), (0, -6), (-12, 8), (9, 0)]]


def of_flat_heads(monkeypatch: pytest.MonkeyPatch) -> HeadGeometry:
    """F_D says flat, F_P says where the middle of what it is shown lies."""
    geometry = HeadGeometry(DepthNet(0.25, 0.1), PoseNet("resnet18", 64))

    def pose(heads: Tensor) -> Pose:
        weight = heads.sum(dim=1).flatten(1)
        away = weight @ (pixel_grid(64, 64, heads).reshape(-1, 2) - 31.5) / weight.sum(dim=1, keepdim=True)
        at = torch.cat((away / geometry.k(heads)[0, 0], torch.zeros(len(heads), 1)), dim=1)
        return Pose(torch.eye(3).expand(len(heads), 3, 3), at)

    monkeypatch.setattr(geometry.pose, "forward", pose)
    monkeypatch.setattr(geometry.depth, "forward", lambda x: torch.zeros_like(x[:, :1]))
    return geometry


def squares(places: list[list[tuple[int, int]]]) -> Batch:
    """Flat square heads, each clip of its own grey, so many pixels off the image's middle."""
    masks = torch.zeros(len(places), len(places[0]), 1, 64, 64)
    for clip, row in enumerate(places):
        for frame, (x, y) in enumerate(row):
            masks[clip, frame, :, 22 + y : 42 + y, 22 + x : 42 + x] = 1
    grey = torch.linspace(0.4, 0.9, len(places)).view(-1, 1, 1, 1, 1)
    none = torch.full((*masks.shape[:2], 3, 4), torch.nan)
    return Batch((grey * masks + 0.2 * (1 - masks)).expand(-1, -1, 3, -1, -1), masks, none[..., :3], none[..., 3])


def test_stage_1_renders_each_driving_frame_of_its_own_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = SimpleNamespace(area_normalised=False, symmetry=2.0, smoothness=3.0)
    found = geometry_losses(of_flat_heads(monkeypatch), squares(PLACES), 2, settings)
    assert all(float(value.detach()) < 1e-3 for value in found.values())
    batch = squares(PLACES)
    lit = Batch(batch.frames * torch.linspace(0.2, 1, 64), batch.masks, batch.rotation, batch.translation)
    terms = {
        name: float(v.detach()) for name, v in geometry_losses(of_flat_heads(monkeypatch), lit, 2, settings).items()
    }
    assert terms["loss"] == pytest.approx(terms["photometric"] + 2 * terms["symmetry"] + 3 * terms["smoothness"])


def test_stage_2_renders_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    network = CanonicalNet(4, 0)
    monkeypatch.setattr(network, "forward", lambda heads, flows, seen, mean, mask: mean)
    assert float(canonical_losses(of_flat_heads(monkeypatch), network, squares(PLACES))["loss"]) < 1e-3


def test_the_recurrent_network_is_shown_how_each_reference_gets_to_canonical_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    geometry, network, batch = of_flat_heads(monkeypatch), CanonicalNet(4, 0), squares(PLACES)
    heads, masks = batch.heads.flatten(0, 1), batch.masks.flatten(0, 1)
    shown: list[Tensor] = []
    monkeypatch.setattr(network, "forward", lambda heads, *rest: shown.extend(rest) or rest[2])
    _, mean = recurrent_canonical(geometry, network, heads, masks, geometry.predict(heads), 4)
    assert torch.equal(shown[1].flatten(0, 1), geometry.views(heads, masks, geometry.predict(heads)).mask)
    carried = warp(heads, shown[0].flatten(0, 1))
    assert torch.allclose(carried, mean.image.repeat_interleave(4, dim=0), atol=1e-3)


def test_depth_from_the_camera_is_the_heads_place_and_its_relief() -> None:
    geometry = HeadGeometry(DepthNet(0.25, 0.1), PoseNet("resnet18", 64), distance_m=1.5)
    pose = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[0.3, 0.2, 0.1], [0.0, 0.0, -0.2]]))
    depth = geometry.place(pose, torch.full((2, 1, 4, 4), 0.03)).depth
    assert torch.allclose(depth[:, 0, 0, 0], torch.tensor([1.63, 1.33]))


def test_poses_without_landmarks_cost_nothing_and_units_weigh_the_rest() -> None:
    moved = torch.tensor([[0.01, 0.0, 0.0], [0.0, 0.0, 0.05], [9.0, 9.0, 9.0]])
    said = pose_from_euler(torch.tensor([10.0, 0.0, 80.0]), translation=moved)
    truth = pose_from_euler(torch.zeros(3), translation=torch.zeros(3, 3))
    angle, place = pose_l1(said, truth, torch.tensor([True, True, False]))
    assert float(angle) == pytest.approx(1 / 3 / 2, abs=1e-4)  # one of three angles of one of two poses, by its unit
    assert float(place) == pytest.approx(2 / 3 / 2, abs=1e-4)


def test_stage_3_is_held_to_the_frame_and_not_to_what_phi_is_shown() -> None:
    head, reference, driving = torch.rand(3, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shown: list[Tensor] = []

    def network(head: Tensor, reference: Tensor, driving_shown: Tensor, *rest: Any) -> Any:
        shown.append(driving_shown)
        assert rest == (views.rigid, views.mask)
        return SimpleNamespace(frame=driving + 0.1)

    settings: Any = SimpleNamespace(driving_jitter=0.5, perceptual_weight=10.0, pixel_weight=30.0, equivariance=0.0)
    views = Views(head, torch.ones(2, 1, 16, 16), reference, driving, None)
    perceptual: Any = lambda a, b: 2 * (a - b).abs().mean()  # noqa: E731
    losses = fusion_losses(network, perceptual, views, settings, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert float(losses["loss"]) == pytest.approx(10 * 0.2 + 30 * 0.1, rel=1e-4)
    assert (shown[0] - driving).abs().mean() > 0.02, "in other colours"


def test_the_rigid_flow_goes_along_with_the_spline() -> None:
    """A network that says just the rigid flow it is given is equivariant: that of the moved frames is composed."""
    head, reference, driving = torch.rand(3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x, y = pixel_grid(64, 64, head).unbind(-1)
    rigid = torch.stack((3 + 0.1 * (y - 31.5), -2 - 0.1 * (x - 31.5))).expand(2, -1, -1, -1)

    class Rigid:
        def __call__(self, *given: Any) -> Any:
            return SimpleNamespace(frame=driving, reference_flow=given[3])

        def flows(self, head: Tensor, reference: Tensor, driving: Tensor, carried: Tensor) -> Any:
            return None, carried, None

    settings: Any = SimpleNamespace(driving_jitter=0.0, perceptual_weight=0.0, pixel_weight=0.0, equivariance=10.0)
    views = Views(head, torch.ones(2, 1, 64, 64), reference, driving, rigid)
    network: Any = Rigid()
    perceptual: Any = lambda a, b: (a - b).abs().mean()  # noqa: E731
    losses = fusion_losses(network, perceptual, views, settings, torch.Generator().manual_seed(0))
    assert float(losses["equivariance"]) < 1e-3
    assert float(losses["loss"]) == pytest.approx(10 * float(losses["equivariance"]))


def test_head_and_shown_frame_are_both_moved_by_the_spline() -> None:
    """A network that reads places off the colours of what it is given is equivariant, whatever the colours."""
    ramp = (0.25 + pixel_grid(64, 64, torch.zeros(())).permute(2, 0, 1) / 126).expand(2, -1, -1, -1)
    picture = torch.cat((ramp, ramp[:, :1]), dim=1)

    class Places:
        def __call__(self, *given: Any) -> Any:
            return SimpleNamespace(frame=picture, reference_flow=self.flows(*given)[1])

        def flows(self, head: Tensor, reference: Tensor, driving: Tensor, carried: None, *rest: Any) -> Any:
            place = 63 * (head + driving)[:, :2]
            return None, place - pixel_grid(64, 64, place).permute(2, 0, 1), None

    settings: Any = SimpleNamespace(driving_jitter=0.2, perceptual_weight=0.0, pixel_weight=0.0, equivariance=10.0)
    views = Views(picture, torch.ones(2, 1, 64, 64), torch.zeros_like(picture), picture, None)
    network, perceptual = Places(), lambda a, b: (a - b).abs().mean()
    losses = fusion_losses(network, perceptual, views, settings, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert float(losses["equivariance"]) < 1e-3


def of_known_poses(batch: Batch, t_z: float = 0.0) -> Batch:
    """The same frames, all from the front, so far behind the usual place."""
    frames = batch.frames.shape[:2]
    translation = torch.tensor([0.0, 0.0, t_z]).expand(*frames, 3)
    return Batch(batch.frames, batch.masks, torch.eye(3).expand(*frames, 3, 3), translation)


def test_stage_1_is_held_to_the_poses_of_the_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = SimpleNamespace(area_normalised=False, symmetry=0.0, smoothness=0.0, pose_hold=4.0)
    geometry = of_flat_heads(monkeypatch)
    free = geometry_losses(geometry, squares(PLACES), 2, settings)["loss"]
    held = geometry_losses(geometry, squares(PLACES), 2, settings, of_known_poses(squares(PLACES)))
    assert float(held["hold"]) > 0.01  # heads beside the middle, whose poses are said to be in it
    assert float(held["loss"]) == pytest.approx(float(free) + 4 * float(held["hold"]))


def test_the_warm_starts_depth_is_a_relief_wherever_the_head_is(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = of_flat_heads(monkeypatch)
    near, far = (float(warm_losses(geometry, of_known_poses(squares(PLACES), t_z))["depth"]) for t_z in (0.0, 0.1))
    assert far == pytest.approx(near, rel=0.1)


def test_the_warm_starts_depth_is_learnt_on_heads_of_known_poses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, batch = of_flat_heads(monkeypatch), of_known_poses(squares([[(0, 0)] * 3, [(4, 4)] * 3]))
    batch = Batch(batch.frames, batch.masks, batch.rotation.clone(), batch.translation)
    batch.rotation[1] = torch.nan
    relief = generic_depth(pose_from_euler(0.0), geometry.k(batch.frames), 64, 1.0) - 1

    def depth(heads: Tensor) -> Tensor:
        off = torch.where(heads.amax(dim=1, keepdim=True) > 0, 0.01, 5.0)
        off[1] = 9.0  # of the frame without a pose
        return relief + off

    monkeypatch.setattr(geometry.depth, "forward", depth)
    assert float(warm_losses(geometry, batch)["depth"]) == pytest.approx(0.01 / geometry.depth.range_m, rel=1e-3)


@pytest.mark.parametrize("normalised", [False, True])
def test_stage_1_tells_its_terms_the_area_and_the_relief_of_the_canonical_head(
    monkeypatch: pytest.MonkeyPatch, normalised: bool
) -> None:
    given: dict[str, tuple[Any, ...]] = {}
    for name in ("symmetry", "depth_smoothness"):
        monkeypatch.setattr(stage_1, name, lambda *all, name=name: given.update({name: all}) or torch.zeros(()))
    geometry = of_flat_heads(monkeypatch)
    monkeypatch.setattr(geometry.depth, "forward", lambda x: torch.full_like(x[:, :1], 0.05))
    settings: Any = SimpleNamespace(area_normalised=normalised, symmetry=1.0, smoothness=1.0)
    geometry_losses(geometry, squares(PLACES), 2, settings)
    (_, share), (depth, _, mask, same) = given["symmetry"], given["depth_smoothness"]
    assert torch.allclose(depth, torch.tensor(0.05 / geometry.depth.range_m), atol=1e-4)
    assert share is same
    assert torch.equal(share, head_share(mask)) if normalised else share is mask is None


def test_poses_are_told_from_heads_and_not_from_what_is_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, batch = of_flat_heads(monkeypatch), squares(PLACES)
    seen = geometry.pose(batch.heads.flatten(0, 1))
    rotation, translation = (x.unflatten(0, (2, 4)) for x in (seen.rotation, seen.translation))
    right = pose_losses(geometry, Batch(batch.frames, batch.masks, rotation, translation))
    assert max(float(error) for error in right) < 1e-6


def stage_3(geometry: HeadGeometry, network: CanonicalNet, batch: Batch) -> FusionBatches:
    """Two references and two driving frames of each clip."""
    both = [
        Batch(*(x[:, part] for x in (batch.frames, batch.masks, batch.rotation, batch.translation)))
        for part in (slice(2), slice(2, 4))
    ]
    params: Any = SimpleNamespace(
        fusion=SimpleNamespace(batch_size=2, drivings=2, reference_draws=0), model=SimpleNamespace(references=2)
    )
    clips: Any = SimpleNamespace(steps_per_epoch=lambda batch_size: 1)
    source = FusionBatches(clips, geometry, network, params, torch.device("cpu"))
    source.frames = lambda step: both  # type: ignore[assignment]
    return source


def test_stage_3_renders_each_driving_frame_of_its_own_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, network, batch = of_flat_heads(monkeypatch), CanonicalNet(4, 0), squares(PLACES)
    monkeypatch.setattr(network, "forward", lambda heads, flows, seen, mean, mask: mean)
    views = stage_3(geometry, network, batch).batch(0, rigid=True)
    assert torch.equal(views.driving, batch.frames[:, 2:].flatten(0, 1))
    assert torch.equal(views.reference, batch.frames[:, [0, 0]].flatten(0, 1))
    assert (views.head - batch.heads[:, 2:].flatten(0, 1)).abs().mean() < 1e-3
    assert views.rigid is not None
    off = (warp(views.reference, views.rigid) - views.driving).abs().mean(dim=(1, 2, 3))
    assert float(off.max()) < 0.02, "the head is carried along, and the background shows where it was"


def test_stage_3_sees_the_depth_of_the_recurrent_head(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, network = of_flat_heads(monkeypatch), CanonicalNet(4, 0)
    monkeypatch.setattr(network, "forward", lambda heads, flows, seen, mean, mask: mean / 2)
    monkeypatch.setattr(geometry.depth, "forward", lambda x: 0.05 * x[:, :1])
    source = stage_3(geometry, network, squares(PLACES))
    head = source.subjects(0, source.frames(0)[0]).canonical
    assert torch.equal(head.depth, 1 + 0.05 * head.image[:, :1])
