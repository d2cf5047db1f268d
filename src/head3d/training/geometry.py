"""Stage 1, 3D head geometry learning (Sec. 3.1): trains the depth network F_D and the pose network F_P.

The warm start comes first: poses by PnP on landmarks teach F_P, the depth of a smooth generic head teaches F_D. It
stands in for the pretrained weights of the paper; where those are there (warm_start: official), it teaches only what
they lack.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from head3d.geometry import Pose, euler_from_pose
from head3d.geometry.head_model import generic_depth
from head3d.losses import depth_smoothness, head_share, l1, symmetry
from head3d.models.head3d import HeadGeometry, freeze_batchnorm_statistics
from head3d.ranks import current, distributed
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
from head3d.training.build.geometry import build_geometry, place_geometry
from head3d.training.loop import BETAS, Schedule, State, adam, file_digest
from head3d.training.official import Start, start
from head3d.training.prefetch import Prefetcher
from head3d.training.seeds import step_generator
from head3d.training.session import Session, open_session
from head3d.training.shares import DEPTH_EVERY, check_shares
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import GeometryParams, Params

ANGLE_UNIT_DEG = 10.0  # an error of 10 degrees, of a centimetre sideways or of 5 cm towards the camera cost alike
PLACE_UNIT_M = (0.01, 0.01, 0.05)
TURNED = 0.7  # share of the warm start's frames that are turned out of the image plane


def pose_l1(predicted: Pose, target: Pose, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute error of angles and of translations over the poses that are ``valid``, in the units above."""
    count = current().share_of_count(valid.sum())
    angles = torch.stack(euler_from_pose(predicted)) - torch.stack(euler_from_pose(target))
    places = (predicted.translation - target.translation) / predicted.translation.new_tensor(PLACE_UNIT_M)
    return (
        (angles.abs().mean(0) / ANGLE_UNIT_DEG * valid).sum() / count,
        (places.abs().mean(1) * valid).sum() / count,
    )


def warm_batch(clips: Clips, settings: "GeometryParams", frames: int, seed: int, step: int) -> Batch:
    """Single frames with wide augmentation: what moves the head moves its pose too, what only hides it does not."""
    rng = step_generator(seed, step)
    which = torch.randint(len(clips), (frames,), generator=rng).tolist()
    batch = clips.load(which, [[int(torch.randint(len(clips.frames[c]), (1,), generator=rng))] for c in which])
    batch = mirror(batch, torch.rand(frames, generator=rng) < 0.5)
    spread = torch.rand(7, frames, generator=rng) * 2 - 1
    if settings.warm_turn_deg > 0:
        yaw, pitch = spread[4:6] * settings.warm_turn_deg * (torch.rand(frames, generator=rng) < TURNED)
        batch = turn(batch, yaw, pitch, clips.k, clips.distance_m)
    if settings.warm_swirl_deg > 0:
        batch = swirl(batch, spread[6] * settings.warm_swirl_deg, clips.k, clips.distance_m)
    batch = similarity(
        batch, spread[0] * 30, torch.exp(spread[1] * 0.25), spread[2:4].T * 0.15 * clips.size, clips.k, clips.distance_m
    )
    batch = occlude(batch, settings.warm_occlusion, rng)
    return Batch(jitter_colors(batch.frames, 0.4, rng), batch.masks, batch.rotation, batch.translation)


def pose_losses(geometry: HeadGeometry, batch: Batch) -> tuple[Tensor, Tensor]:
    """Errors of F_P's angles and translations against PnP poses."""
    return pose_l1(geometry.pose(batch.heads.flatten(0, 1)), *clip_pose(batch))


def warm_losses(geometry: HeadGeometry, batch: Batch) -> dict[str, Tensor]:
    """Errors against PnP poses and against the generic head's depth."""
    angle, place = pose_losses(geometry, batch)
    wanted, known = clip_pose(batch)
    heads, masks = batch.heads.flatten(0, 1), batch.masks.flatten(0, 1)
    # Every third frame of the whole batch, which rarely begins with this rank's first.
    before = current().rank * len(heads)
    some = slice(-before % DEPTH_EVERY, None, DEPTH_EVERY)
    with torch.no_grad():
        shape = generic_depth(wanted[some], geometry.k(heads), heads.shape[-1], geometry.distance_m)
        shape = shape - geometry.distance_m - wanted.translation[some, 2, None, None, None]
    counted = masks[some] * known[some, None, None, None]
    error = (geometry.depth(heads[some]) - shape).abs() * counted
    depth = error.sum() / current().share_of_count(counted.sum()) / geometry.depth.range_m
    return {"loss": angle + place + depth, "angle": angle, "place": place, "depth": depth}


