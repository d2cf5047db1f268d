"""The small parser, taught by the face parser's head masks on the training clips: masks in real time."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from head3d.assets import fetch
from head3d.data.store import ClipStore
from head3d.models.parsing import load_parser
from head3d.models.small_parser import SmallParser, overlap
from head3d.ranks import current, together
from head3d.training.batches import augment, jitter_colors
from head3d.training.build import fresh
from head3d.training.loop import Schedule, State, file_digest, step_generator
from head3d.training.session import Session, choose, load_clips, track

if TYPE_CHECKING:
    from head3d.params import Params


def parser_losses(logits: Float[Tensor, "b 1 h w"], wanted: Float[Tensor, "b 1 h w"]) -> dict[str, Tensor]:
    """Cross entropy with the teacher's shares of head in each pixel, and what the masks lack of an overlap of 1."""
    found = {
        "cross_entropy": F.binary_cross_entropy_with_logits(logits, wanted),
        "overlap": 1 - overlap(logits.sigmoid(), wanted).mean(),
    }
    return {"loss": found["cross_entropy"] + found["overlap"], **found}


@together
def run(params: "Params") -> None:
    """Teach the small parser; writes models/parser.safetensors."""
    settings, seed = params.parser, params.seed
    compute = choose(params)
    store = ClipStore()
    with track("train_parser", params) as tracked:
        tracked.dataset("+".join(params.data.sources), store.digest, len(store.records("train")))
        chosen = {name: getattr(params, name).model_dump() for name in ("parser", "augment")}
        chosen |= {"seed": seed, "data": store.digest, "dtype": str(compute.dtype)}
        chosen |= {"teacher": file_digest(fetch("face-parsing"))}
        session = Session("train_parser", params, chosen, tracked)
        clips = load_clips(store, "train", params)
        network = fresh(seed, SmallParser, settings.input_size, settings.width)
        network.begin(load_parser())
        compute.place(network).train()
        mine = current().rows(settings.batch_size, "parser.batch_size")
        rates = (network.trunk, settings.trunk_lr), (network.decoder, settings.lr)
        groups = [{"params": [p for part in parts for p in part.parameters()], "lr": lr} for parts, lr in rates]
        state = State({"parser": network}, torch.optim.Adam(groups))

        def losses(step: int) -> dict[str, Tensor]:
            draw = step_generator(seed + 2, step)
            batch = clips.load(*clips.at(seed, step, settings.batch_size, 1))
            batch = augment(batch, params.augment, draw, clips.k, clips.distance_m)
            frames = jitter_colors(batch.frames, settings.color, draw)[:, 0]
            frames, masks = (x[mine].to(compute.device) for x in (frames, batch.masks[:, 0]))
            return parser_losses(network(frames), masks)

        session.train(state, Schedule(settings.steps, cosine=True, warmup=settings.warmup_steps), losses, clip_norm=1.0)
        session.finish(network, state, {"clips": len(clips)})
