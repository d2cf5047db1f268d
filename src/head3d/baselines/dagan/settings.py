"""Parameters of DaGAN, explained in ``params.yaml``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from head3d.baselines.settings import HOURGLASS_SIZES, BaselineSchedule, FirstOrderWeights, HourglassNetParams
from head3d.sections.types import Count, Positive, Whole, Width


class DaganNetParams(HourglassNetParams):
    """``baseline.dagan.network``."""

    keypoints: Count
    depth_layers: Literal[18, 50]
    most: Annotated[int, Field(ge=8)]  # its attention, at the bottleneck, has an eighth of these channels


class Settings(BaselineSchedule):
    """``baseline.dagan``."""

    title: ClassVar = "DaGAN"
    unscaled: ClassVar = True
    official: ClassVar = HOURGLASS_SIZES | {
        "epochs": 150,
        "lr": 2e-4,
        "discriminator_width": 32,
        "network.keypoints": 15,
        "network.depth_layers": 50,
        "weights.perceptual": 10,
        "weights.equivariance_value": 10,
        "weights.equivariance_jacobian": 10,
        "weights.generator_gan": 1,
        "weights.feature_matching": 10,
        "weights.discriminator_gan": 1,
    }

    discriminator_width: Width
    depth_steps: Whole
    depth_lr: Positive
    network: DaganNetParams
    weights: FirstOrderWeights

    @property
    def replaced(self) -> tuple[str, ...]:  # type: ignore[override]
        """Nothing, where the depth networks are the official ones."""
        if self.depth_steps == 0:
            return ()
        return (f"depth networks taught by F_D for {self.depth_steps} steps instead of its own weights",)
