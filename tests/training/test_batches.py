"""Batches are functions of seed and step; augmentation moves poses as it moves pixels."""

from collections import Counter

import numpy as np
import pytest
import torch

from head3d.geometry import Pose, euler_from_rotation, intrinsics, pose_from_euler, project
from head3d.geometry.head_model import landmark_points
from head3d.params import AugmentParams
from head3d.training.batches import (
    Batch,
    Clips,
    augment,
    clip_pose,
    jitter_colors,
    mirror,
    occlude,
    similarity,
    swirl,
    turn,
)

K = intrinsics(128, 128, 10.0)


def landmarks_at(pose: Pose) -> torch.Tensor:
    numbers, model = landmark_points()
    out = torch.full((len(pose), 68, 2), 64.0)
    out[:, numbers] = project(pose.apply((model + torch.tensor([0, 0, 1.0])).expand(len(pose), -1, -1), 1.0), K)
    return out


def clips(count: int = 7, length: int = 6) -> Clips:
    draw = np.random.default_rng(0)
    frames = [draw.integers(0, 255, (length, 128, 128, 3), dtype=np.uint8) for _ in range(count)]
    masks = [draw.integers(0, 255, (length, 128, 128), dtype=np.uint8) for _ in range(count)]
    poses = [pose_from_euler(torch.linspace(-20, 20, length), 5.0, float(i)) for i in range(count)]
    return Clips(frames, masks, [landmarks_at(p).numpy() for p in poses], 10.0, 1.0)


def test_every_clip_comes_once_an_epoch_and_frames_do_not_repeat() -> None:
    data = clips()
    seen = [c for step in range(7) for c in data.sample_indices(0, step, 3, 4)[0]]
    assert len(seen) == 21
    assert all(sorted(seen[i : i + 7]) == list(range(7)) for i in (0, 7, 14))
    for picks in data.sample_indices(0, 2, 3, 4)[1]:
        assert len(set(picks)) == 4


def test_no_landmarks_no_poses() -> None:
    plain = clips(2)
    known, unknown = plain.load([1], [[0, 2]]), Clips(plain.frames, plain.masks, None, 10.0, 1.0).load([1], [[0, 2]])
    assert known.rotation.isfinite().all()
    assert unknown.rotation.isnan().all()
    assert unknown.translation.isnan().all()
    assert unknown.rotation.shape == known.rotation.shape
    assert (unknown.frames == known.frames).all()


def test_id_sampling_draws_a_clip_of_every_person_once_a_pass() -> None:
    plain, people = clips(), ["a", "b", "a", "a", "c", "b", "a"]
    data = Clips(plain.frames, plain.masks, None, 10.0, 1.0, people)
    assert (len(data), data.per_pass, data.steps_per_epoch(2)) == (7, 3, 2)
    seen = [c for step in range(40) for c in data.sample_indices(0, step, 3, 4)[0]]
    assert all(sorted(people[c] for c in seen[i : i + 3]) == ["a", "b", "c"] for i in range(0, 120, 3))
    drawn = Counter(seen)
    assert set(drawn) == set(range(7))
    assert min(drawn[c] for c in (0, 2, 3, 6)) >= 4  # 40 passes, four clips of a
    assert drawn[4] == 40


def test_as_many_people_as_clips_draw_as_clips_do() -> None:
    plain = clips()
    data = Clips(plain.frames, plain.masks, None, 10.0, 1.0, list("gfedcba"))
    assert [data.sample_indices(0, step, 3, 4) for step in range(9)] == [
        plain.sample_indices(0, step, 3, 4) for step in range(9)
    ]


def test_a_step_depends_on_seed_and_step_alone() -> None:
    data = clips()
    assert data.sample_indices(1, 5, 3, 4) == data.sample_indices(1, 5, 3, 4)
    assert data.sample_indices(1, 5, 3, 4) != data.sample_indices(2, 5, 3, 4)
    assert data.sample_indices(1, 5, 3, 4) != data.sample_indices(1, 6, 3, 4)


def test_loaded_frames_are_the_stored_ones() -> None:
    data = clips()
    batch = data.load([4, 2], [[5, 0], [1, 3]])
    assert torch.equal((batch.frames[1, 1] * 255).byte(), torch.from_numpy(data.frames[2][3]).permute(2, 0, 1))
    assert torch.equal((batch.masks[0, 0, 0] * 255).round().byte(), torch.from_numpy(data.masks[4][5]))
    yaw, _, _ = euler_from_rotation(batch.rotation[0])
    assert yaw.tolist() == pytest.approx([20, -20], abs=0.3)
    assert torch.allclose(batch.heads, batch.frames * batch.masks)


