"""The small parser, taught by the face parser on the training clips: head masks in real time.

It is shown the views that the face parser is shown, smaller, and learns what that says of them and by which features,
whatever they are of: clips of a few people have only so many heads in them, but as many pictures as one likes. So some
views are two of them, one shining through the other, as in Beyer et al., "Knowledge distillation: a good teacher is
patient and consistent", CVPR 2022.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from head3d.assets.cache import fetch
from head3d.models.blocks import imagenet
from head3d.models.head_masks import places, through
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


class Lesson(NamedTuple):
    """What the face parser says of views, for a network that sees them smaller.

    Attributes:
        share: of head in each pixel of the smaller views (B, 1, S, S).
        classes: their probabilities (B, 19, S / 8, S / 8).
        features: that the face parser makes them of (B, 256, S / 8, S / 8).
    """

    share: Tensor
    classes: Tensor
    features: Tensor


@torch.no_grad()
def taught(teacher: BiSeNet, views: Float[Tensor, "b 3 s s"], size: int) -> Lesson:
    """What the face parser says.

    Args:
        teacher: the face parser.
        views: RGB in [0, 1], as large as the face parser sees them.
        size: side of the smaller views, pixels.
    """

    def smaller(x: Tensor, size: int) -> Tensor:
        return F.interpolate(x, (size, size), mode="bilinear", antialias=True)

    kind = teacher.conv_out.conv_out.weight.dtype
    _, features = teacher.features(imagenet(views).to(kind, memory_format=torch.channels_last))
    scores = teacher.conv_out(features).float()
    share = smaller(is_head(scores, views.shape[-1]), size).clamp(0, 1)
    return Lesson(share, smaller(scores, size // 8).softmax(dim=1), smaller(features.float(), size // 8))


def mixed(share: float, count: int, rng: torch.Generator) -> tuple[Float[Tensor, "b 1 1 1"], Int[Tensor, " b"]]:
    """Weights of views, 1 but for a ``share`` of them drawn at random, and which other one shines through each."""
    weight = 0.2 + 0.6 * torch.rand(count, generator=rng)
    weight = torch.where(torch.rand(count, generator=rng) < share, weight, 1.0)
    shift = int(torch.randint(1, max(count, 2), (), generator=rng))
    return weight[:, None, None, None], (torch.arange(count) + shift) % count


def parser_losses(
    logits: Float[Tensor, "b 1 h w"],
    scores: Float[Tensor, "b 19 h8 w8"],
    features: Float[Tensor, "b 256 h8 w8"],
    lesson: Lesson,
) -> dict[str, Tensor]:
    """How far the small parser is from the face parser.

    Args:
        logits: of head, at each pixel.
        scores: of the classes, at coarse places.
        features: that the scores are made of.
        lesson: what the face parser says.

    Returns:
        Cross entropy with the shares of head, what the overlap lacks of 1, the divergence of the classes, the squared
        error of each view's features relative to their square, and the sum of all.
    """
    size = lesson.features.square().mean((1, 2, 3))  # each view's own: ranks see some of the batch
    found = {
        "cross_entropy": F.binary_cross_entropy_with_logits(logits, lesson.share),
        "overlap": 1 - soft_iou(logits.sigmoid(), lesson.share).mean(),
        "classes": F.kl_div(scores.log_softmax(dim=1), lesson.classes, reduction="none").sum(dim=1).mean(),
        "features": ((features - lesson.features).square().mean((1, 2, 3)) / size).mean(),
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

        def batch_of(step: int) -> tuple[Tensor, ...]:
            rng = step_generator(seed + 2, step)
            chosen, picks = clips.sample_indices(seed, step, settings.batch_size, 1)
            batch = clips.load(chosen, picks)
            frames, masks = batch.frames[:, 0], batch.masks[:, 0]
            frames = recolored_heads(frames, masks, settings.color, rng)
            frames = other_backgrounds(frames, masks, settings.backgrounds, rng)
            frames = jitter_colors(frames[:, None], settings.color, rng)[:, 0]
            points = (landmarks[clip][pick[0]] for clip, pick in zip(chosen, picks, strict=True))
            views = drawn_views(points, clips.size, clips.size, rng)
            weight, other = mixed(settings.mixed, len(frames), rng)
            return weight[mine], frames[mine], views[mine], frames[other[mine]], views[other[mine]]

        batches = Prefetcher(batch_of, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            weight, frames, views, others, their_views = (x.to(compute.device) for x in batches(step))

            def seen(size: int) -> Tensor:
                shown, behind = through(frames, places(views, size)), through(others, places(their_views, size))
                return weight * shown + (1 - weight) * behind

            lesson = taught(teacher, seen(params.parse.input_size), settings.input_size)
            logits, scores, features = network(seen(settings.input_size))
            return parser_losses(logits, scores, features, lesson)

        session.train(
            state,
            Schedule(settings.steps, cosine=True, warmup=settings.warmup_steps),
            losses,
            clip_norm=settings.clip_norm,
        )
        session.finish(network, state, {"clips": len(clips)})
