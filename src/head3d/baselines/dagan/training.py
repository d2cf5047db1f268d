"""Losses of DaGAN: those of FOMM with a least-squares discriminator that sees keypoints; its README's flags.

Its weight on the distance of keypoints is left out: that term is a step function, so its gradient is zero.
"""

from typing import Any

import torch
from torch import Tensor, nn

from head3d.assets.cache import dagan_names, fetch_all
from head3d.baselines.dagan.method import Dagan
from head3d.baselines.dagan.official import load_depth
from head3d.baselines.discriminator import Discriminator
from head3d.baselines.losses import equivariance_local, equivariance_value
from head3d.baselines.objective import Losses, Objective, PairLoader, Pairs, TrainingPhase, adversarial, weighted_sum
from head3d.models.head3d import HeadGeometry

FAR = 0.05  # disparity of the background
MIDDLE, SPREAD = 0.55, 0.4  # of a head: disparity at its centre, and how far its nearest and farthest points are off


@torch.no_grad()
def disparity_of(geometry: HeadGeometry, images: Tensor, masks: Tensor) -> Tensor:
    """Disparity (B, 1, H, W) in (0, 1) that F_D gives of frames: larger is nearer, the background far away.

    Like monodepth's it has no scale: the head's relief about its own centre fills most of the range.
    """
    relief = geometry.depth(images * masks) / geometry.depth.range_m  # in (-1, 1), larger is farther
    return masks * (MIDDLE - SPREAD * relief) + (1 - masks) * FAR


class Training(Objective[Dagan]):
    """DaGAN's training (Sec. 3.4 of its paper)."""

    needs_geometry = True

    @classmethod
    def official(cls, settings: Any) -> list[str]:
        return dagan_names(settings.network.depth_layers) if settings.depth_steps == 0 else []

    def set_up(self) -> None:
        width, points = self.settings.discriminator_width, self.settings.network.keypoints
        self.discriminator = Discriminator(width, spectral=False, keypoints=points)
        if files := fetch_all(self.official(self.settings)):
            load_depth(self.method.depth_encoder, self.method.depth_decoder, *files.values())
            self.notes["depth"] = f"official depth weights, frozen: {', '.join(files)}"
        else:
            self.notes["depth"] = (
                "in place of the official depth weights (docs/weights.md): its depth networks were taught Head3D's F_D "
                f"on the training clips first ({self.settings.depth_steps} steps), then frozen"
            )

    def pretraining(self, clips: int) -> TrainingPhase | None:
        if self.settings.depth_steps == 0:
            return None
        network, settings = nn.ModuleList((self.method.depth_encoder, self.method.depth_decoder)), self.settings
        steps, lr = settings.depth_steps, settings.depth_lr
        return TrainingPhase("depth", network, steps, lr, settings.batch_size, self.depth_losses)

    def depth_losses(self, step: int, load_pairs: PairLoader, rng: torch.Generator) -> Losses:
        """L1 between the depth networks' disparity and the teacher's, on both frames of each pair."""
        assert self.geometry is not None
        pairs = load_pairs(step)
        images = torch.cat((pairs.source, pairs.driving))
        target = disparity_of(self.geometry, images, torch.cat((pairs.source_mask, pairs.driving_mask)))
        (predicted,) = self.method.depth_decoder(self.method.depth_encoder(images))
        return {"loss": (predicted - target).abs().mean()}

    def losses(self, pairs: Pairs, rng: torch.Generator) -> Losses:
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        predicted, value = answer["prediction"], answer["kp_driving_value"]
        images, spline = self.random_tps(pairs.driving, rng)
        moved = self.method.detect(images, self.method.disparity(images))
        assert moved.jacobian is not None
        terms = {
            **self.reconstruction_losses(predicted, pairs.driving),
            "equivariance_value": equivariance_value(value, moved.value, spline),
            "equivariance_jacobian": equivariance_local(
                answer["kp_driving_jacobian"], moved.jacobian, moved.value, spline
            ),
        }
        assert self.discriminator is not None
        terms |= adversarial(self.discriminator, predicted, pairs.driving, "least_squares", value)
        return weighted_sum(terms, self.weights)
