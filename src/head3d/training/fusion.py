"""Stage 3, attention-based fusion (Sec. 3.3): trains E_F, Phi and Omega_F with everything before them fixed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from head3d import tracking
from head3d.data.store import ClipStore
from head3d.geometry import resize_flow, warp
from head3d.losses import PerceptualLoss, ThinPlateSpline, flow_equivariance, l1
from head3d.models.canonical import CanonicalNet
from head3d.models.fusion import FusionNet
from head3d.models.head3d import Canonical, HeadGeometry, freeze, recurrent_canonical
from head3d.training.batches import Batch, augment, jitter_colors
from head3d.training.build import (
    build_canonical,
    build_fusion,
    build_geometry,
    fresh,
    load_weights,
    place_geometry,
)
from head3d.training.canonical import GEOMETRY
from head3d.training.loop import Schedule, State, file_digest, step_generator
from head3d.training.session import Session, choose, load_clips

if TYPE_CHECKING:
    from head3d.params import FusionParams, Params

CANONICAL = Path("models/canonical.safetensors")


@torch.no_grad()
def rendered_heads(geometry: HeadGeometry, network: CanonicalNet | None, batch: Batch, references: int) -> Tensor:
    """x_hat_dri of every driving frame of a batch.

    Args:
        geometry: F_D and F_P.
        network: the recurrent canonical network, or None for the mean canonical head.
        batch: B clips of ``references`` reference frames followed by D driving frames.
        references: N.

    Returns:
        (B * D, 3, H, W) in [0, 1].
    """
    heads, masks = batch.heads, batch.masks
    own, own_masks = heads[:, :references].flatten(0, 1), masks[:, :references].flatten(0, 1)
    observed = geometry.observe(own)
    if network is None:
        canonical = geometry.mean_canonical(own, own_masks, observed, references)
    else:
        canonical, _ = recurrent_canonical(geometry, network, own, own_masks, observed, references)
        canonical = Canonical(canonical.image, canonical.mask, geometry.canonical_depth(canonical.image))
    driving = heads[:, references:]
    return geometry.render(canonical.repeat(driving.shape[1]), geometry.pose(driving.flatten(0, 1))).image


def fusion_losses(
    network: FusionNet,
    perceptual: PerceptualLoss,
    head: Tensor,
    reference: Tensor,
    driving: Tensor,
    settings: "FusionParams",
    draw: torch.Generator,
) -> dict[str, Tensor]:
    """Eq. 8: perceptual loss and equivariance of the reference flow, with an L1 term where params.yaml asks for it.

    Args:
        network: E_F, Phi and Omega_F.
        perceptual: pretrained VGG loss.
        head: x_hat_dri (B, 3, H, W).
        reference: s_ref.
        driving: s_dri, the ground truth.
        settings: section ``fusion``.
        draw: randomness of this step.
    """
    # Phi sees the driving frame in other colours than the truth: it can take motion from it, not appearance.
    shown = jitter_colors(driving[:, None], settings.driving_jitter, draw)[:, 0]
    fused = network(head, reference, shown)
    losses = {"perceptual": perceptual(fused.frame, driving)}
    losses["loss"] = settings.perceptual_weight * losses["perceptual"]
    if settings.pixel_weight > 0:
        losses["pixel"] = l1(fused.frame, driving)
        losses["loss"] = losses["loss"] + settings.pixel_weight * losses["pixel"]
    if settings.equivariance > 0:
        spline = ThinPlateSpline(len(head), draw).to(head.device)
        size = head.shape[-2:]
        moved = warp(torch.cat((head, shown), dim=1), spline.flow(*size))
        _, transformed, _ = network.flows(moved[:, :3], reference, moved[:, 3:])
        small = transformed.shape[-2:]
        losses["equivariance"] = flow_equivariance(
            resize_flow(fused.reference_flow, *small), transformed, spline.flow(*small)
        )
        losses["loss"] = losses["loss"] + settings.equivariance * losses["equivariance"]
    return losses


def vgg_weights(network: str) -> dict[str, Tensor]:
    """Convolutions of VGG16 or VGG19 by torchvision's names, from the assets."""
    from head3d.assets import load_vgg

    return load_vgg(network)


def settings_of(params: "Params", variant: str, store: ClipStore, dtype: torch.dtype) -> dict[str, Any]:
    """Everything that the trained weights of a variant depend on."""
    chosen = {name: getattr(params, name).model_dump() for name in ("camera", "fusion", "augment")}
    chosen |= {"network": params.model.fusion.model_dump(), "references": params.model.references}
    chosen |= {"variant": variant, "seed": params.seed, "data": store.digest, "dtype": str(dtype)}
    chosen |= {"geometry": file_digest(GEOMETRY)}
    return chosen if variant == "mean_canonical" else chosen | {"canonical": file_digest(CANONICAL)}


def run(params: "Params", variant: str = "full") -> None:
    """Train the fusion networks of a variant; writes models/fusion-VARIANT.safetensors."""
    settings, seed, n = params.fusion, params.seed, params.model.references
    compute = choose(params)
    store = ClipStore()
    with tracking.run(stage="train_fusion", params=params, instance=variant) as tracked:
        tracked.dataset("+".join(params.data.sources), store.digest, len(store.records("train")))
        session = Session(
            f"train_fusion-{variant}", params, settings_of(params, variant, store, compute.dtype), tracked
        )
        clips = load_clips(store, "train", params)

        geometry = freeze(place_geometry(load_weights(build_geometry(params), GEOMETRY), compute))
        heads_from = None
        if variant != "mean_canonical":
            heads_from = freeze(compute.place(load_weights(build_canonical(params), CANONICAL)))
        perceptual = compute.place(
            PerceptualLoss(settings.perceptual, vgg_weights(settings.perceptual), settings.perceptual_scales)
        )
        network = compute.place(fresh(seed, build_fusion, params, variant))
        compute.place(network.predictor)  # the equivariance term runs Phi by itself
        network.train()
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, betas=(0.5, 0.999))
        state = State({"network": network}, optimizer)

        def losses(step: int) -> dict[str, Tensor]:
            draw = step_generator(seed + 2, step)
            batch = clips.load(*clips.at(seed, step, settings.batch_size, n + settings.drivings))
            batch = augment(batch, params.augment, draw, clips.k, clips.distance_m).to(compute.device)
            head = rendered_heads(geometry, heads_from, batch, n)
            reference = batch.frames[:, 0].repeat_interleave(settings.drivings, dim=0)
            driving = batch.frames[:, n:].flatten(0, 1)
            return fusion_losses(network, perceptual, head, reference, driving, settings, draw)

        per_epoch = clips.steps_per_epoch(settings.batch_size)
        schedule = Schedule(settings.epochs * per_epoch, cosine=settings.lr_decay == "cosine")
        session.train(state, schedule, losses, clip_norm=10.0)
        session.finish(network, state, {"clips": len(clips), "variant": variant})
