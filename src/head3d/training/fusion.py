"""Stage 3, attention-based fusion (Sec. 3.3): trains E_F, Phi and Omega_F with everything before them fixed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from head3d.geometry import Pose, outside_flow, warp
from head3d.losses import PerceptualLoss, ThinPlateSpline, flow_equivariance, l1
from head3d.models.canonical import CanonicalNet
from head3d.models.fusion import FusionNet
from head3d.models.head3d import Canonical, HeadGeometry, freeze, recurrent_canonical, rigid_flow
from head3d.ranks import current, distributed
from head3d.training.batches import Batch, Clips, augment, jitter_colors
from head3d.training.build.canonical import build_canonical
from head3d.training.build.fusion import build_fusion, place_fusion
from head3d.training.build.geometry import GEOMETRY, load_geometry
from head3d.training.loop import BETAS, Schedule, State, adam, file_digest
from head3d.training.matching import MATCHING
from head3d.training.prefetch import Prefetcher
from head3d.training.seeds import step_generator
from head3d.training.session import open_session
from head3d.training.weights import load_weights, seeded_init

if TYPE_CHECKING:
    from head3d.params import FusionParams, Params

CANONICAL = Path("models/canonical.safetensors")
MAX_CACHE_BYTES = 2 * 2**30  # of subjects that are kept for the next time, on the device


@dataclass(frozen=True)
class Subjects:
    """What stage 3 needs of the subjects of a step; it does not change while stage 3 trains.

    Tensors are of this rank's rows of the batch.

    Attributes:
        canonical: canonical heads of B clips.
        reference: s_ref (B, 3, H, W).
        background: flow that fills its head from around it (B, 2, H, W).
        pose: of s_ref.
    """

    canonical: Canonical
    reference: Tensor
    background: Tensor
    pose: Pose

    @property
    def n_bytes(self) -> int:
        """What keeping it takes."""
        head = self.canonical
        tensors = [x for x in (head.image, head.mask, head.depth, self.reference, self.background) if x is not None]
        return sum(x.untyped_storage().nbytes() for x in tensors)


@dataclass(frozen=True)
class Views:
    """What the fusion networks see of B driving frames.

    Attributes:
        head: x_hat_dri (B, 3, H, W).
        mask: of the rendered head (B, 1, H, W).
        reference: s_ref (B, 3, H, W).
        driving: s_dri (B, 3, H, W), the ground truth.
        rigid: flow of the head's rigid motion (B, 2, H, W), or None.
    """

    head: Tensor
    mask: Tensor
    reference: Tensor
    driving: Tensor
    rigid: Tensor | None


@dataclass
class FusionBatches:
    """Batches of stage 3: rendered heads, reference and driving frames.

    Canonical heads are kept once made, as far as ``MAX_CACHE_BYTES`` reach; others are made again, the same. With
    ``reference_draws`` = K, epoch e uses the clips, the references and the augmentation of epoch e mod K again, with
    other driving frames. K = 0 never repeats.
    """

    clips: Clips
    geometry: HeadGeometry
    canonical_net: CanonicalNet | None
    params: "Params"
    device: torch.device
    cache: dict[int, Subjects] = field(default_factory=dict)
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        self.frames = Prefetcher(self.load, self.device)

    def cycle_index(self, step: int) -> int:
        """Where a step stands in the cycle."""
        per_epoch = self.clips.steps_per_epoch(self.params.fusion.batch_size)
        epoch, index = divmod(step, per_epoch)
        draws = self.params.fusion.reference_draws
        return (epoch % draws if draws > 0 else epoch) * per_epoch + index

    def load(self, step: int) -> tuple[Batch | None, Batch]:
        """Reference frames of a step, None if their subjects are kept already, and other frames, which drive them."""
        settings, place = self.params.fusion, self.cycle_index(step)
        clip_indices, used = self.clips.sample_indices(
            self.params.seed, place, settings.batch_size, self.params.model.references
        )
        references = None if place in self.cache else self._augmented(clip_indices, used, place)
        rng, frame_indices = step_generator(self.params.seed + 3, step), []
        for clip, taken in zip(clip_indices, used, strict=True):
            order = torch.randperm(len(self.clips.frames[clip]), generator=rng).tolist()
            frame_indices.append([f for f in order if f not in taken][: settings.drivings])
        return references, self._augmented(clip_indices, frame_indices, place)

    def _augmented(self, clip_indices: list[int], frame_indices: list[list[int]], place: int) -> Batch:
        """This rank's rows of the frames under the augmentation that belongs to a place in the cycle."""
        rng = step_generator(self.params.seed + 2, place)
        mine = current().rows(len(clip_indices), "fusion.batch_size")
        batch = self.clips.load(clip_indices, frame_indices)
        batch = augment(batch, self.params.augment, rng, self.clips.k, self.clips.distance_m)
        return batch.rows(mine)

    @torch.no_grad()
    def subjects(self, place: int, references: Batch | None) -> Subjects:
        """The subjects of a place in the cycle: those that are kept, or made from their reference frames."""
        if place in self.cache:
            return self.cache[place]
        assert references is not None
        n, batch = self.params.model.references, references.to(self.device)
        heads, masks = batch.heads.flatten(0, 1), batch.masks.flatten(0, 1)
        prediction = self.geometry.predict(heads)
        if self.canonical_net is None:
            canonical = self.geometry.mean_canonical(heads, masks, prediction, n)
        else:
            canonical, _ = recurrent_canonical(self.geometry, self.canonical_net, heads, masks, prediction, n)
            canonical = Canonical(canonical.image, canonical.mask, self.geometry.canonical_depth(canonical.image))
        first = list(range(0, len(heads), n))
        background = outside_flow(batch.masks[:, 0])
        reference = batch.frames[:, 0].clone()  # a view would keep the other references as long as itself
        made = Subjects(canonical, reference, background, prediction.pose[first])
        if self.params.fusion.reference_draws > 0 and self.cache_bytes < MAX_CACHE_BYTES:
            self.cache[place] = made
            self.cache_bytes += made.n_bytes
        return made

    @torch.no_grad()
    def batch(self, step: int, rigid: bool) -> "Views":
        """What the fusion networks see in a step, with the rigid flow of s_ref if asked for."""
        settings = self.params.fusion
        references, driving = self.frames(step)
        subjects, driving = self.subjects(self.cycle_index(step), references), driving.to(self.device)
        each = subjects.canonical.repeat(settings.drivings)
        rendered = self.geometry.render(each, self.geometry.pose(driving.heads.flatten(0, 1)))
        copies = torch.arange(len(driving.frames), device=self.device).repeat_interleave(settings.drivings)
        flow = None
        if rigid:
            flow = rigid_flow(self.geometry, each, rendered, subjects.pose[copies], subjects.background[copies])
        return Views(rendered.image, rendered.mask, subjects.reference[copies], driving.frames.flatten(0, 1), flow)


