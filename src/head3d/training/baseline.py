"""Training of a baseline: the same clips, augmentation, loop and precision as Head3D's stages, its own losses."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from head3d.baselines import build
from head3d.baselines.losses import PyramidLoss
from head3d.baselines.method import Method
from head3d.baselines.objective import Objective, Pairs, TrainingPhase, steps_per_epoch
from head3d.compute import Compute
from head3d.losses import PerceptualLoss
from head3d.models.head3d import HeadGeometry, freeze
from head3d.ranks import current, distributed
from head3d.training.batches import Batch, Clips, augment
from head3d.training.build.geometry import GEOMETRY, load_geometry
from head3d.training.loop import BETAS, PACKAGE, Schedule, State, adam, code_digest, file_digest
from head3d.training.prefetch import Prefetcher
from head3d.training.seeds import step_generator
from head3d.training.session import Session, open_session
from head3d.training.shares import check_shares
from head3d.training.weights import seeded_init

if TYPE_CHECKING:
    from head3d.params import Params

BEFORE, AFTER = 5, 10  # added to the seed, so that a method's parts see other batches than the method


def place(method: Method, compute: Compute) -> Method:
    """A method on its device, in the layout that its convolutions are fastest in, each network in its precision."""
    method.to(compute.device)
    for module in method.modules():
        if compute.channels_last and isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        if compute.channels_last and isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if compute.dtype == torch.bfloat16:
        exact = torch.autocast(compute.device.type, enabled=False)
        for name, network in method.networks().items():
            network.forward = (exact if name in method.exact else compute.autocast())(network.forward)
        # The parts of a generator that are called by themselves run under this one.
        method.forward_pair = compute.autocast()(method.forward_pair)  # type: ignore[method-assign]
    return method


def pair_loader(clips: Clips, params: "Params", batch_size: int, device: torch.device) -> Callable[[int], Pairs]:
    """Two frames of each clip of a step, augmented alike as Head3D's are: this rank's rows of the batch."""
    mine = current().rows(batch_size)

    def batch_of(step: int) -> Batch:
        batch = clips.load(*clips.sample_indices(params.seed, step, batch_size, 2))
        batch = augment(batch, params.augment, step_generator(params.seed + 2, step), clips.k, clips.distance_m)
        return batch.rows(mine)

    batches = Prefetcher(batch_of, device)

    def pairs_of(step: int) -> Pairs:
        batch = batches(step).to(device)
        return Pairs(batch.frames[:, 0], batch.frames[:, 1], batch.masks[:, 0], batch.masks[:, 1])

    return pairs_of


def load_objective(name: str) -> type[Objective]:
    """What a baseline trains with: class ``Training`` of ``head3d.baselines.NAME.training``."""
    return import_module(f"head3d.baselines.{name}.training").Training


def perceptual_loss(params: "Params", compute: Compute) -> PyramidLoss:
    """The perceptual loss that the section ``baseline`` asks for."""
    from head3d.assets.cache import load_vgg

    shared = params.baseline.training
    vgg = compute.place(PerceptualLoss(shared.perceptual, load_vgg(shared.perceptual), (1.0,)))
    return PyramidLoss(vgg, shared.perceptual_scales).to(compute.device)


def what_is_read(params: "Params", name: str, geometry: bool) -> dict[str, Any]:
    """What the trained weights of a baseline depend on besides its sections of the parameters.

    Args:
        params: all parameters.
        name: of the method.
        geometry: whether stage 1 teaches it.
    """
    from head3d.assets.cache import fetch_all

    # Session adds the digest of what all stages share; another method's code does not matter.
    shared = sorted(f"baselines/{path.name}" for path in (PACKAGE / "baselines").glob("*.py"))
    reads: dict[str, Any] = {
        "method": getattr(params.baseline, name).model_dump(),
        "training": params.baseline.training.model_dump(),
        "code": code_digest([*shared, f"baselines/{name}"]),
    }
    if files := fetch_all(load_objective(name).official(getattr(params.baseline, name))):
        reads["official"] = {asset: file_digest(path) for asset, path in files.items()}
    return reads | {"geometry": file_digest(GEOMETRY)} if geometry else reads


def teacher(params: "Params", compute: Compute) -> HeadGeometry:
    """F_D and F_P of stage 1."""
    return load_geometry(params, compute)


def train_part(part: TrainingPhase, shift: int, session: Session, clips: Clips) -> dict[str, float]:
    """Train what comes before or after a method's own training.

    Args:
        part: what learns, and how.
        shift: ``BEFORE`` or ``AFTER``.
        session: of the method.
        clips: of training.

    Returns:
        Its steps and its last losses, for the summary.
    """
    part.network.requires_grad_(True).train()
    state = State({"network": part.network}, adam(part.groups(), betas=BETAS))
    shifted = session.params.model_copy(update={"seed": session.params.seed + shift})
    pairs_of = pair_loader(clips, shifted, part.batch_size, session.compute.device)

    def losses(step: int) -> dict[str, Tensor]:
        return part.losses(step, pairs_of, step_generator(shifted.seed + 4, step))

    schedule = Schedule(part.steps, part.drops or (), cosine=part.drops is None, warmup=part.warmup)
    session.train(state, schedule, losses, part=part.name)
    if part.frozen_after:
        freeze(part.network)
    last = {f"{part.name}_{name}": round(value, 6) for _, name, value in state.history if name == "loss"}
    return {f"{part.name}_steps": state.step, **last}


@distributed
def run(params: "Params", method: str) -> None:
    """Train a baseline; writes models/baseline-METHOD.safetensors."""
    settings, shared, seed = getattr(params.baseline, method), params.baseline.training, params.seed
    check_shares(params, "baseline", method)
    kind = load_objective(method)
    reads = what_is_read(params, method, kind.needs_geometry)
    with open_session(params, "baseline", ("augment",), instance=method, **reads) as session:
        clips, compute = session.load_clips(id_sampling=shared.id_sampling), session.compute
        geometry = teacher(params, compute) if kind.needs_geometry else None
        trained = place(seeded_init(seed, make, params, method), compute)
        perceptual = perceptual_loss(params, compute)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            objective = kind(trained, settings, perceptual, geometry, shared.pixel_weight)
        for key, note in objective.notes.items():
            session.tracked.tag(key, note)
        if objective.discriminator is not None:
            compute.place(objective.discriminator)
        before, after = objective.pretraining(clips.per_pass), objective.posttraining(clips.per_pass)

        parts = train_part(before, BEFORE, session, clips) if before else {}
        state = train_method(objective, trained, session, clips)
        freeze(trained)
        parts |= train_part(after, AFTER, session, clips) if after else {}
        about = {"clips": len(clips), "method": method, "pairs_per_step": settings.batch_size}
        about |= {"people": clips.per_pass} if shared.id_sampling else {}
        session.finish(trained, state, {**about, **objective.notes, **parts})


def train_method(objective: Objective, method: Method, session: Session, clips: Clips) -> State:
    """The method's own training, by its objective.

    Returns:
        The state that it ended in.
    """
    params, settings, shared = session.params, objective.settings, session.params.baseline.training
    method.train()
    state = State(objective.networks(), adam(objective.parameters(), lr=settings.lr, betas=BETAS))
    per_epoch = steps_per_epoch(clips.per_pass, shared.repeats, settings.batch_size)
    cosine = shared.lr_decay == "cosine"
    drops = () if cosine else tuple(epoch * per_epoch for epoch in settings.milestones)
    schedule = Schedule(settings.epochs * per_epoch, drops, cosine=cosine)
    pairs_of = pair_loader(clips, params, settings.batch_size, session.compute.device)

    def losses(step: int) -> dict[str, Tensor]:
        return objective.losses(pairs_of(step), step_generator(params.seed + 4, step))

    session.train(state, schedule, losses)
    return state


def make(params: "Params", name: str) -> Method:
    """A baseline with the networks that params.yaml asks for."""
    network = getattr(params.baseline, name).network.model_dump()
    return build(name, params.data.image_size, **network)
