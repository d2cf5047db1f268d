"""Parameters of FOMM, explained in ``params.yaml``."""

from typing import ClassVar

from head3d.baselines.settings import HOURGLASS_SIZES, BaselineSchedule, FirstOrderWeights, HourglassNetParams
from head3d.sections.types import Count, Width


class FommNetParams(HourglassNetParams):
    """``baseline.fomm.network``."""

    keypoints: Count


class Settings(BaselineSchedule):
    """``baseline.fomm``."""

    title: ClassVar = "FOMM"
    unscaled: ClassVar = True
    official: ClassVar = HOURGLASS_SIZES | {
        "epochs": 100,
        "lr": 2e-4,
        "network.keypoints": 10,
        "weights.perceptual": 10,
        "weights.equivariance_value": 10,
        "weights.equivariance_jacobian": 10,
        "weights.generator_gan": 0,
        "weights.feature_matching": 10,
        "weights.discriminator_gan": 1,
    }

    discriminator_width: Width
    network: FommNetParams
    weights: FirstOrderWeights
