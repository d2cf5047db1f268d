"""Phi's matcher, taught on motions that are known; stage 3 goes on from there.

A training frame is moved by a random smooth flow, the head otherwise than what is around it, and the matcher has to
tell that flow from the two images. Beside it pairs of frames show how faces really move (expression.py). It takes no
renderer and no decoder, so a step costs a fifth of one of stage 3.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.geometry import pixel_grid, warp
from head3d.models.matching import Matcher
from head3d.ranks import current, distributed
from head3d.training.batches import augment, jitter_colors
from head3d.training.expression import Moved, expression_losses, moved_faces
from head3d.training.loop import Schedule, State, adam
from head3d.training.prefetch import Prefetcher
from head3d.training.seeds import step_generator
from head3d.training.session import open_session
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import Params

MATCHING = Path("models/matching.safetensors")
TINY = 1e-12  # square pixels: a square root of zero has no slope
WEIGHTS = (0.25, 0.5, 1.0)  # of the levels' errors, coarsest first
# (control points a side, their spread in shares of the image's side): a bend of the whole, of parts, and ripples.
OF_HEAD = ((5, 0.016), (12, 0.008), (24, 0.004))
AROUND = ((4, 0.008),)


def _bends(count: int, size: int, layers: tuple[tuple[int, float], ...], rng: torch.Generator) -> Tensor:
    total = torch.zeros(count, 2, size, size)
    for points, spread in layers:
        control = torch.randn(count, 2, points, points, generator=rng) * spread * size
        total += F.interpolate(control, size=(size, size), mode="bicubic", align_corners=True)
    return total


def _affine(count: int, size: int, shift: float, turn_deg: float, growth: float, rng: torch.Generator) -> Tensor:
    """Small turns, growths and shifts about the image's centre."""
    turn, grow = torch.randn(2, count, 1, 1, generator=rng) * torch.tensor((math.radians(turn_deg), growth)).view(
        2, 1, 1, 1
    )
    x, y = pixel_grid(size, size, torch.zeros(())).unbind(-1)
    x, y = x - (size - 1) / 2, y - (size - 1) / 2
    linear = torch.stack((grow * x - turn * y, grow * y + turn * x), dim=1)
    return linear + torch.randn(count, 2, 1, 1, generator=rng) * shift * size


def random_motion(masks: Float[Tensor, "b 1 h w"], rng: torch.Generator) -> Float[Tensor, "b 2 h w"]:
    """Random backward flows, pixels: heads move otherwise than what is around them; some hardly move at all.

    Args:
        masks: head masks in [0, 1].
        rng: randomness.
    """
    count, size = len(masks), masks.shape[-1]
    head = _affine(count, size, 0.023, 3.0, 0.03, rng) + _bends(count, size, OF_HEAD, rng)
    around = _affine(count, size, 0.016, 1.0, 0.01, rng) + _bends(count, size, AROUND, rng)
    soft = F.avg_pool2d(masks, 5, stride=1, padding=2)
    return 1.5 * torch.rand(count, 1, 1, 1, generator=rng) * (soft * head + (1 - soft) * around)


def matching_losses(
    matcher: Matcher, frames: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 2 h w"], shown: Tensor
) -> dict[str, Tensor]:
    """Endpoint error of every level's flow, pixels of the image, where the true flow leads into the image.

    Args:
        matcher: Phi's matcher.
        frames: the images before the motion.
        truth: the motion.
        shown: the images after it.
    """
    size = truth.shape[-1]
    place = pixel_grid(size, size, truth) + truth.permute(0, 2, 3, 1)
    inside = ((place >= 0) & (place <= size - 1)).all(dim=-1).float()
    total = current().share_of_count(inside.sum())
    misses = (flow - truth for flow in matcher(frames, shown))
    # Not Tensor.norm, which takes ten times as long across two channels.
    errors = [((miss.square().sum(dim=1) + TINY).sqrt() * inside).sum() / total for miss in misses]
    loss = sum((w * e for w, e in zip(WEIGHTS, errors, strict=True)), torch.zeros_like(total))
    return {"loss": loss, "endpoint_error": errors[-1].detach()}


@distributed
def run(params: "Params") -> None:
    """Teach the matcher; writes models/matching.safetensors. Without ``model.fusion.matching`` it stays as it is."""
    settings, seed = params.matching, params.seed
    with open_session(
        params,
        "matching",
        ("matching", "augment"),
        wanted=params.model.fusion.matching,
        driving_jitter=params.fusion.driving_jitter,
    ) as session:
        clips, compute = session.load_clips(), session.compute
        matcher = compute.place(seeded_init(seed, Matcher))
        matcher.train()
        mine = current().rows(settings.batch_size, "matching.batch_size")
        pairs = current().rows(settings.pairs, "matching.pairs") if settings.pairs else None
        landmarks = [np.asarray(session.store.landmarks(record)) for record in session.store.split("train")]
        state = State({"matcher": matcher}, adam(matcher.parameters(), lr=settings.lr))

        def batch_of(step: int) -> tuple[list[Tensor], Moved | None]:
            rng = step_generator(seed + 2, step)
            batch = clips.load(*clips.sample_indices(seed, step, settings.batch_size, 1))
            batch = augment(batch, params.augment, rng, clips.k, clips.distance_m)
            frames, masks = batch.frames[:, 0], batch.masks[:, 0]
            truth = random_motion(masks, rng)
            moved = warp(frames, truth, mode="bicubic").clamp(0, 1)
            # As in stage 3, the image after the motion has other colours.
            shown = jitter_colors(moved[:, None], params.fusion.driving_jitter, rng)[:, 0]
            made = [x[mine] for x in (frames, truth, shown)]
            if pairs is None:
                return made, None
            clip_indices, frame_indices = clips.sample_indices(seed + 3, step, settings.pairs, 2)
            return made, moved_faces(
                clips, landmarks, clip_indices, frame_indices, params.fusion.driving_jitter, rng
            ).rows(pairs)

        batches = Prefetcher(batch_of, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            made, faces = batches(step)
            losses = matching_losses(matcher, *(x.to(compute.device) for x in made))
            if faces is None:
                return losses
            found = expression_losses(matcher, faces.to(compute.device), WEIGHTS)
            total = losses["loss"] + settings.pair_weight * found["loss"]
            return losses | {"loss": total, "landmark_error": found["landmark_error"]}

        steps = settings.steps if params.model.fusion.matching else 0
        session.train(
            state, Schedule(steps, cosine=True, warmup=settings.warmup_steps), losses, clip_norm=settings.clip_norm
        )
        session.finish(matcher, state, {"clips": len(clips)})
