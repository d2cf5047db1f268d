"""What the sections of the methods in ``params.yaml`` share; each method's folder has a ``settings.py`` of its own."""

from typing import ClassVar

from head3d.sections.types import Count, ListOfMilestones, NonNegative, Positive, Section, Whole, Width


class BaselineSchedule(Section):
    """What every baseline's section begins with, and what the report says of the method; its ``settings.Settings``.

    Attributes:
        title: what tables and figures call it.
        replaced: what of its official training had to be replaced, in words that follow its title.
        official: its authors' numbers by key, dots between the levels; where params.yaml has others, tables say so.
        unscaled: its authors' configuration does not scale relative motion to the subject.
    """

    title: ClassVar[str]
    replaced: ClassVar[tuple[str, ...]] = ()
    official: ClassVar[dict[str, float]] = {}
    unscaled: ClassVar[bool] = False

    epochs: Count
    milestones: ListOfMilestones
    batch_size: Count
    lr: Positive


HOURGLASS_SIZES: dict[str, float] = {
    "network.detector_width": 32,
    "network.detector_most": 1024,
    "network.detector_levels": 5,
    "network.width": 64,
    "network.most": 512,
    "network.residuals": 6,
    "network.motion_width": 64,
    "network.motion_most": 1024,
    "network.motion_levels": 5,
}


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


class AdversarialWeights(Section):
    """Weights of the adversarial losses."""

    generator_gan: NonNegative
    feature_matching: NonNegative
    discriminator_gan: NonNegative


class FirstOrderWeights(AdversarialWeights):
    """Weights of FOMM's and DaGAN's losses."""

    perceptual: NonNegative
    equivariance_value: NonNegative
    equivariance_jacobian: NonNegative
