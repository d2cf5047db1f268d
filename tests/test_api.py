"""The inference path: choice of references, batches, motions, errors. Untrained networks."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d import api, relative
from head3d.api import Head3D
from head3d.errors import UserError
from head3d.geometry import align_flow, outside_flow, pose_from_euler, relative_pose, warp
from head3d.models.head3d import HeadGeometry
from head3d.models.head_masks import FaceParser
from head3d.models.matching import Matcher
from head3d.params import Params
from head3d.views import hand_pose, moved_pose


@pytest.fixture(scope="module")
def model(models: Path, tiny: Params) -> Head3D:
    return Head3D.load(models, params=tiny)


def clip(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames with a disc for a head, and its masks."""
    draw = torch.Generator().manual_seed(seed)
    frames = torch.rand(count, 3, 64, 64, generator=draw)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    masks = torch.stack([((x - 30 - 2 * (i % 3)) ** 2 + (y - 32) ** 2 < 500).float()[None] for i in range(count)])
    return frames, masks


def test_references_follow_from_the_seed(model: Head3D) -> None:
    frames, masks = clip(10)
    one, same, other = (model.subject(frames, masks, seed=s) for s in (3, 3, 4))
    assert torch.equal(one.references, same.references) and torch.equal(one.canonical, same.canonical)
    assert not torch.equal(one.references, other.references)
    assert len(one.references) == model.params.model.references
    assert torch.equal(one.reference, one.references[:1])
    assert len(model.subject(frames, masks, references=7).references) == 7
    assert len(model.subject(frames[:3], masks[:3], references=7).references) == 3  # no more than there are