def moved_batch(pose: Pose) -> tuple[Batch, torch.Tensor]:
    """A frame that shows its landmarks as bright dots, with its pose."""
    points = landmarks_at(pose)[:, [30, 36, 45]]
    frames = torch.zeros(1, 1, 3, 128, 128)
    grid = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy"), dim=-1)
    for channel in range(3):
        frames[0, 0, channel] = torch.exp(-(grid - points[0, channel]).square().sum(-1) / 4)
    return Batch(frames, torch.ones(1, 1, 1, 128, 128), pose.rotation[None], pose.translation[None]), points


def dots(frames: torch.Tensor) -> torch.Tensor:
    """Centres of the three dots, (3, 2)."""
    weight = frames[0, 0].square().flatten(1)
    grid = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy"), dim=-1).reshape(-1, 2)
    return weight @ grid / weight.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"), [(20.0, 1.0, (0.0, 0.0)), (0.0, 1.2, (0, 0)), (-8.0, 0.9, (6.0, -4.0))]
)
def test_similarity_moves_the_pose_with_the_pixels(turn: float, scale: float, shift: tuple[float, float]) -> None:
    batch, _ = moved_batch(pose_from_euler(12.0, -6.0, 4.0, torch.tensor([[0.004, -0.003, 0.03]])))
    out = similarity(batch, torch.tensor([turn]), torch.tensor([scale]), torch.tensor([shift]), K, 1.0)
    expected = landmarks_at(Pose(out.rotation[0], out.translation[0]))[0, [30, 36, 45]]
    assert (dots(out.frames) - expected).abs().max() < 0.6


def test_mirroring_mirrors_the_pose() -> None:
    batch, _ = moved_batch(pose_from_euler(12.0, -6.0, 4.0, torch.tensor([[0.004, -0.003, 0.03]])))
    out = mirror(batch, torch.tensor([True]))
    yaw, pitch, roll = euler_from_rotation(out.rotation[0])
    assert [float(yaw), float(pitch), float(roll)] == pytest.approx([-12, -6, -4], abs=1e-3)
    swapped = landmarks_at(Pose(out.rotation[0], out.translation[0]))[0, [30, 45, 36]]  # the eyes change names
    assert (dots(out.frames) - swapped).abs().max() < 0.3
    assert torch.equal(mirror(batch, torch.tensor([False])).frames, batch.frames)


def test_turning_moves_the_face_as_the_pose_says() -> None:
    batch, before = moved_batch(pose_from_euler(5.0, -6.0, 4.0, torch.tensor([[0.004, -0.003, 0.03]])))
    out = turn(batch, torch.tensor([18.0]), torch.tensor([8.0]), K, 1.0)
    yaw, pitch, _ = euler_from_rotation(out.rotation[0])
    assert float(yaw) > 18 and float(pitch) > 0
    expected = landmarks_at(Pose(out.rotation[0], out.translation[0]))[0, [30, 36, 45]]
    # The landmarks lie up to a few millimetres off the smooth head that is turned.
    assert (dots(out.frames) - expected).norm(dim=-1).max() < 2.5
    assert (before[0] - expected).norm(dim=-1).min() > 5


def test_turning_leaves_frames_without_a_pose_alone() -> None:
    batch, _ = moved_batch(pose_from_euler(5.0, -6.0, 4.0))
    lost = Batch(batch.frames, batch.masks, batch.rotation * torch.nan, batch.translation * torch.nan)
    out = turn(lost, torch.tensor([18.0]), torch.tensor([8.0]), K, 1.0)
    assert out.rotation.isnan().all()
    assert torch.allclose(out.heads, batch.heads, atol=1e-4)


def test_a_swirl_turns_the_hair_and_leaves_the_face() -> None:
    pose = pose_from_euler(0.0, 0.0, 0.0, torch.tensor([[0.0, 0.0, 0.0]]))
    batch, _ = moved_batch(pose)
    hair = torch.zeros_like(batch.frames)
    hair[..., 60:68, 122:126] = 1  # to the right of the head, beyond where the face ends
    batch = Batch((batch.frames + hair).clamp(0, 1), batch.masks, batch.rotation, batch.translation)
    out = swirl(batch, torch.tensor([30.0]), K, 1.0)
    inner = slice(38, 90)
    assert torch.allclose(out.frames[..., inner, inner], batch.frames[..., inner, inner], atol=1e-4)
    moved = out.frames[0, 0, 0, :, 96:].nonzero().float().mean(dim=0) + torch.tensor((0.0, 96.0))
    away = moved - 63.5  # clockwise on the screen: from the right to below
    assert float(torch.atan2(away[0], away[1]).rad2deg()) == pytest.approx(30, abs=3)
    assert torch.equal(out.rotation, batch.rotation)


