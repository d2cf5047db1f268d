"""Parameters of DaGAN, explained in ``params.yaml``."""

from typing import ClassVar, Literal

from head3d.baselines.settings import BaselineSchedule, FirstOrderWeights, HourglassNetParams
from head3d.sections.types import Count, Positive, Whole, Width


class DaganNetParams(HourglassNetParams):
    """``baseline.dagan.network``."""

    keypoints: Count
    depth_layers: Literal[18, 50]


class Settings(BaselineSchedule):
    """``baseline.dagan``."""

    title: ClassVar = "DaGAN"

    discriminator_width: Width
    depth_steps: Whole
    depth_lr: Positive
    network: DaganNetParams
    weights: FirstOrderWeights

    @property
    def replaced(self) -> tuple[str, ...]:  # type: ignore[override]
        """Nothing, where the depth networks are the official ones."""
        return ("depth networks taught by F_D instead of its own weights",) if self.depth_steps else ()
