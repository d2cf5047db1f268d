"""The small parser, taught by the face parser on the training clips: head masks in real time.

It learns the head masks of the clips, which the face parser made of the head upright and enlarged, and the classes that
the face parser sees in the very frames that it is shown, whatever they were made of: those of a few people have only so
many heads in them, but as many pictures as one likes.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.assets.cache import fetch
from head3d.models.blocks import imagenet
from head3d.models.parsing import BiSeNet, load_parser
from head3d.models.small_parser import SmallParser, soft_iou
from head3d.ranks import current, distributed
from head3d.training.batches import augment, jitter_colors
from head3d.training.loop import Schedule, State, adam, file_digest
from head3d.training.prefetch import Prefetcher
from head3d.training.scenes import other_backgrounds, recolored_heads
from head3d.training.seeds import step_generator
from head3d.training.session import open_session
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import Params


@torch.no_grad()
def teacher_probabilities(
    teacher: BiSeNet, frames: Float[Tensor, "b 3 h w"], size: int, at: int
) -> Float[Tensor, "b 19 at at"]:
    """Probabilities of the face parser's classes.

    Args:
        teacher: the face parser.
        frames: RGB in [0, 1].
        size: side of the square that it sees them at, pixels.
        at: places of the answer along each side.
    """
    seen = F.interpolate(frames, (size, size), mode="bilinear", antialias=True)
    kind = teacher.conv_out.conv_out.weight.dtype
    scores = teacher(imagenet(seen).to(kind, memory_format=torch.channels_last)).float()
    return F.interpolate(scores, (at, at), mode="bilinear", antialias=True).softmax(dim=1)


def parser_losses(
    logits: Float[Tensor, "b 1 h w"],
    target: Float[Tensor, "b 1 h w"],
    scores: Float[Tensor, "b 19 h2 w2"],
    classes: Float[Tensor, "b 19 h2 w2"],
) -> dict[str, Tensor]:
    """How far the small parser is from the face parser.

    Args:
        logits: of head, at each pixel.
        target: the masks' share of head in each pixel.
        scores: of the classes, at coarse places.
        classes: their probabilities as the face parser sees them.

    Returns:
        Cross entropy with the masks, what they lack of an overlap of 1, and the divergence of the classes.
    """
    found = {
        "cross_entropy": F.binary_cross_entropy_with_logits(logits, target),
        "overlap": 1 - soft_iou(logits.sigmoid(), target).mean(),
        "classes": F.kl_div(scores.log_softmax(dim=1), classes, reduction="none").sum(dim=1).mean(),
    }
    return {"loss": torch.stack(list(found.values())).sum(), **found}


@distributed
def run(params: "Params") -> None:
    """Teach the small parser; writes models/parser.safetensors."""
    settings, seed = params.parser, params.seed
    teacher_file = file_digest(fetch("face-parsing"))
    with open_session(
        params, "parser", ("parser", "augment"), teacher=teacher_file, teacher_size=params.parse.input_size
    ) as session:
        clips, compute = session.load_clips(), session.compute
        network = seeded_init(seed, SmallParser, settings.input_size, settings.width)
        network.init_from_teacher(load_parser())
        teacher = load_parser(str(compute.device), compute.dtype)
        compute.place(network).train()
        mine = current().rows(settings.batch_size, "parser.batch_size")
        rates = ((network.coarse,), settings.coarse_lr), (network.decoder, settings.lr)
        groups = [{"params": [p for part in parts for p in part.parameters()], "lr": lr} for parts, lr in rates]
        state = State({"parser": network}, adam(groups))

        def batch_of(step: int) -> tuple[Tensor, Tensor]:
            rng = step_generator(seed + 2, step)
            batch = clips.load(*clips.sample_indices(seed, step, settings.batch_size, 1))
            batch = augment(batch, params.augment, rng, clips.k, clips.distance_m)
            frames, masks = batch.frames[:, 0], batch.masks[:, 0]
            frames = recolored_heads(frames, masks, settings.color, rng)
            frames = other_backgrounds(frames, masks, settings.backgrounds, rng)
            frames = jitter_colors(frames[:, None], settings.color, rng)[:, 0]
            return frames[mine], masks[mine]

        batches = Prefetcher(batch_of, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            frames, masks = (x.to(compute.device) for x in batches(step))
            scores, logits = network(frames)
            seen = teacher_probabilities(teacher, frames, params.parse.input_size, scores.shape[-1])
            return parser_losses(logits, masks, scores, seen)

        session.train(
            state,
            Schedule(settings.steps, cosine=True, warmup=settings.warmup_steps),
            losses,
            clip_norm=settings.clip_norm,
        )
        session.finish(network, state, {"clips": len(clips)})