def test_occlusion_takes_rectangles_off_some_masks() -> None:
    batch = Batch(torch.ones(200, 2, 3, 32, 32), torch.ones(200, 2, 1, 32, 32), torch.zeros(0), torch.zeros(0))
    out = occlude(batch, 0.4, torch.Generator().manual_seed(0))
    lost = 1 - out.masks.mean(dim=(2, 3, 4))
    assert torch.equal(lost[:, 0], lost[:, 1])
    assert 0.3 < float((lost[:, 0] > 0).float().mean()) < 0.5
    assert float(lost.max()) < 0.45
    assert torch.equal(occlude(batch, 0.0, torch.Generator().manual_seed(0)).masks, batch.masks)


def test_jitter_is_one_for_a_clip_and_keeps_the_range() -> None:
    frames = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, 3, 3, 8, 8)
    out = jitter_colors(frames, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(out[:, 0], out[:, 2])
    assert not torch.allclose(out[0], out[1] - frames[1] + frames[0])
    assert out.min() >= 0 and out.max() <= 1
    assert jitter_colors(frames, 0.0, torch.Generator()) is frames


def test_augment_off_changes_nothing() -> None:
    batch = clips().load([0], [[0, 1]])
    off = AugmentParams(flip=False, color=0.0, similarity=0.0)
    assert torch.equal(augment(batch, off, torch.Generator(), K, 1.0).frames, batch.frames)


def test_unknown_poses_are_marked() -> None:
    data = clips()
    data.rotation[0][1] = torch.nan  # type: ignore[index]
    pose, known = clip_pose(data.load([0], [[0, 1, 2]]))
    assert known.tolist() == [True, False, True]
    assert torch.equal(pose.rotation[1], torch.eye(3))


def test_augmented_clips_move_and_their_poses_follow() -> None:
    batch, _ = moved_batch(pose_from_euler(12.0, -6.0, 4.0, torch.tensor([[0.004, -0.003, 0.03]])))
    batch = Batch(0.5 * batch.frames, batch.masks, batch.rotation, batch.translation)
    on, mirrored, sizes, colors = AugmentParams(flip=True, color=0.3, similarity=0.1), 0, [], set()
    for seed in range(12):
        out = augment(batch, on, torch.Generator().manual_seed(seed), K, 1.0)
        expected, seen = landmarks_at(Pose(out.rotation[0], out.translation[0]))[0], dots(out.frames)
        flipped = bool((seen[1, 0] < seen[2, 0]) != (expected[36, 0] < expected[45, 0]))  # the eyes change names
        assert (seen - expected[[30, 45, 36] if flipped else [30, 36, 45]]).abs().max() < 1.5
        mirrored += flipped
        sizes.append(float((seen[1] - seen[2]).norm()))
        colors.add(round(float(out.frames.max()), 2))
    assert 2 < mirrored < 10 and max(sizes) > 1.1 * min(sizes) and len(colors) > 6


def test_clips_come_in_another_order_in_every_pass_and_for_every_seed() -> None:
    data = clips()
    assert len({tuple(data.sample_indices(seed, step, 7, 1)[0]) for seed in (0, 1) for step in range(3)}) == 6
    drawn = [tuple(data.sample_indices(0, step, 1, 4)[1][0]) for step in range(20)]
    assert len(set(drawn)) > 15 and {frame for row in drawn for frame in row} == set(range(6))


def test_loaded_places_are_those_of_the_frames() -> None:
    data = clips()
    data.translation = tuple(10.0 * clip + torch.arange(6.0)[:, None].expand(6, 3) for clip in range(7))
    assert data.load([4, 2], [[5, 0], [1, 3]]).translation[..., 2].tolist() == [[45, 40], [21, 23]]


def test_masks_go_with_their_frames() -> None:
    """What the first channel shows is the head."""
    batch, _ = moved_batch(pose_from_euler(12.0, -6.0, 4.0))
    batch.frames[0, 0, 0, 20:24, 110:114] = 1  # and some hair
    batch = Batch(batch.frames, batch.frames[:, :, :1], batch.rotation, batch.translation)
    turned, size, shift = torch.tensor([20.0]), torch.tensor([0.9]), torch.tensor([[6.0, -4.0]])
    for out in (
        mirror(batch, torch.tensor([True])),
        similarity(batch, turned, size, shift, K, 1.0),
        swirl(batch, turned, K, 1.0),
        augment(batch, AugmentParams(flip=True, color=0.0, similarity=0.1), torch.Generator().manual_seed(0), K, 1.0),
    ):
        assert torch.allclose(out.masks[:, :, 0], out.frames[:, :, 0], atol=1e-4)
        assert not torch.allclose(out.masks, batch.masks, atol=0.5)


def test_a_head_that_the_picture_cuts_off_is_cut_off_there_after_a_similarity() -> None:
    batch, _ = moved_batch(pose_from_euler(0.0))
    out = similarity(batch, torch.tensor([20.0]), torch.tensor([0.8]), torch.tensor([[9.0, 9.0]]), K, 1.0)
    assert out.masks.min() > 0.99


def test_a_turned_head_keeps_its_colour_to_its_soft_edge() -> None:
    batch, _ = moved_batch(pose_from_euler(0.0))
    grid = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy"), dim=-1) - 63.5
    mask = ((40 - grid.norm(dim=-1)) / 20).clamp(0, 1)[None, None, None]
    batch = Batch(torch.full_like(batch.frames, 0.5), mask, batch.rotation, batch.translation)
    out = turn(batch, torch.tensor([10.0]), torch.tensor([0.0]), K, 1.0)
    shown = out.masks > 0.1
    assert 0.4 < float(shown.float().mean()) / float((mask > 0.1).float().mean()) < 1.6
    assert (out.frames - 0.5).abs()[shown.expand_as(out.frames)].max() < 0.05


def test_what_hangs_around_a_small_head_begins_nearer_to_it() -> None:
    place = torch.zeros(2, 1, 3)
    place[1, ..., 2] = 0.35  # the second is farther away
    frames = torch.zeros(2, 1, 3, 128, 128)
    frames[..., 60:68, 102:106] = 1  # 40 pixels off the middle
    batch = Batch(frames, frames[:, :, :1], torch.eye(3).expand(2, 1, 3, 3), place)
    lower = swirl(batch, torch.full((2,), 30.0), K, 1.0).masks.sum(dim=-1)[:, 0, 0] @ torch.arange(128.0)
    assert float(lower[1]) > 1.15 * float(lower[0])


def test_some_heads_lose_all_that_is_below_a_row() -> None:
    batch = Batch(torch.ones(200, 1, 3, 32, 32), torch.ones(200, 1, 1, 32, 32), torch.zeros(0), torch.zeros(0))
    masks = occlude(batch, 1.0, torch.Generator().manual_seed(0)).masks[:, 0, 0]
    below = masks[:, -1].sum(dim=1) == 0
    assert 0.3 < float(below.float().mean()) < 0.5
    assert (masks[below].amin(dim=2) == masks[below].amax(dim=2)).all() and (masks[:, :12][below] == 1).all()


def test_jitter_changes_a_colour_alike_wherever_it_is_in_a_clip() -> None:
    frames = torch.empty(1, 3, 3, 8, 8)
    frames[:, 0], frames[:, 1], frames[:, 2], frames[:, 2, ..., :4] = 0.4, 0.5, 0.5, 0.4
    out = jitter_colors(frames, 0.3, torch.Generator().manual_seed(1))
    assert torch.allclose(out[:, 2, ..., :4], out[:, 0, ..., :4]) and torch.allclose(
        out[:, 2, ..., 4:], out[:, 1, ..., 4:]
    )
    assert (out[0, 0, 0] - out[0, 0, 1]).abs().min() > 0.01, "grey is tinted"


def test_augmented_clips_are_turned_and_shifted_as_far_as_asked() -> None:
    batch, _ = moved_batch(pose_from_euler(0.0))
    middles, tilts = [], []
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        seen = dots(augment(batch, AugmentParams(flip=False, color=0.0, similarity=0.1), rng, K, 1.0).frames)
        middles.append(seen.mean(dim=0))
        tilts.append(torch.atan2(*(seen[2] - seen[1]).flip(0)).rad2deg())
    assert 3 < float(torch.stack(middles).std(dim=0).mean()) < 8  # uniform within 7.7 pixels
    assert 4 < float(torch.stack(tilts).std()) < 8  # uniform within 10 degrees