def geometry_losses(
    geometry: HeadGeometry, batch: Batch, n: int, settings: "GeometryParams", held: Batch | None = None
) -> dict[str, Tensor]:
    """Eq. 4 on a batch of ``n`` reference frames a clip, followed by its driving frames.

    Args:
        geometry: F_D and F_P.
        batch: the frames.
        n: references of each clip.
        settings: section ``geometry``.
        held: frames of the warm start, whose poses F_P is held to.
    """
    clips, frames = batch.frames.shape[:2]
    heads, masks = batch.heads, batch.masks
    pose = geometry.pose(heads.flatten(0, 1))
    of_references = torch.arange(clips * frames, device=heads.device) % frames < n
    references, reference_masks = heads[:, :n].flatten(0, 1), masks[:, :n].flatten(0, 1)
    prediction = geometry.place(pose[of_references], geometry.depth(references))
    canonical = geometry.mean_canonical(references, reference_masks, prediction, n)
    rendered = geometry.render(canonical.repeat(frames - n), pose[~of_references])

    normalised = settings.area_normalised
    share = head_share(canonical.mask) if normalised else None
    shape = (canonical.depth - geometry.distance_m) / geometry.depth.range_m
    losses = {
        "photometric": l1(rendered.image, heads[:, n:].flatten(0, 1)),
        "symmetry": symmetry(canonical.image, share),
        "smoothness": depth_smoothness(shape, canonical.image, canonical.mask if normalised else None, share),
    }
    losses["loss"] = (
        losses["photometric"] + settings.symmetry * losses["symmetry"] + settings.smoothness * losses["smoothness"]
    )
    if held is not None:
        losses["hold"] = sum(pose_losses(geometry, held), start=pose.translation.new_zeros(()))
        losses["loss"] = losses["loss"] + settings.pose_hold * losses["hold"]
    return losses


def pretrained(geometry: HeadGeometry, warm_start: str, backbone: str, official: Mapping[str, Path]) -> Start:
    """Start the networks from pretrained weights, as the warm start in params.yaml asks for.

    ``generic``: F_P's ResNet-18 from the face parser's, which has learnt faces already. ``official``: files of HopeNet
    [33] and of the face depth network of [20] (:mod:`head3d.training.official`).

    Raises:
        UserError: official weights do not fit the networks of params.yaml.
    """
    from head3d.assets.cache import fetch

    pose = geometry.pose.backbone
    if warm_start == "generic":
        if backbone != "resnet18":
            return Start("none")
        state = torch.load(fetch("face-parsing"), weights_only=True, map_location="cpu")
        prefix = "cp.resnet."
        pose.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        return Start("F_P: ResNet-18 of the face parser")
    if warm_start == "none":
        return Start("none")
    return start(geometry, official)


def optimizer_of(geometry: HeadGeometry, depth_lr: float, pose_lr: float) -> torch.optim.Optimizer:
    """Adam with the paper's betas and a learning rate each for what learns of F_D and F_P."""
    groups = [
        {"params": [weight for weight in network.parameters() if weight.requires_grad], "lr": lr}
        for network, lr in ((geometry.depth, depth_lr), (geometry.pose, pose_lr))
    ]
    return adam(groups, betas=BETAS)


def hold(geometry: HeadGeometry, official: Iterable[nn.Parameter]) -> None:
    """Let ``official`` weights, and the statistics of the batch normalisations that have one, stay as they are."""
    held = {id(weight) for weight in official}
    for weight in geometry.parameters():
        weight.requires_grad_(id(weight) not in held)
    for part in geometry.modules():
        if isinstance(part, nn.BatchNorm2d) and id(part.weight) in held:
            part.eval()


