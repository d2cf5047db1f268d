"""The section ``baseline`` of ``params.yaml``; its numbers are explained there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from head3d.param_types import (
    Count,
    Fraction,
    ListOfMilestones,
    ListOfShares,
    NonNegative,
    Positive,
    Section,
    Whole,
    Width,
)


class BaselineTrainingParams(Section):
    """``baseline.training``: what the trainings of all baselines share."""

    repeats: Count
    lr_decay: Literal["cosine", "step"]
    perceptual: Literal["vgg16", "vgg19"]
    perceptual_scales: ListOfShares


class BaselineSchedule(Section):
    """What every baseline's section begins with."""

    epochs: Count
    milestones: ListOfMilestones
    batch_size: Count
    lr: Positive


class HourglassNetParams(Section):
    """Networks that all four baselines have; names are those of the constructors in ``head3d.baselines``."""

    detector_width: Width
    detector_most: Width
    detector_levels: Count
    width: Width
    most: Width
    residuals: Whole
    motion_width: Width
    motion_most: Width
    motion_levels: Count


class FommNetParams(HourglassNetParams):
    """``baseline.fomm.network``."""

    keypoints: Count


class MraaNetParams(HourglassNetParams):
    """``baseline.mraa.network``."""

    regions: Count
    background_width: Width
    background_most: Width
    background_levels: Count


class DaganNetParams(HourglassNetParams):
    """``baseline.dagan.network``."""

    keypoints: Count
    depth_layers: Literal[18, 50]


class FaceV2VNetParams(HourglassNetParams):
    """``baseline.facev2v.network``."""

    keypoints: Count
    depth: Annotated[int, Field(ge=2)]
    detector_lifted: Width
    head_width: Width
    head_most: Width
    volume: Width


class AdversarialWeights(Section):
    """Weights of the adversarial losses."""

    generator_gan: NonNegative
    feature_matching: NonNegative
    discriminator_gan: NonNegative


class FirstOrderWeights(AdversarialWeights):
    """``baseline.fomm.weights`` and ``baseline.dagan.weights``."""

    perceptual: NonNegative
    equivariance_value: NonNegative
    equivariance_jacobian: NonNegative


class MraaWeights(Section):
    """``baseline.mraa.weights``."""

    perceptual: NonNegative
    equivariance_shift: NonNegative
    equivariance_affine: NonNegative
    avd_shift: NonNegative
    avd_affine: NonNegative


class FaceV2VWeights(AdversarialWeights):
    """``baseline.facev2v.weights``."""

    perceptual: NonNegative
    equivariance_value: NonNegative
    keypoint: NonNegative
    headpose: NonNegative
    expression: NonNegative


class FommParams(BaselineSchedule):
    """``baseline.fomm``."""

    discriminator_width: Width
    network: FommNetParams
    weights: FirstOrderWeights


class MraaParams(BaselineSchedule):
    """``baseline.mraa``; ``avd_*`` is the training of its AVD network."""

    avd_epochs: Count
    avd_repeats: Count
    avd_milestones: ListOfMilestones
    avd_batch_size: Annotated[int, Field(ge=2)]  # it is normalised over
    avd_draws: Whole
    avd_lr: Positive
    avd_random_scale: Fraction
    network: MraaNetParams
    weights: MraaWeights


class DaganParams(BaselineSchedule):
    """``baseline.dagan``."""

    discriminator_width: Width
    depth_steps: Count
    depth_lr: Positive
    network: DaganNetParams
    weights: FirstOrderWeights


class FaceV2VParams(BaselineSchedule):
    """``baseline.facev2v``."""

    discriminator_width: Width
    network: FaceV2VNetParams
    weights: FaceV2VWeights


class BaselineParams(Section):
    """``baseline``: networks and training of the methods that Head3D is compared with."""

    training: BaselineTrainingParams
    fomm: FommParams
    mraa: MraaParams
    dagan: DaganParams
    facev2v: FaceV2VParams
