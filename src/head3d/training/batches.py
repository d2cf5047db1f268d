"""Batches of a training stage: which clips and frames a step sees, and how they are augmented.

Everything is a function of the seed and the step, so a resumed run sees what an undisturbed one would.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.errors import UserError
from head3d.geometry import Pose, intrinsics, pixel_grid, project, reproject, rotation_from_euler
from head3d.geometry.head_model import generic_depth
from head3d.geometry.pnp import solve_pnp
from head3d.ranks import ALONE, Ranks
from head3d.training.seeds import step_generator

if TYPE_CHECKING:
    from head3d.data.store import ClipStore
    from head3d.params import Params

SEEN = 0.05  # of a head mask; below it colours are not told apart from black
FACE, AROUND = 0.25, 0.5  # distances from the head's centre, of the image's side, where the face ends and hair hangs


class Augmentation(Protocol):
    """The section ``augment`` of params.yaml."""

    @property
    def flip(self) -> bool: ...
    @property
    def color(self) -> float: ...
    @property
    def similarity(self) -> float: ...


@dataclass(frozen=True)
class Batch:
    """Frames of B clips, n frames each.

    Attributes:
        frames: (B, n, 3, H, W) in [0, 1].
        masks: (B, n, 1, H, W), soft head masks in [0, 1].
        rotation: (B, n, 3, 3), PnP poses from landmarks; NaN where there are none.
        translation: (B, n, 3), metres, likewise.
    """

    frames: Tensor
    masks: Tensor
    rotation: Tensor
    translation: Tensor

    @property
    def heads(self) -> Float[Tensor, "b n 3 h w"]:
        """Head images x: frames with everything but face and hair zero."""
        return self.frames * self.masks

    def rows(self, which: slice) -> "Batch":
        """The frames of some of the clips."""
        return Batch(*(x[which] for x in (self.frames, self.masks, self.rotation, self.translation)))

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(x.to(device) for x in (self.frames, self.masks, self.rotation, self.translation)))


class Clips:
    """The clips of a split, and where landmarks are given a pose by PnP for every frame.

    Args:
        frames: a uint8 array (T, H, W, 3) a clip.
        masks: a uint8 array (T, H, W) a clip.
        landmarks: a float array (T, 68, 2) a clip, pixels. None: poses are NaN, as where no face was found.
        fov_deg: field of view of the camera.
        distance_m: distance of the head's centre.
        people: who is in each clip. A pass then goes over people, with a clip of each drawn at random, instead of over
            clips: ``id_sampling`` of the baselines' configurations.
    """

    def __init__(
        self,
        frames: list[np.ndarray],
        masks: list[np.ndarray],
        landmarks: list[np.ndarray] | None,
        fov_deg: float,
        distance_m: float,
        people: Sequence[Hashable] | None = None,
    ) -> None:
        self.frames, self.masks = frames, masks
        groups: dict[object, list[int]] = {}
        for clip, who in enumerate(people or range(len(frames))):
            groups.setdefault(who, []).append(clip)
        self.groups = list(groups.values())  # what a pass draws one clip of
        self.size = frames[0].shape[1]
        self.fov_deg, self.distance_m = fov_deg, distance_m
        self.k = intrinsics(self.size, self.size, fov_deg)
        counts = [len(x) for x in frames]
        if landmarks is None:
            nowhere = torch.full((sum(counts), 3, 4), torch.nan)
            pose, self.pnp_error = Pose(nowhere[..., :3], nowhere[..., 3]), nowhere[:, 0, 0]
        else:
            pose, self.pnp_error = solve_pnp(torch.from_numpy(np.concatenate(landmarks)).float(), self.k, distance_m)
        self.rotation, self.translation = pose.rotation.split(counts), pose.translation.split(counts)

    def __len__(self) -> int:
        return len(self.frames)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in one pass over the clips; a last batch may be short of clips and borrows from the next pass."""
        return max(1, -(-self.per_pass // batch_size))

    @property
    def per_pass(self) -> int:
        """Clips that a pass draws: all of them, or one of each person."""
        return len(self.groups)

    def sample_indices(self, seed: int, step: int, batch_size: int, frames: int) -> tuple[list[int], list[list[int]]]:
        """Clips of a step, and ``frames`` different frames of each in random order."""
        rng = step_generator(seed, step)
        clip_indices: list[int] = []
        orders: dict[int, Tensor] = {}  # of the groups, in the one or two passes that the step is of
        for place in range(step * batch_size, (step + 1) * batch_size):
            epoch, index = divmod(place, self.per_pass)
            if epoch not in orders:
                orders[epoch] = torch.randperm(self.per_pass, generator=step_generator(seed, -1 - epoch))
            group = self.groups[orders[epoch][index]]
            clip_indices.append(
                group[int(torch.randint(len(group), (), generator=rng))] if len(group) > 1 else group[0]
            )
        frame_indices = [torch.randperm(len(self.frames[c]), generator=rng)[:frames].tolist() for c in clip_indices]
        return clip_indices, frame_indices

    def load(self, clip_indices: list[int], frame_indices: list[list[int]]) -> Batch:
        """The frames of some clips."""
        frames = torch.stack(
            [torch.from_numpy(self.frames[c][p]) for c, p in zip(clip_indices, frame_indices, strict=True)]
        )
        masks = torch.stack(
            [torch.from_numpy(self.masks[c][p]) for c, p in zip(clip_indices, frame_indices, strict=True)]
        )
        return Batch(
            frames.permute(0, 1, 4, 2, 3).float() / 255,
            masks[:, :, None].float() / 255,
            torch.stack([self.rotation[c][p] for c, p in zip(clip_indices, frame_indices, strict=True)]),
            torch.stack([self.translation[c][p] for c, p in zip(clip_indices, frame_indices, strict=True)]),
        )


def load_clips(
    store: "ClipStore", split: str, params: "Params", *, id_sampling: bool = False, poses: bool = False
) -> Clips:
    """All clips of a split; frames and masks stay on disk until a step asks for them.

    At the paper's scale they are 20 GB, at 256x256 79 GB: the operating system keeps what fits.

    Args:
        store: where the clips are.
        split: ``train`` or a test set.
        params: of the camera.
        id_sampling: passes go over people, not over clips.
        poses: solve the poses of all frames from their landmarks, which only stage 1 learns from.

    Raises:
        UserError: the split is empty, or its clips are not of the size that params.yaml says.
    """
    records = store.split(split)
    frames, masks = zip(*map(store.views, records), strict=True)
    wanted = (params.data.clip_length, params.data.image_size, params.data.image_size, 3)
    if other := next((one.shape for one in frames if one.shape != wanted), None):
        raise UserError(
            f"data/clips: clips of {other[0]} frames of {other[2]}x{other[1]} pixels",
            allowed=f"what params.yaml says: {wanted[0]} frames of {wanted[1]}x{wanted[2]}",
            fix="run the pipeline from `head3d crop` on (dvc repro)",
        )
    return Clips(
        list(frames),
        list(masks),
        [np.asarray(store.landmarks(r)) for r in records] if poses else None,
        params.camera.fov_deg,
        params.camera.distance_m,
        [r.person_key for r in records] if id_sampling else None,
    )


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def jitter_colors(
    frames: Float[Tensor, "b n 3 h w"], strength: float, rng: torch.Generator, ranks: Ranks = ALONE
) -> Float[Tensor, "b n 3 h w"]:
    """Random brightness, contrast, saturation and tint, the same for all frames of a clip.

    Args:
        frames: in [0, 1].
        strength: 0 changes nothing.
        rng: randomness.
        ranks: among whom ``frames`` are this rank's rows of the whole batch that is drawn for.
    """
    if strength == 0:
        return frames
    count = len(frames) * ranks.world_size
    mine, shape = ranks.rows(count), (count, 1, 1, 1, 1)
    drawn = [_uniform(shape, 1 - strength, 1 + strength, rng) for _ in range(3)]
    drawn.append(_uniform((count, 1, 3, 1, 1), 1 - strength / 2, 1 + strength / 2, rng))
    bright, contrast, saturate, tint = (x[mine].to(frames.device) for x in drawn)
    grey = frames.mean(dim=2, keepdim=True)
    mean = grey.mean(dim=(1, 3, 4), keepdim=True)
    out = grey + (frames - grey) * saturate
    out = (out - mean) * contrast + mean
    return (out * bright * tint).clamp(0, 1)


def mirror(batch: Batch, which: Tensor) -> Batch:
    """Mirror some of the clips left to right; poses follow."""
    sign = torch.where(which, -1.0, 1.0)[:, None]
    flip = which[:, None, None, None, None]
    diagonal = torch.stack((sign, torch.ones_like(sign), torch.ones_like(sign)), dim=-1)  # (B, 1, 3)
    return Batch(
        torch.where(flip, batch.frames.flip(-1), batch.frames),
        torch.where(flip, batch.masks.flip(-1), batch.masks),
        batch.rotation * diagonal[..., None] * diagonal[..., None, :],
        batch.translation * diagonal,
    )


def similarity(
    batch: Batch,
    turn_deg: Float[Tensor, " b"],
    scale: Float[Tensor, " b"],
    shift: Float[Tensor, "b 2"],
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> Batch:
    """Turn, scale and shift whole clips about the image's centre; poses follow.

    Turning about the optical axis and scaling (walking nearer) move poses exactly; a shift is taken as a translation,
    which it is up to the parallax of a 10 degree view.

    Args:
        batch: frames.
        turn_deg: clockwise.
        scale: above 1 the head grows.
        shift: of the image, pixels, to the right and down.
        k: camera matrix.
        distance_m: distance of the head's centre.
    """
    clips, n = batch.frames.shape[:2]
    size = batch.frames.shape[-1]
    angle = turn_deg.deg2rad()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    move = shift * 2 / (size - 1)
    # Output to input: undo the shift, then turn back and shrink.
    linear = torch.stack((torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)), dim=1)
    theta = torch.cat((linear, -(linear @ move[..., None])), dim=-1)
    grid = F.affine_grid(theta, [clips, 1, size, size], align_corners=True)
    frames = F.grid_sample(batch.frames.flatten(1, 2), grid, padding_mode="reflection", align_corners=True)
    # A head cut by the picture's edge is still cut by the edge after the turn, never in mid-air at an angle.
    masks = F.grid_sample(batch.masks.flatten(1, 2), grid, padding_mode="border", align_corners=True)
    zero = torch.zeros_like(turn_deg)
    about_axis = rotation_from_euler(zero, zero, turn_deg)[:, None]
    centre = torch.tensor((0.0, 0.0, distance_m))
    place = (about_axis @ (batch.translation + centre)[..., None]).squeeze(-1)
    depth = place[..., 2:] / scale[:, None, None]
    sideways = place[..., :2] + shift[:, None] * depth / k[0, 0]
    return Batch(
        frames.unflatten(1, (n, 3)),
        masks.unflatten(1, (n, 1)),
        about_axis @ batch.rotation,
        torch.cat((sideways, depth), dim=-1) - centre,
    )


def turn(
    batch: Batch,
    yaw_deg: Float[Tensor, " b"],
    pitch_deg: Float[Tensor, " b"],
    k: Float[Tensor, "3 3"],
    distance_m: float,
) -> Batch:
    """Turn heads out of the image plane, as far as a smooth generic head tells their depth; poses follow.

    Faces of a few people seen from many sides teach a pose network more than the same faces seen as they were filmed.
    Only heads are left: what is behind them is black. Frames without a pose stay as they are.

    Args:
        batch: frames.
        yaw_deg: turn of each clip about the vertical axis, after its own pose.
        pitch_deg: about the horizontal axis.
        k: camera matrix.
        distance_m: distance of the head's centre.
    """
    n, size = batch.frames.shape[1], batch.frames.shape[-1]
    seen, known = clip_pose(batch)
    more = rotation_from_euler(yaw_deg, pitch_deg, torch.zeros_like(yaw_deg)).repeat_interleave(n, dim=0)
    more = torch.where(known[:, None, None], more, torch.eye(3))
    wanted = Pose(more @ seen.rotation, seen.translation)
    depth = generic_depth(seen, k, size, distance_m)
    view = reproject(batch.heads.flatten(0, 1), batch.masks.flatten(0, 1), depth, seen, wanted, k, distance_m)
    frames = (view.image / view.mask.clamp(min=SEEN)).clamp(0, 1)
    rotation = more.unflatten(0, (-1, n)) @ batch.rotation  # NaN where there is no pose
    return Batch(frames.unflatten(0, (-1, n)), view.mask.unflatten(0, (-1, n)), rotation, batch.translation)


def swirl(batch: Batch, turn_deg: Float[Tensor, " b"], k: Float[Tensor, "3 3"], distance_m: float) -> Batch:
    """Turn what is around the face about it and leave the face, and so the pose, alone.

    Long hair hangs down however the head rolls: a pose network must not read the roll off it.

    Args:
        batch: frames.
        turn_deg: of the outermost parts of each clip's heads, clockwise; it fades to nothing towards the face.
        k: camera matrix.
        distance_m: distance of the head's centre.
    """
    n, size = batch.frames.shape[1], batch.frames.shape[-1]
    pose, _ = clip_pose(batch)
    place = pose.translation + torch.tensor((0.0, 0.0, distance_m))
    centre, growth = project(place[:, None], k)[:, :1], distance_m / place[:, 2]  # (B * n, 1, 2), (B * n)
    away = pixel_grid(size, size, centre)[None] - centre[:, None]  # (B * n, H, W, 2)
    reach = away.norm(dim=-1) / (size * growth[:, None, None])
    share = ((reach - FACE) / (AROUND - FACE)).clamp(0, 1)
    share = share.square() * (3 - 2 * share)
    angle = -turn_deg.deg2rad().repeat_interleave(n)[:, None, None] * share
    cos, sin = angle.cos(), angle.sin()
    x, y = away.unbind(-1)
    grid = (torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1) + centre[:, None]) * 2 / (size - 1) - 1
    frames = F.grid_sample(batch.frames.flatten(0, 1), grid, padding_mode="reflection", align_corners=True)
    masks = F.grid_sample(batch.masks.flatten(0, 1), grid, padding_mode="border", align_corners=True)
    return Batch(frames.unflatten(0, (-1, n)), masks.unflatten(0, (-1, n)), batch.rotation, batch.translation)


def occlude(batch: Batch, share: float, rng: torch.Generator) -> Batch:
    """Take a rectangle off the head masks of some clips, anywhere or all from a row downwards; poses stay.

    Args:
        batch: frames.
        share: of the clips that lose something.
        rng: randomness.
    """
    clips, size = len(batch.frames), batch.frames.shape[-1]
    chosen, kind = torch.rand(2, clips, generator=rng)
    wide, high = _uniform((2, clips), 0.1, 0.35, rng) * size
    left, top = torch.rand(2, clips, generator=rng) * (size - torch.stack((wide, high)))
    below = kind < 0.4
    left, wide = torch.where(below, 0, left), torch.where(below, size, wide)
    top = torch.where(below, _uniform((clips,), 0.62, 0.92, rng) * size, top)
    high = torch.where(below, size, high)
    pixels = torch.arange(size)
    columns = (pixels >= left[:, None]) & (pixels < (left + wide)[:, None])
    rows = (pixels >= top[:, None]) & (pixels < (top + high)[:, None])
    gone = rows[:, :, None] & columns[:, None, :] & (chosen < share)[:, None, None]
    masks = batch.masks.masked_fill(gone[:, None, None], 0.0)
    return Batch(batch.frames, masks, batch.rotation, batch.translation)


def augment(
    batch: Batch, settings: Augmentation, rng: torch.Generator, k: Float[Tensor, "3 3"], distance_m: float
) -> Batch:
    """Augment whole clips, all frames of a clip alike, as ``augment`` in params.yaml says."""
    clips = len(batch.frames)
    if settings.flip:
        batch = mirror(batch, torch.rand(clips, generator=rng) < 0.5)
    if settings.similarity > 0:
        reach, size = settings.similarity, batch.frames.shape[-1]
        batch = similarity(
            batch,
            _uniform((clips,), -100 * reach, 100 * reach, rng),
            torch.exp(_uniform((clips,), -1.5 * reach, 1.5 * reach, rng)),
            _uniform((clips, 2), -0.6 * reach * size, 0.6 * reach * size, rng),
            k,
            distance_m,
        )
    return Batch(jitter_colors(batch.frames, settings.color, rng), batch.masks, batch.rotation, batch.translation)


def clip_pose(batch: Batch) -> tuple[Pose, Tensor]:
    """Flat PnP poses of a batch, (B * n), with identity where there is none, and which are real."""
    rotation, translation = batch.rotation.flatten(0, 1), batch.translation.flatten(0, 1)
    known = rotation.isfinite().all(-1).all(-1) & translation.isfinite().all(-1)
    eye = torch.eye(3, device=rotation.device)
    return (
        Pose(
            torch.where(known[:, None, None], rotation, eye),
            torch.where(known[:, None], translation, torch.zeros_like(translation)),
        ),
        known,
    )