def warm_up(geometry: HeadGeometry, clips: Clips, session: Session, official: Iterable[nn.Parameter] = ()) -> None:
    """The warm start: poses by PnP teach F_P, the generic head's depth F_D, but for their ``official`` weights."""
    settings, seed = session.params.geometry, session.params.seed
    mine = current().rows(settings.warm_batch, "geometry.warm_batch")

    def batch_of(step: int) -> Batch:
        return warm_batch(clips, settings, settings.warm_batch, seed + 1, step).rows(mine)

    batches = Prefetcher(batch_of, session.compute.device)

    def losses(step: int) -> dict[str, Tensor]:
        return warm_losses(geometry, batches(step).to(session.compute.device))

    geometry.train()
    hold(geometry, official)
    state = State({"geometry": geometry}, optimizer_of(geometry, settings.warm_lr, settings.warm_lr))
    schedule = Schedule(settings.warm_steps, cosine=True, warmup=min(50, settings.warm_steps // 4))
    session.train(state, schedule, losses, part="warm", clip_norm=settings.warm_clip_norm)
    hold(geometry, ())


def learn_from_rendering(geometry: HeadGeometry, clips: Clips, session: Session) -> State:
    """Eq. 4: the head rendered from the references at a driving frame's pose has to look like that frame.

    Returns:
        The state that the training ended in.
    """
    params, device = session.params, session.compute.device
    settings, seed = params.geometry, params.seed
    n, mine = params.model.references, current().rows(settings.batch_size, "geometry.batch_size")
    held_rows = current().rows(settings.hold_batch, "geometry.hold_batch") if settings.pose_hold > 0 else None

    def batch_of(step: int) -> tuple[Batch, Batch | None]:
        batch = clips.load(*clips.sample_indices(seed, step, settings.batch_size, n + settings.drivings))
        batch = augment(batch, params.augment, step_generator(seed + 2, step), clips.k, clips.distance_m)
        if held_rows is None:
            return batch.rows(mine), None
        # Held on the warm start's wide augmentation, not on these frames: else F_P unlearns what it taught.
        held = warm_batch(clips, settings, settings.hold_batch, seed + 3, step)
        return batch.rows(mine), held.rows(held_rows)

    batches = Prefetcher(batch_of, device)

    def losses(step: int) -> dict[str, Tensor]:
        batch, held = batches(step)
        return geometry_losses(geometry, batch.to(device), n, settings, None if held is None else held.to(device))

    geometry.train()
    if settings.holds_statistics:
        freeze_batchnorm_statistics(geometry)
    state = State({"geometry": geometry}, optimizer_of(geometry, settings.depth_lr, settings.pose_lr))
    per_epoch = clips.steps_per_epoch(settings.batch_size)
    cosine = settings.lr_decay == "cosine"
    drops = () if cosine else (settings.lr_drop_epoch * per_epoch,)
    schedule = Schedule(settings.epochs * per_epoch, drops, cosine=cosine, warmup=settings.warmup_steps)
    session.train(state, schedule, losses, clip_norm=settings.clip_norm)
    return state


@distributed
def run(params: "Params") -> None:
    """Train F_D and F_P; writes models/geometry.safetensors."""
    from head3d.assets.cache import fetch_all, geometry_names

    settings = params.geometry
    reads: dict[str, Any] = {
        "depth": params.model.depth.model_dump(),
        "pose": params.model.pose.model_dump(),
        "references": params.model.references,
    }
    official = fetch_all(geometry_names(params))
    if official:  # another file than before is another start
        reads["official"] = {name: file_digest(path) for name, path in official.items()}
    with open_session(params, "geometry", ("camera", "geometry", "augment"), **reads) as session:
        clips = session.load_clips(poses=True)
        check_shares(params, "geometry")
        geometry = seeded_init(params.seed, build_geometry, params)
        begun = pretrained(geometry, settings.warm_start, params.model.pose.backbone, official)
        session.tracked.tag("pretrained", begun.used)
        place_geometry(geometry, session.compute)
        if settings.has_warm_start:
            warm_up(geometry, clips, session, begun.official)
        state = learn_from_rendering(geometry, clips, session)
        said = {"warm_start": settings.warm_start, "pretrained": begun.used, "clips": len(clips)}
        session.finish(geometry, state, said)