def test_the_result_does_not_depend_on_the_batch(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    driving, masks = clip(9, seed=1)  # more than a batch of four
    whole = model.animate(subject, driving, masks)
    assert whole.frames.shape == (9, 3, 64, 64)
    for index in (0, 4, 8):
        alone = model.animate(subject, driving[index : index + 1], masks[index : index + 1])
        # An eighth of a step of eight bits: how matmuls round depends on their size, and on the processor.
        assert (whole.frames[index] - alone.frames[0]).abs().max() < 5e-4


def test_canonical_is_the_head_of_the_subject(model: Head3D) -> None:
    head, subject = model.canonical(*clip(6)), model.subject(*clip(6))
    assert torch.equal(head.image, subject.canonical) and torch.equal(head.depth, subject.depth)
    assert head.image.shape == (1, 3, 64, 64) and head.mask.shape == head.depth.shape == (1, 1, 64, 64)


def test_what_a_transfer_holds(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    driving, masks = clip(3, seed=1)
    made = model.animate(subject, driving, masks)
    assert made.frames.min() >= 0 and made.frames.max() <= 1
    assert torch.allclose(made.attention.sum(dim=1), torch.ones_like(made.attention[:, 0]), atol=1e-5)
    assert made.head.shape == made.deformed.shape == (3, 3, 64, 64)
    assert len(made.pose) == 3


def test_relative_motion_of_a_still_video_stays_at_the_subjects_place(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    driving, masks = (x[:1].expand(3, -1, -1, -1) for x in clip(1, seed=2))
    made = model.animate(subject, driving, masks, motion="relative")
    assert torch.allclose(made.pose.translation, subject.reference_pose.translation.expand(3, 3), atol=1e-5)


def test_relative_motion_in_parts_is_that_of_the_whole(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    driving, masks = clip(8, seed=1)
    whole = model.animate(subject, driving, masks, motion="relative")
    first = model.start(subject, driving[:1], model.pose(driving[:1], masks[:1]))
    part = model.animate(subject, driving[4:], masks[4:], motion="relative", first=first)
    # Poses of four frames are rounded otherwise than those of eight, and sampling noise magnifies it.
    assert torch.allclose(whole.pose.translation[4:], part.pose.translation, atol=1e-6)
    assert torch.allclose(whole.frames[4:], part.frames, atol=1e-3)


def test_a_driver_whose_face_is_elsewhere_moves_the_subject_alike(
    model: Head3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is shifted behind its poses' back; landmarks tell, and the result is as if it had not been."""
    subject = model.subject(*clip(6))
    frames, masks = clip(1, seed=2)
    frames = F.pad(frames[..., 8:-8, 8:-8], (8, 8, 8, 8)).expand(2, -1, -1, -1)
    pose = model.pose(frames, masks.expand(2, -1, -1, -1))
    ahead = model.geometry.distance_m
    ratio = float((subject.reference_pose.translation[0, 2] + ahead) / (pose.translation[0, 2] + ahead))
    points = np.random.default_rng(0).uniform(16, 48, (68, 2))

    def made(pixels: int, known: bool) -> torch.Tensor:
        marks = iter((points + known * np.array([pixels / ratio, 0]), points))
        monkeypatch.setattr(relative, "landmarks", lambda picture: next(marks))
        return model.animate(subject, frames.roll(pixels, dims=3), motion="relative", pose=pose).frames

    there = made(0, known=True)
    assert torch.allclose(made(3, known=True), there, atol=1e-3)
    assert not torch.allclose(made(3, known=False), there, atol=1e-2)


def test_view_renders_the_pose_that_was_asked_for(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    poses = pose_from_euler(torch.tensor([-10.0, 10.0]))
    made = model.view(subject, poses)
    heads, masks = model.render(subject, poses)
    assert torch.allclose(made.head, heads, atol=1e-5) and torch.allclose(made.head_mask, masks, atol=1e-5)
    assert made.frames.shape == (2, 3, 64, 64)


def test_a_head_is_moved_from_its_place_in_the_reference(model: Head3D) -> None:
    subject, shift = model.subject(*clip(4)), (0.01, -0.02, 0.03)
    pose, moved = subject.reference_pose, moved_pose(subject, shift)
    assert torch.equal(moved.rotation, pose.rotation)
    assert torch.allclose(moved.translation - pose.translation, torch.tensor(shift), atol=1e-6)


def test_another_persons_face_is_matched_with_its_own_first_frame_alone(
    model: Head3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is dark and the subject bright: nothing bright may be matched across people."""
    matched: list[tuple[float, float]] = []
    moved: list[torch.Tensor | None] = []
    starts: list[relative.Start] = []
    assert model.fusion is not None and model.fusion.matcher is not None
    fuse, of_driver = model.fusion.forward, api.shown_of_driver

    def flow(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        matched.append((float(source.max()), float(target.max())))
        return torch.zeros_like(source[:, :2])

    def forward(*given: torch.Tensor | None) -> object:
        moved.append(given[5])
        return fuse(*given)  # type: ignore[arg-type]

    def shown(matcher: Matcher, geometry: HeadGeometry, start: relative.Start, *rest: Any) -> object:
        starts.append(start)
        return of_driver(matcher, geometry, start, *rest)

    monkeypatch.setattr(model.fusion.matcher, "flow", flow)
    monkeypatch.setattr(model.fusion, "forward", forward)
    monkeypatch.setattr(api, "shown_of_driver", shown)
    frames, masks = clip(6)
    subject = model.subject(0.7 + 0.3 * frames, masks)
    driving, masks = clip(3, seed=1)
    model.animate(subject, 0.3 * driving, masks, motion="relative")
    assert len(matched) == len(starts) == 1 and max(matched[0]) < 0.4
    assert moved[0] is not None and not moved[0].any()
    first = model.pose(0.3 * driving[:1], masks[:1])
    placed = relative_pose(first, first, subject.reference_pose)
    assert torch.allclose(starts[0].pose.translation, placed.translation, atol=1e-6)
    model.view(subject, pose_from_euler(torch.tensor([5.0])))
    assert len(matched) == 1 and moved[1] is not None and not moved[1].any()  # nothing but the pose moves
    model.animate(subject, 0.3 * driving, masks)  # of the same person: Phi matches by itself
    assert moved[2] is None and matched[-1][0] > 0.6


def test_poses_of_a_long_video_are_taken_in_parts(model: Head3D, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, masks = clip(10)
    whole = model.pose(frames, masks)
    counts: list[int] = []
    watched = model.geometry.pose.register_forward_pre_hook(lambda network, given: counts.append(len(given[0])))
    monkeypatch.setattr(api, "POSED_AT_ONCE", 4)
    parts = model.pose(frames, masks)
    watched.remove()
    assert counts == [4, 4, 2]
    assert torch.allclose(parts.rotation, whole.rotation, atol=1e-5)
    assert torch.allclose(parts.translation, whole.translation, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, frames, masks: model.subject(frames * 255, masks), "subject frames: values that are not in"),
        (lambda model, frames, masks: model.subject(frames * torch.nan, masks), "values that are not in [0, 1]"),
        (lambda model, frames, masks: model.subject(frames, masks * 255), "masks with values that are not in [0, 1]"),
        (lambda model, frames, masks: model.subject(frames, masks[:, 0]), "allowed: (2, 1, 64, 64), one a frame"),
        (lambda model, frames, masks: model.subject(frames, masks[:3]), "3 masks of 4 frames"),
        (lambda model, frames, masks: model.subject(frames, masks, references=0), "0 reference frames are wanted"),
        (lambda model, frames, masks: model.subject(frames, masks, references=-1), "-1 reference frames are wanted"),
        (lambda model, frames, masks: model.pose(frames, masks[:1]), "masks of shape (1, 1, 64, 64); allowed: (4, 1,"),
        (
            lambda model, frames, masks: model.animate(model.subject(frames, masks), frames, masks, motion="Absolute"),
            "motion is 'Absolute'; allowed: relative or absolute",
        ),
        (
            lambda model, frames, masks: model.view(one := model.subject(frames, masks), one.poses[slice(0, 0)]),
            "no poses to show the subject at",
        ),
        (
            lambda model, frames, masks: hand_pose(model.subject(frames, masks), yaw=[1, 2, 3], pitch=[1, 2]),
            "3 angles of yaw, 2 of pitch, 1 of roll; allowed: as many of each, or a single one",
        ),
        (lambda model, frames, masks: hand_pose(model.subject(frames, masks), yaw=[]), "0 angles of yaw"),
    ],
)
def test_wrong_input_is_one_clear_line(model: Head3D, call: Callable[..., object], words: str) -> None:
    params = model.params.model_copy(update={"model": model.params.model.model_copy(update={"references": 2})})
    model = Head3D(model.geometry, model.canonical_net, model.fusion, params, model.compute)
    with pytest.raises(UserError, match=re.escape(words)):
        call(model, *clip(4))


def test_devices_and_parsers_that_there_are_not(models: Path, tiny: Params) -> None:
    with pytest.raises(UserError, match="device is 'gpu'; allowed: auto, cpu, cuda or cuda:N"):
        Head3D.load(models, params=tiny, device="gpu")
    with pytest.raises(UserError, match="parser is 'tiny'; allowed: full or small"):
        Head3D.load(models, params=tiny, parser="tiny")  # type: ignore[arg-type]


def test_a_random_reference_stays(model: Head3D) -> None:
    subject = model.subject(*clip(6))
    assert subject.reference_index == 0
    random = Head3D(
        model.geometry, model.canonical_net, model.fusion, with_reference(model.params, "random"), model.compute
    )
    assert random.choose_reference(subject, subject.poses[slice(1, 2)]) is subject


def with_reference(params: Params, how: str) -> Params:
    return params.model_copy(update={"animate": params.animate.model_copy(update={"reference": how})})


def test_the_nearest_reference_is_chosen_by_pose(model: Head3D) -> None:
    nearest = with_reference(model.params, "nearest")
    model = Head3D(model.geometry, model.canonical_net, model.fusion, nearest, model.compute)
    subject = model.subject(*clip(6))
    for index in range(len(subject.references)):
        wanted = subject.poses[slice(index, index + 1)]
        assert model.choose_reference(subject, wanted).reference_index == index
        assert model.choose_reference(subject, wanted, "relative").reference_index == index


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 3, 32, 64), (0, 3, 64, 64)])
def test_a_wrong_shape_is_one_clear_line(model: Head3D, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(T, 3, 64, 64\)"):
        model.subject(torch.zeros(shape))


def test_masks_of_frames_just_outside_their_range(model: Head3D, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized frames are; a byte would go round, from white to black."""
    seen: list[np.ndarray] = []

    def head_masks(pixels: np.ndarray, parser: FaceParser, landmarks: np.ndarray, **how: object) -> np.ndarray:
        assert (how["rim"], parser.input_size) == (model.params.parse.rim, model.params.parse.input_size)
        assert (landmarks == 0).all()
        seen.append(pixels)
        return pixels[..., 0]

    monkeypatch.setattr("head3d.api.head_masks", head_masks)
    frames = torch.tensor([-0.01, 0.0, 0.5, 1.0, 1.009]).expand(1, 3, 64, 5)
    masks = model.masks(frames, np.zeros((1, 68, 2)))
    assert seen[0][0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert masks.shape == (1, 1, 64, 5)


def test_bytes_are_no_frames(model: Head3D) -> None:
    with pytest.raises(UserError, match=r"torch\.uint8.*divide bytes by 255"):
        model.subject(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))


def test_no_head_in_the_references(model: Head3D) -> None:
    frames, masks = clip(4)
    with pytest.raises(UserError, match="no head"):
        model.subject(frames, masks * 0)


def test_missing_and_foreign_weights(models: Path, tiny: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        Head3D.load(tmp_path, params=tiny)
    (tmp_path / "geometry.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(UserError, match="not a safetensors file"):
        Head3D.load(tmp_path, params=tiny)
    wider = tiny.model.fusion.model_copy(update={"width": 16})
    other = tiny.model_copy(update={"model": tiny.model.model_copy(update={"fusion": wider})})
    with pytest.raises(UserError, match="do not fit"):
        Head3D.load(models, params=other)


def test_without_fusion_only_heads_are_rendered(models: Path, tiny: Params) -> None:
    bare = Head3D.load(models, params=tiny, variant=None)
    subject = bare.subject(*clip(4))
    assert bare.render(subject, pose_from_euler(5.0))[0].shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="without a fusion network"):
        bare.view(subject, pose_from_euler(5.0))


def test_how_far_away_a_reference_is_counts_but_for_relative_motion(model: Head3D) -> None:
    nearest = with_reference(model.params, "nearest")
    model = Head3D(model.geometry, model.canonical_net, model.fusion, nearest, model.compute)
    at = torch.tensor([[0.0, 0.0, 0.0], [0.01, 0.0, 0.1]])
    subject = replace(model.subject(*clip(4)), poses=pose_from_euler(torch.tensor([0.0, 5.0]), translation=at))
    there = pose_from_euler(torch.tensor([0.0, 2.0]), translation=at[[1, 1]])
    assert model.choose_reference(subject, there).reference_index == 1  # 3 and 5 degrees off, but in its place
    assert model.choose_reference(subject, there, "relative").reference_index == 0


def test_what_is_behind_heads_changes_neither_poses_nor_the_canonical_head(model: Head3D) -> None:
    frames, masks = clip(4)
    other = frames * masks + 0.5 * (1 - masks)
    poses, same = model.pose(frames, masks), model.pose(other, masks)
    assert torch.equal(poses.rotation, same.rotation) and torch.equal(poses.translation, same.translation)
    one, two = model.subject_of(frames, masks), model.subject_of(other, masks)
    assert torch.equal(one.canonical, two.canonical) and torch.equal(one.poses.translation, two.poses.translation)
    assert torch.equal(one.depth, model.geometry.canonical_depth(one.canonical)), "of the head that is shown"


@pytest.mark.parametrize("motion", ["absolute", "relative"])
def test_the_chosen_reference_is_carried_from_its_own_place(
    model: Head3D, monkeypatch: pytest.MonkeyPatch, motion: Any
) -> None:
    carried: list[Any] = []
    faces: list[Any] = []
    starts: list[relative.Start] = []
    masks_given: list[torch.Tensor] = []
    assert model.fusion is not None
    rigid_flow, shown_of_driver, fuse = api.rigid_flow, api.shown_of_driver, model.fusion.forward

    def flow(*given: Any) -> torch.Tensor:
        carried.append((*given, rigid_flow(*given)))
        return carried[-1][-1]

    monkeypatch.setattr(api, "rigid_flow", flow)
    monkeypatch.setattr(api, "fit_driver_face", lambda *given: faces.append(given))
    monkeypatch.setattr(api, "shown_of_driver", lambda *given: starts.append(given[2]) or shown_of_driver(*given))
    monkeypatch.setattr(model.fusion, "forward", lambda *given: masks_given.append(given[4]) or fuse(*given))
    frames, masks = clip(2)
    subject, (driving, theirs) = replace(model.subject_of(frames, masks), reference_index=1), clip(2, seed=1)
    made = model.animate(subject, driving, theirs, motion)
    assert torch.equal(masks_given[0], made.head_mask)
    for *_, pose, background, _ in carried:
        assert torch.equal(pose.translation, subject.poses.translation[1:])
        assert torch.equal(background, outside_flow(subject.masks[1:]))
    if motion == "relative":
        first = model.pose(driving[:1], theirs[:1])
        place = relative_pose(first, first, subject.reference_pose)
        begins = warp(driving[:1], align_flow(first, place, model.geometry.k(driving), model.geometry.distance_m, 64))
        assert torch.allclose(faces[0][0], begins, atol=1e-4) and torch.allclose(starts[0].frame, begins, atol=1e-4)
        assert torch.equal(faces[0][1], warp(subject.reference, carried[0][-1]))


def test_a_reference_is_near_on_average_and_sideways_too(model: Head3D) -> None:
    model = Head3D(
        model.geometry, model.canonical_net, model.fusion, with_reference(model.params, "nearest"), model.compute
    )

    def chosen(yaw: list[float], *places: tuple[float, float, float], driving: list[float], at: int) -> int:
        poses = pose_from_euler(torch.tensor(yaw), translation=torch.tensor(places))
        there = pose_from_euler(torch.tensor(driving), translation=torch.tensor(places[at]).expand(len(driving), 3))
        return model.choose_reference(replace(model.subject(*clip(4)), poses=poses), there).reference_index

    assert chosen([0.0, 5.0], (0.0, 0.0, 0.0), (0.03, 0.0, 0.0), driving=[2.0], at=1) == 1
    assert chosen([0.0, 5.0], (0.0, 0.0, 0.0), (0.0, 0.0, 0.2), driving=[2.0], at=0) == 0  # nearer is as far as farther
    assert chosen([0.0, 15.0], (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), driving=[0.0, 20.0, 20.0], at=0) == 1
