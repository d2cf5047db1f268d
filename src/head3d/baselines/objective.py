"""What a baseline trains with, besides the loop: its losses, a discriminator where it has one, its teachers.

Each method's folder has a module ``training`` with a class ``Training``, a subclass of :class:`Objective`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.discriminator import Discriminator
from head3d.baselines.losses import Adversarial, deform, discriminator_gan_loss, feature_matching, generator_gan_loss
from head3d.baselines.method import Method
from head3d.losses import ThinPlateSpline, l1
from head3d.models.head3d import HeadGeometry
from head3d.ranks import current

M = TypeVar("M", bound=Method)
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Pairs:
    """Two frames of each of B clips.

    Attributes:
        source: (B, 3, H, W), RGB in [0, 1].
        driving: (B, 3, H, W).
        source_mask: (B, 1, H, W), head masks in [0, 1].
        driving_mask: (B, 1, H, W).
    """

    source: Tensor
    driving: Tensor
    source_mask: Tensor
    driving_mask: Tensor


PairLoader = Callable[[int], Pairs]  # pairs of frames by number, another batch for each, the same one every time


@dataclass(frozen=True)
class TrainingPhase:
    """A training of its own of some of a method's networks, before or after the method's.

    Attributes:
        name: of the part, for its saved state and its curves.
        network: what learns; nothing else does.
        steps: optimiser steps.
        lr: learning rate at the start.
        batch_size: pairs in a batch.
        losses: of a step, by name, ``loss`` is what is minimised; is given the step's number, the batches, and a
            generator for everything random.
        drops: steps from which on the learning rate is a tenth of what it was; None lets it fall along a half cosine.
        frozen_after: whether the network stays as it was taught when the method trains.
        warmup: steps over which the learning rate rises from zero.
        rates: shares of the learning rate for children of the network, by name; 1 for those that are not named.
    """

    name: str
    network: nn.Module
    steps: int
    lr: float
    batch_size: int
    losses: Callable[[int, PairLoader, torch.Generator], Losses]
    drops: tuple[int, ...] | None = None
    frozen_after: bool = True
    warmup: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser, each with its learning rate."""
        slow = [(getattr(self.network, name), share) for name, share in self.rates.items()]
        apart = {id(p) for child, _ in slow for p in child.parameters()}
        rest = [p for p in self.network.parameters() if id(p) not in apart]
        return [{"params": rest, "lr": self.lr}] + [
            {"params": list(child.parameters()), "lr": self.lr * share} for child, share in slow
        ]


def steps_per_epoch(clips: int, repeats: int, batch_size: int) -> int:
    """Optimiser steps of ``repeats`` passes over so many clips (one a person), the last batch filled up."""
    return -(-clips * repeats // batch_size)


class Objective(ABC, Generic[M]):
    """Losses of a method.

    Args:
        method: learns.
        settings: its section of params.yaml.
        perceptual: perceptual loss of (predicted, truth), RGB in [0, 1].
        geometry: F_D and F_P of stage 1, frozen, for methods that have a teacher; None where none is at hand.
        pixel_weight: of an L1 term beside the perceptual loss, which no official training has.

    Attributes:
        discriminator: learns too, or None.
        notes: what of the official training is replaced or left out, for the run's record.
    """

    needs_geometry = False

    def __init__(
        self,
        method: M,
        settings: Any,
        perceptual: Callable[[Tensor, Tensor], Tensor],
        geometry: HeadGeometry | None = None,
        pixel_weight: float = 0.0,
    ) -> None:
        self.method, self.settings, self.perceptual, self.geometry = method, settings, perceptual, geometry
        self.pixel_weight = pixel_weight
        self.discriminator: Discriminator | None = None
        self.notes: dict[str, str] = {}
        self.set_up()

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term: the method's own, and ``pixel``."""
        return self.settings.weights.model_dump() | {"pixel": self.pixel_weight}

    def set_up(self) -> None:
        """What a method needs beside its own networks: a discriminator, notes, parts that stay as they are."""

    def pretraining(self, clips: int) -> TrainingPhase | None:
        """A training that comes first, if there is one.

        Args:
            clips: number of training clips.
        """
        return None

    def posttraining(self, clips: int) -> TrainingPhase | None:
        """A training that comes last, if there is one; everything that it does not teach stays as it is.

        Args:
            clips: number of training clips.
        """
        return None

    @classmethod
    def official(cls, settings: Any) -> list[str]:
        """Assets whose weights it takes over with these settings: what it saves depends on their digests.

        Args:
            settings: its section of params.yaml.
        """
        return []

    def networks(self) -> dict[str, nn.Module]:
        """Everything that a saved state must hold."""
        networks: dict[str, nn.Module] = {"method": self.method}
        return networks if self.discriminator is None else networks | {"discriminator": self.discriminator}

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return [p for network in self.networks().values() for p in network.parameters() if p.requires_grad]

    @abstractmethod
    def losses(self, pairs: Pairs, rng: torch.Generator) -> Losses:
        """Losses of a step by name; ``loss`` is what is minimised.

        Args:
            pairs: the source frame moved as the driving frame should be the driving frame.
            rng: randomness of the step.
        """

    def reconstruction_losses(self, predicted: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Losses:
        """How far a predicted frame is from the truth: ``perceptual``, and ``pixel`` where that has a weight."""
        terms = {"perceptual": self.perceptual(predicted, truth)}
        return terms | {"pixel": l1(predicted, truth)} if self.pixel_weight > 0 else terms

    def random_tps(self, images: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> tuple[Tensor, ThinPlateSpline]:
        """Images under random deformations, and these; they are drawn for all ranks' images."""
        ranks = current()
        count = len(images) * ranks.world_size
        spline = ThinPlateSpline(count, rng).rows(ranks.rows(count)).to(images.device)
        return deform(images, spline, self.method.align_corners), spline


def weighted_sum(terms: Losses, weights: dict[str, float]) -> Losses:
    """The terms and their sum under the weights, as ``loss``; terms without a weight are only shown."""
    total = torch.stack([weights[name] * value for name, value in terms.items() if weights.get(name, 0) > 0]).sum()
    return {"loss": total, **terms}


def adversarial(
    discriminator: Discriminator, predicted: Tensor, truth: Tensor, kind: Adversarial, points: Tensor | None = None
) -> Losses:
    """``generator_gan`` and ``feature_matching`` for the generator, ``discriminator_gan`` for the discriminator.

    One optimiser step on all of them at once moves both networks as the official alternation does: there, too, both see
    the frame that the generator made before its step, and the discriminator before its own. The two are kept apart by
    where gradients can go: in the generator's terms the discriminator's weights are constants, in the discriminator's
    term the frame is.

    Args:
        discriminator: learns.
        predicted: (B, 3, H, W).
        truth: (B, 3, H, W).
        kind: of adversarial loss.
        points: keypoints that the discriminator is shown, (B, K, 2); no gradient flows to them.
    """
    if points is not None:
        points = points.detach()
    real_features, real = discriminator(truth, points)
    _, fake_alone = discriminator(predicted.detach(), points)
    learning = [p for p in discriminator.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        fake_features, fake = discriminator(predicted, points)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    return {
        "generator_gan": generator_gan_loss(fake, kind),
        "feature_matching": feature_matching(real_features, fake_features),
        "discriminator_gan": discriminator_gan_loss(real, fake_alone, kind),
    }