def fusion_losses(
    network: FusionNet, perceptual: PerceptualLoss, views: Views, settings: "FusionParams", rng: torch.Generator
) -> dict[str, Tensor]:
    """Eq. 8: perceptual loss and equivariance of the reference flow, with an L1 term where params.yaml asks for it.

    Args:
        network: E_F, Phi and Omega_F.
        perceptual: pretrained VGG loss.
        views: of this step.
        settings: section ``fusion``.
        rng: randomness of this step.
    """
    head, reference, driving, rigid = views.head, views.reference, views.driving, views.rigid
    # Phi sees the driving frame in other colours than the truth: it can take motion from it, not appearance.
    ranks = current()
    shown = jitter_colors(driving[:, None], settings.driving_jitter, rng, ranks)[:, 0]
    fused = network(head, reference, shown, rigid, views.mask)
    losses = {"perceptual": perceptual(fused.frame, driving)}
    losses["loss"] = settings.perceptual_weight * losses["perceptual"]
    if settings.pixel_weight > 0:
        losses["pixel"] = l1(fused.frame, driving)
        losses["loss"] = losses["loss"] + settings.pixel_weight * losses["pixel"]
    if settings.equivariance > 0:
        count = len(head) * ranks.world_size
        splines = ThinPlateSpline(count, rng).rows(ranks.rows(count)).to(head.device)
        spline = splines.flow(*head.shape[-2:])
        moved = warp(torch.cat((head, shown), dim=1), spline)
        carried = None if rigid is None else spline + warp(rigid, spline)
        _, transformed, _ = network.flows(moved[:, :3], reference, moved[:, 3:], carried)
        losses["equivariance"] = flow_equivariance(fused.reference_flow, transformed, spline, ranks.share_of_count)
        losses["loss"] = losses["loss"] + settings.equivariance * losses["equivariance"]
    return losses


def what_is_read(params: "Params", variant: str) -> dict[str, Any]:
    """What the trained weights of a variant depend on besides its sections of the parameters."""
    reads = {"variant": variant, "network": params.model.fusion.model_dump(), "references": params.model.references}
    reads["geometry"] = file_digest(GEOMETRY)
    if params.model.fusion.matching and variant != "no_matching":
        reads["matching"] = file_digest(MATCHING)
    return reads if variant == "mean_canonical" else reads | {"canonical": file_digest(CANONICAL)}


@distributed
def run(params: "Params", variant: str = "full") -> None:
    """Train the fusion networks of a variant; writes models/fusion-VARIANT.safetensors."""
    from head3d.assets.cache import load_vgg

    settings, seed = params.fusion, params.seed
    reads = what_is_read(params, variant)
    with open_session(params, "fusion", ("camera", "fusion", "augment"), instance=variant, **reads) as session:
        clips, compute = session.load_clips(), session.compute
        geometry = load_geometry(params, compute)
        canonical_net = None
        if variant != "mean_canonical":
            canonical_net = compute.place(freeze(load_weights(build_canonical(params), CANONICAL)))
        perceptual = compute.place(
            PerceptualLoss(settings.perceptual, load_vgg(settings.perceptual), settings.perceptual_scales)
        )
        network = seeded_init(seed, build_fusion, params, variant)
        if network.matcher is not None:
            load_weights(network.matcher, MATCHING)
        place_fusion(network, compute).train()
        optimizer = adam(network.parameters(), lr=settings.lr, betas=BETAS)
        state = State({"network": network}, optimizer)

        source = FusionBatches(clips, geometry, canonical_net, params, compute.device)

        def losses(step: int) -> dict[str, Tensor]:
            views = source.batch(step, network.uses_rigid_flow)
            return fusion_losses(network, perceptual, views, settings, step_generator(seed + 4, step))

        per_epoch = clips.steps_per_epoch(settings.batch_size)
        schedule = Schedule(
            settings.epochs * per_epoch, cosine=settings.lr_decay == "cosine", warmup=settings.warmup_steps
        )
        session.train(state, schedule, losses, clip_norm=settings.clip_norm)
        session.finish(network, state, {"clips": len(clips), "variant": variant})
