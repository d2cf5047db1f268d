"""Parameters of MRAA, explained in ``params.yaml``."""

from typing import Annotated, ClassVar

from pydantic import Field

from head3d.baselines.settings import HOURGLASS_SIZES, BaselineSchedule, HourglassNetParams
from head3d.sections.types import Count, Fraction, ListOfMilestones, NonNegative, Positive, Section, Whole, Width


class MraaNetParams(HourglassNetParams):
    """``baseline.mraa.network``."""

    regions: Count
    background_width: Width
    background_most: Width
    background_levels: Count


class MraaWeights(Section):
    """``baseline.mraa.weights``."""

    perceptual: NonNegative
    equivariance_shift: NonNegative
    equivariance_affine: NonNegative
    avd_shift: NonNegative
    avd_affine: NonNegative


class Settings(BaselineSchedule):
    """``baseline.mraa``; ``avd_*`` is the training of its AVD network."""

    title: ClassVar = "MRAA"
    official: ClassVar = HOURGLASS_SIZES | {
        "epochs": 100,
        "lr": 2e-4,
        "network.regions": 10,
        "network.background_width": 32,
        "network.background_most": 1024,
        "network.background_levels": 5,
        "weights.perceptual": 10,
        "weights.equivariance_shift": 10,
        "weights.equivariance_affine": 10,
        "weights.avd_shift": 1,
        "weights.avd_affine": 1,
    }

    avd_epochs: Count
    avd_repeats: Count
    avd_milestones: ListOfMilestones
    avd_batch_size: Annotated[int, Field(ge=2)]  # it is normalised over
    avd_draws: Whole
    avd_lr: Positive
    avd_random_scale: Fraction
    network: MraaNetParams
    weights: MraaWeights

    @property
    def avd_is_short(self) -> bool:
        """Whether the AVD network learns from fewer pairs than its authors', 30 epochs of 2000 passes in 256s."""
        return self.avd_epochs * self.avd_repeats < 60_000 or self.avd_batch_size < 256 or self.avd_draws > 0
