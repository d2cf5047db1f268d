"""Losses of FOMM: perceptual, equivariance of keypoints and of their local frames; its ``vox-256``.

With ``generator_gan`` above zero also those of ``vox-adv-256``: least squares, a discriminator that sees keypoints.
"""

import torch

from head3d.baselines.discriminator import Discriminator
from head3d.baselines.fomm.method import Fomm
from head3d.baselines.losses import equivariance_local, equivariance_value
from head3d.baselines.objective import Losses, Objective, Pairs, adversarial, weighted_sum


class Training(Objective[Fomm]):
    """FOMM's training (Sec. 3.3 of its paper)."""

    def set_up(self) -> None:
        # In vox-256 generator_gan is 0: the code then steps no discriminator and matches no features either.
        if self.settings.weights.generator_gan > 0:
            width, points = self.settings.discriminator_width, self.settings.network.keypoints
            self.discriminator = Discriminator(width, spectral=False, keypoints=points)

    def losses(self, pairs: Pairs, rng: torch.Generator) -> Losses:
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        predicted, value = answer["prediction"], answer["kp_driving_value"]
        images, spline = self.random_tps(pairs.driving, rng)
        moved = self.method.kp_detector(images)
        terms = {
            **self.reconstruction_losses(predicted, pairs.driving),
            "equivariance_value": equivariance_value(value, moved.value, spline),
            "equivariance_jacobian": equivariance_local(
                answer["kp_driving_jacobian"], moved.jacobian, moved.value, spline
            ),
        }
        if self.discriminator is not None:
            terms |= adversarial(self.discriminator, predicted, pairs.driving, "least_squares", value)
        return weighted_sum(terms, self.weights)
