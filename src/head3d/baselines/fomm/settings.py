"""Parameters of FOMM, explained in ``params.yaml``."""

from typing import ClassVar

from head3d.baselines.settings import BaselineSchedule, FirstOrderWeights, HourglassNetParams
from head3d.sections.types import Count, Width


class FommNetParams(HourglassNetParams):
    """``baseline.fomm.network``."""

    keypoints: Count


class Settings(BaselineSchedule):
    """``baseline.fomm``."""

    title: ClassVar = "FOMM"

    discriminator_width: Width
    network: FommNetParams
    weights: FirstOrderWeights
