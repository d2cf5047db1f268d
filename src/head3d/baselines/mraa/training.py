"""Losses of MRAA: perceptual, equivariance of the regions' centres and of their axes; its ``vox256``.

Then those of its AVD network, which is taught last of all by what the others have become (its ``train_avd``).
"""

import torch

from head3d.baselines.losses import equivariance_local, equivariance_value
from head3d.baselines.mraa.method import Mraa
from head3d.baselines.mraa.regions import Regions, stretched
from head3d.baselines.objective import (
    Losses,
    Objective,
    PairLoader,
    Pairs,
    TrainingPhase,
    steps_per_epoch,
    weighted_sum,
)
from head3d.ranks import current


class Training(Objective[Mraa]):
    """MRAA's training (Sec. 3.5 of its paper)."""

    def set_up(self) -> None:
        self.method.avd_network.requires_grad_(False)  # until the others are done
        self.cache: dict[int, tuple[Regions, Regions]] = {}

    def losses(self, pairs: Pairs, rng: torch.Generator) -> Losses:
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        images, spline = self.random_tps(pairs.driving, rng)
        moved = self.method.region_predictor(images)
        terms = {
            **self.reconstruction_losses(answer["prediction"], pairs.driving),
            "equivariance_shift": equivariance_value(answer["driving_shift"], moved.shift, spline),
            "equivariance_affine": equivariance_local(
                answer["driving_affine"], moved.affine, moved.shift, spline, free_sign=True
            ),
        }
        return weighted_sum(terms, self.weights)

    def posttraining(self, clips: int) -> TrainingPhase:
        settings = self.settings
        per_epoch = steps_per_epoch(clips, settings.avd_repeats, settings.avd_batch_size)
        return TrainingPhase(
            "avd",
            self.method.avd_network,
            settings.avd_epochs * per_epoch,
            settings.avd_lr,
            settings.avd_batch_size,
            self.avd_losses,
            tuple(epoch * per_epoch for epoch in settings.avd_milestones),
        )

    def avd_losses(self, step: int, load_pairs: PairLoader, rng: torch.Generator) -> Losses:
        """Of the head in the source frame and the driving frame's regions, stretched, the unstretched ones (Sec. 3.6).

        The two frames are of one person, so the true answer is known; stretching the regions makes another shape of
        them, which the network must not take from the pose.
        """
        source, driving = self.regions_of(step, load_pairs)
        ranks = current()
        count = len(driving.shift) * ranks.world_size
        other = stretched(driving, self.settings.avd_random_scale, rng, ranks.rows(count), count)
        predicted = self.method.avd_network(source, other)
        terms = {
            "avd_shift": (driving.shift - predicted.shift).abs().mean(),
            "avd_affine": (driving.affine - predicted.affine).abs().mean(),
        }
        return weighted_sum(terms, self.weights)

    @torch.no_grad()
    def regions_of(self, step: int, load_pairs: PairLoader) -> tuple[Regions, Regions]:
        """Regions of a step's source and driving frames.

        With ``avd_draws`` = K above zero step k uses the frames of step k mod K again, whose regions are kept: finding
        them costs more than the step itself.
        """
        number = step % self.settings.avd_draws if self.settings.avd_draws else step
        if number in self.cache:
            return self.cache[number]
        pairs = load_pairs(number)
        found = self.method.region_predictor(pairs.source), self.method.region_predictor(pairs.driving)
        if self.settings.avd_draws:
            self.cache[number] = found
        return found
