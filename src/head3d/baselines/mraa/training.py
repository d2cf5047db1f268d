"""Losses of MRAA: perceptual, equivariance of the regions' centres and of their axes; its ``vox256``."""

import torch

from head3d.baselines.losses import equivariance_local, equivariance_value
from head3d.baselines.mraa.method import Mraa
from head3d.baselines.objective import Losses, Objective, Pairs, weighted_sum


class Training(Objective[Mraa]):
    """MRAA's training (Sec. 3.5 of its paper), without the later one of its AVD network."""

    def set_up(self) -> None:
        # Only the motion `avd` (across people) uses it; self-reconstruction is absolute.
        self.method.avd_network.requires_grad_(False)
        self.notes["left_out"] = "training of the AVD network: the motion avd is not available from these weights"

    def losses(self, pairs: Pairs, draw: torch.Generator) -> Losses:
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        images, spline = self.deformed(pairs.driving, draw)
        moved = self.method.region_predictor(images)
        terms = {
            "perceptual": self.perceptual(answer["prediction"], pairs.driving),
            "equivariance_shift": equivariance_value(answer["driving_shift"], moved.shift, spline),
            "equivariance_affine": equivariance_local(
                answer["driving_affine"], moved.affine, moved.shift, spline, free_sign=True
            ),
        }
        return weighted_sum(terms, self.settings.weights.model_dump())
