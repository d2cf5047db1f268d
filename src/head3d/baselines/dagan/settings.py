"""Parameters of DaGAN, explained in ``params.yaml``."""

from typing import ClassVar, Literal

from head3d.baselines.settings import BaselineSchedule, FirstOrderWeights, HourglassNetParams
from head3d.param_types import Count, Positive, Width


class DaganNetParams(HourglassNetParams):
    """``baseline.dagan.network``."""

    keypoints: Count
    depth_layers: Literal[18, 50]


class Settings(BaselineSchedule):
    """``baseline.dagan``."""

    title: ClassVar = "DaGAN"
    replaced: ClassVar = ("depth networks taught by F_D, as its own weights are out of reach",)

    discriminator_width: Width
    depth_steps: Count
    depth_lr: Positive
    network: DaganNetParams
    weights: FirstOrderWeights
