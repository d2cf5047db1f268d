"""Stage 2, recurrent canonical head generation (Sec. 3.2): trains E_H, Lambda and Omega_H with F_D and F_P fixed."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from head3d.losses import l1
from head3d.models.canonical import CanonicalNet
from head3d.models.head3d import HeadGeometry, recurrent_canonical
from head3d.ranks import current, distributed
from head3d.training.batches import Batch, augment
from head3d.training.build.canonical import build_canonical
from head3d.training.build.geometry import GEOMETRY, load_geometry
from head3d.training.loop import BETAS, Schedule, State, adam, file_digest
from head3d.training.prefetch import Prefetcher
from head3d.training.seeds import step_generator
from head3d.training.session import open_session
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import Params


def canonical_losses(geometry: HeadGeometry, network: CanonicalNet, batch: Batch) -> dict[str, Tensor]:
    """Eq. 6 on a batch whose last frame of each clip is the driving frame, the others its references."""
    n = batch.frames.shape[1] - 1
    heads, masks = batch.heads, batch.masks
    references, reference_masks = heads[:, :n].flatten(0, 1), masks[:, :n].flatten(0, 1)
    with torch.no_grad():
        prediction = geometry.predict(references)
        driving = geometry.pose(heads[:, n])
    estimate, _ = recurrent_canonical(geometry, network, references, reference_masks, prediction, n)
    rendered = geometry.render(estimate, driving)
    return {"loss": l1(rendered.image, heads[:, n])}


@distributed
def run(params: "Params") -> None:
    """Train the canonical head's networks; writes models/canonical.safetensors."""
    settings, seed = params.canonical, params.seed
    with open_session(
        params,
        "canonical",
        ("camera", "canonical", "augment"),
        network=params.model.canonical.model_dump(),
        references=params.model.references,
        geometry=file_digest(GEOMETRY),
    ) as session:
        clips, compute = session.load_clips(), session.compute
        geometry = load_geometry(params, compute)
        network = compute.place(seeded_init(seed, build_canonical, params))
        network.train()
        mine = current().rows(settings.batch_size, "canonical.batch_size")
        optimizer = adam(network.parameters(), lr=settings.lr, betas=BETAS)
        state = State({"network": network}, optimizer)

        def batch_of(step: int) -> Batch:
            batch = clips.load(*clips.sample_indices(seed, step, settings.batch_size, params.model.references + 1))
            return augment(batch, params.augment, step_generator(seed + 2, step), clips.k, clips.distance_m).rows(mine)

        batches = Prefetcher(batch_of, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            return canonical_losses(geometry, network, batches(step).to(compute.device))

        per_epoch = clips.steps_per_epoch(settings.batch_size)
        schedule = Schedule(settings.epochs * per_epoch, drops=(settings.lr_drop_epoch * per_epoch,))
        session.train(state, schedule, losses, clip_norm=settings.clip_norm)
        session.finish(network, state, {"clips": len(clips)})
