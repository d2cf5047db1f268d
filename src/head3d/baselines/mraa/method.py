"""Articulated animation: a source frame moved by regions, whose local frames are the principal axes of heatmaps.

Siarohin, Woodford, Ren, Chai, Tulyakov: Motion Representations for Articulated Animation, CVPR 2021. Defaults are the
authors' ``vox256``.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.baselines.generator import Generator
from head3d.baselines.method import Method
from head3d.baselines.motion import DenseMotion, Motion
from head3d.baselines.mraa.regions import (
    AvdNetwork,
    BackgroundPredictor,
    RegionPredictor,
    Regions,
    gram,
    motion_inputs,
    relative_regions,
)


@dataclass(frozen=True)
class Subject:
    """What MRAA knows of a source frame.

    Attributes:
        source: (1, 3, H, W).
        small: the frame at the motion network's resolution.
        features: of the generator's encoder, finest first.
        regions: of the frame.
    """

    source: Tensor
    small: Tensor
    features: list[Tensor]
    regions: Regions

    def expand(self, batch: int) -> "Subject":
        """The same for each of ``batch`` driving frames, without copies."""
        source, small, *features = (x.expand(batch, -1, -1, -1) for x in (self.source, self.small, *self.features))
        return Subject(source, small, features, self.regions.expand(batch))


class Mraa(Method):
    """MRAA.

    Motions: ``absolute`` as in the authors' reconstruction, with the background's motion; ``relative`` and ``avd``
    (shape of the subject, pose of the driving frame; their default for animation) as in their animation, where the
    background stays, as that of another video says nothing of this one's.

    Args:
        image_size: side of the frames, pixels.
        align_corners: of the sampling; False is what the authors' torch (1.4) did, and today's does.
        regions: number of them.
        scale: of the resolution at which regions and motion are found.
        temperature: of the regions' softmax.
        detector_width: of the region predictor's hourglass.
        detector_most: greatest number of channels there.
        detector_levels: of that hourglass.
        width: of the generator.
        most: greatest number of channels there.
        downs: halvings of the generator.
        residuals: residual blocks of the generator.
        motion_width: of the flow predictor's hourglass.
        motion_most: greatest number of channels there.
        motion_levels: of that hourglass.
        background_width: of the background predictor.
        background_most: greatest number of channels there.
        background_levels: of that encoder.
        identity: size of the code of a head's shape in the AVD network.
        pose: size of the code of its pose.
    """

    name = "mraa"
    exact = ("region_predictor", "bg_predictor", "avd_network")
    table = (*Method.table, ("pixelwise_flow_predictor", "motion"))
    optional = ("avd_network",)  # trained after the others: checkpoints of the first training have none
    motions = ("absolute", "relative", "avd")

    def __init__(
        self,
        image_size: int = 128,
        *,
        align_corners: bool = False,
        regions: int = 10,
        scale: float = 0.25,
        temperature: float = 0.1,
        detector_width: int = 32,
        detector_most: int = 1024,
        detector_levels: int = 5,
        width: int = 64,
        most: int = 512,
        downs: int = 2,
        residuals: int = 6,
        motion_width: int = 64,
        motion_most: int = 1024,
        motion_levels: int = 5,
        background_width: int = 32,
        background_most: int = 1024,
        background_levels: int = 5,
        identity: int = 64,
        pose: int = 64,
    ) -> None:
        levels = max(detector_levels, motion_levels)
        multiple = math.lcm(2**downs, 2**background_levels, round(2**levels / scale))
        super().__init__(image_size, multiple, align_corners)
        motion = DenseMotion(regions, motion_width, motion_most, motion_levels, scale, align_corners)
        self.generator = Generator(motion, width, most, downs, residuals, skips=True)
        self.region_predictor = RegionPredictor(
            regions, detector_width, detector_most, detector_levels, scale, temperature
        )
        self.bg_predictor = BackgroundPredictor(background_width, background_most, background_levels)
        self.avd_network = AvdNetwork(regions, identity, pose)

    def encode_source(self, source: Float[Tensor, "b 3 h w"]) -> Subject:
        """What does not depend on the driving frames."""
        self.check_size(*source.shape[-2:])
        small, features = self.generator.motion.shrink(source), self.generator.encode(source)
        return Subject(source, small, features, self.region_predictor(source))

    def render(
        self, subject: Subject, driving: Regions, background: Float[Tensor, "b 3 3"] | None = None
    ) -> tuple[Tensor, Motion]:
        """Frames (B, 3, H, W) at driving regions, and their motion."""
        height, width = subject.small.shape[-2:]
        heatmaps, motions = motion_inputs(subject.regions, driving, height, width, background)
        motion = self.generator.motion(subject.small, heatmaps, motions)
        return self.generator(subject.source, subject.features, motion), motion

    def motion_across(self) -> str:
        return "relative" if "avd_network" in self.lacks else "avd"

    @torch.no_grad()
    def prepare(self, frames: Float[Tensor, "t 3 h w"], frame: int = 0) -> Subject:
        return self.encode_source(frames[frame][None])

    @torch.no_grad()
    def drive(
        self,
        state: Subject,
        driving: Float[Tensor, "m 3 h w"],
        motion: str = "absolute",
        first: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "m 3 h w"]:
        self.check_motion(motion)
        subject, regions, background = state.expand(len(driving)), self.region_predictor(driving), None
        if motion == "absolute":
            background = self.bg_predictor(subject.source, driving)
        elif motion == "relative":
            start = regions[:1] if first is None else self.region_predictor(first[None])
            regions = relative_regions(state.regions, regions, start)
        else:
            regions = self.avd_network(subject.regions, regions)
        return self.render(subject, regions, background)[0]

    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        subject, regions = self.encode_source(source), self.region_predictor(driving)
        background = self.bg_predictor(source, driving)
        prediction, motion = self.render(subject, regions, background)
        answer = {"bg_params": background, "mask": motion.mask, "flow": motion.flow, "occlusion": motion.occlusion}
        for which, found in (("source", subject.regions), ("driving", regions)):
            answer[f"{which}_shift"], answer[f"{which}_covar"] = found.shift, found.covar
            answer[f"{which}_affine"], answer[f"{which}_affine_gram"] = found.affine, gram(found.affine)
        if not self.training:  # the AVD network has a training of its own, and its statistics none of this one
            animated = self.avd_network(subject.regions, regions)
            answer |= {"avd_shift": animated.shift, "avd_covar": animated.covar, "avd_affine": animated.affine}
        return answer | {"prediction": prediction}
