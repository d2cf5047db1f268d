"""The small parser, taught by the face parser on the training clips: head masks in real time.

It is shown the views that the face parser is shown, smaller, and learns what that says of them, whatever they were made
of: clips of a few people have only so many heads in them, but as many pictures as one likes.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.assets.cache import fetch
from head3d.models.blocks import imagenet
from head3d.models.head_masks import through
from head3d.models.parsing import BiSeNet, is_head, load_parser
from head3d.models.small_parser import SmallParser, soft_iou
from head3d.ranks import current, distributed
from head3d.training.batches import jitter_colors
from head3d.training.loop import Schedule, State, adam, file_digest
from head3d.training.prefetch import Prefetcher
from head3d.training.scenes import other_backgrounds, recolored_heads
from head3d.training.seeds import step_generator
from head3d.training.session import open_session
from head3d.training.views import drawn_views
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import Params


@torch.no_grad()
def taught(
    teacher: BiSeNet, views: Float[Tensor, "b 3 s s"], size: int
) -> tuple[Float[Tensor, "b 1 size size"], Float[Tensor, "b 19 at at"]]:
    """What the face parser says of views, for a network that sees them smaller.

    Args:
        teacher: the face parser.
        views: RGB in [0, 1], as large as the face parser sees them.
        size: side of the smaller views, pixels.

    Returns:
        The share of head in each pixel of the smaller views, and the probabilities of the classes at an eighth of them.
    """
    kind, at = teacher.conv_out.conv_out.weight.dtype, size // 8
    scores = teacher(imagenet(views).to(kind, memory_format=torch.channels_last)).float()
    head = is_head(scores, views.shape[-1])
    classes = F.interpolate(scores, (at, at), mode="bilinear", antialias=True).softmax(dim=1)
    return F.interpolate(head, (size, size), mode="bilinear", antialias=True).clamp(0, 1), classes


def parser_losses(
    logits: Float[Tensor, "b 1 h w"],
    target: Float[Tensor, "b 1 h w"],
    scores: Float[Tensor, "b 19 h2 w2"],
    classes: Float[Tensor, "b 19 h2 w2"],
) -> dict[str, Tensor]:
    """How far the small parser is from the face parser.

    Args:
        logits: of head, at each pixel.
        target: the share of head in each pixel.
        scores: of the classes, at coarse places.
        classes: their probabilities as the face parser sees them.

    Returns:
        Cross entropy with the shares, what the overlap lacks of 1, the divergence of the classes, and their sum.
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
        params, "parser", ("parser",), teacher=teacher_file, teacher_size=params.parse.input_size
    ) as session:
        clips, compute = session.load_clips(), session.compute
        landmarks = [session.store.landmarks(record) for record in session.store.split("train")]
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
            chosen, picks = clips.sample_indices(seed, step, settings.batch_size, 1)
            batch = clips.load(chosen, picks)
            frames, masks = batch.frames[:, 0], batch.masks[:, 0]
            frames = recolored_heads(frames, masks, settings.color, rng)
            frames = other_backgrounds(frames, masks, settings.backgrounds, rng)
            frames = jitter_colors(frames[:, None], settings.color, rng)[:, 0]
            points = (landmarks[clip][pick[0]] for clip, pick in zip(chosen, picks, strict=True))
            views = drawn_views(points, clips.size, clips.size, rng)
            return frames[mine], views[mine]

        batches = Prefetcher(batch_of, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            frames, views = (x.to(compute.device) for x in batches(step))
            scores, logits = network(through(frames, views, settings.input_size))
            shares, classes = taught(teacher, through(frames, views, params.parse.input_size), settings.input_size)
            return parser_losses(logits, shares, scores, classes)

        session.train(
            state,
            Schedule(settings.steps, cosine=True, warmup=settings.warmup_steps),
            losses,
            clip_norm=settings.clip_norm,
        )
        session.finish(network, state, {"clips": len(clips)})
