"""Parameters of FaceV2V, explained in ``params.yaml``."""

from typing import Annotated, ClassVar

from pydantic import Field

from head3d.baselines.settings import HOURGLASS_SIZES, AdversarialWeights, BaselineSchedule, HourglassNetParams
from head3d.sections.types import Count, NonNegative, Positive, Whole, Width


class FaceV2VNetParams(HourglassNetParams):
    """``baseline.facev2v.network``."""

    keypoints: Count
    depth: Annotated[int, Field(ge=2)]
    detector_lifted: Width
    head_width: Width
    head_most: Width
    volume: Width


class FaceV2VWeights(AdversarialWeights):
    """``baseline.facev2v.weights``."""

    perceptual: NonNegative
    equivariance_value: NonNegative
    keypoint: NonNegative
    headpose: NonNegative
    expression: NonNegative


class Settings(BaselineSchedule):
    """``baseline.facev2v``."""

    title: ClassVar = "FaceV2V"
    unscaled: ClassVar = True
    official: ClassVar = HOURGLASS_SIZES | {
        "epochs": 300,
        "lr": 2e-4,
        "discriminator_width": 32,
        "network.keypoints": 15,
        "network.depth": 16,
        "network.detector_lifted": 1024,
        "network.head_width": 64,
        "network.head_most": 2048,
        "network.volume": 32,
        "network.motion_width": 32,
        "weights.perceptual": 10,
        "weights.equivariance_value": 10,
        "weights.keypoint": 10,
        "weights.headpose": 20,
        "weights.expression": 5,
        "weights.generator_gan": 1,
        "weights.feature_matching": 10,
        "weights.discriminator_gan": 1,
    }

    discriminator_width: Width
    pose_steps: Whole
    pose_lr: Positive
    network: FaceV2VNetParams
    weights: FaceV2VWeights

    @property
    def replaced(self) -> tuple[str, ...]:  # type: ignore[override]
        """Its teacher of head poses, and when it teaches."""
        first = f", for {self.pose_steps} steps before all else" if self.pose_steps else ""
        return (f"head poses taught by F_P instead of HopeNet{first}",)
