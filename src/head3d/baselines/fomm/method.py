"""The first order motion model: a source frame moved by keypoints and their local affine frames.

Siarohin, Lathuilière, Tulyakov, Ricci, Sebe: First Order Motion Model for Image Animation, NeurIPS 2019. Defaults are
the authors' ``vox-256``.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.baselines.first_order import KeypointDetector, motion_inputs
from head3d.baselines.generator import Generator
from head3d.baselines.keypoints import Keypoints, relative_keypoints
from head3d.baselines.method import Method
from head3d.baselines.motion import DenseMotion, Motion


@dataclass(frozen=True)
class Subject:
    """What FOMM knows of a source frame.

    Attributes:
        source: (1, 3, H, W).
        small: the frame at the motion network's resolution.
        features: of the generator's encoder, finest first.
        keypoints: of the frame.
    """

    source: Tensor
    small: Tensor
    features: list[Tensor]
    keypoints: Keypoints

    def expand(self, batch: int) -> "Subject":
        """The same for each of ``batch`` driving frames, without copies."""
        source, small, *features = (x.expand(batch, -1, -1, -1) for x in (self.source, self.small, *self.features))
        return Subject(source, small, features, self.keypoints.expand(batch))


class Fomm(Method):
    """FOMM.

    Args:
        image_size: side of the frames, pixels.
        align_corners: of the sampling. False is what the official code does on today's torch, and what a network is
            trained with here. The public weights were trained on torch 1.0, which meant True: with False they would
            sample a fraction of a pixel off (``head3d import`` sets it).
        keypoints: number of them.
        scale: of the resolution at which keypoints and motion are found.
        temperature: of the keypoints' softmax.
        detector_width: of the keypoint detector's hourglass.
        detector_most: greatest number of channels there.
        detector_levels: of that hourglass.
        width: of the generator.
        most: greatest number of channels there.
        downs: halvings of the generator.
        residuals: residual blocks of the generator.
        motion_width: of the motion network's hourglass.
        motion_most: greatest number of channels there.
        motion_levels: of that hourglass.
    """

    name = "fomm"
    exact = ("kp_detector",)
    public_align_corners = True

    def __init__(
        self,
        image_size: int = 128,
        *,
        align_corners: bool = False,
        keypoints: int = 10,
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
    ) -> None:
        levels = max(detector_levels, motion_levels)
        super().__init__(image_size, math.lcm(2**downs, round(2**levels / scale)), align_corners)
        motion = DenseMotion(keypoints, motion_width, motion_most, motion_levels, scale, align_corners)
        self.generator = Generator(motion, width, most, downs, residuals)
        self.kp_detector = KeypointDetector(
            keypoints, detector_width, detector_most, detector_levels, scale, temperature
        )

    def encode_source(self, source: Float[Tensor, "b 3 h w"]) -> Subject:
        """What does not depend on the driving frames."""
        self.check_size(*source.shape[-2:])
        return Subject(
            source, self.generator.motion.shrink(source), self.generator.encode(source), self.kp_detector(source)
        )

    def render(self, subject: Subject, driving: Keypoints) -> tuple[Tensor, Motion]:
        """Frames (B, 3, H, W) at driving keypoints, and their motion."""
        heatmaps, motions = motion_inputs(subject.keypoints, driving, *subject.small.shape[-2:])
        motion = self.generator.motion(subject.small, heatmaps, motions)
        return self.generator(subject.source, subject.features, motion), motion

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
        points = self.kp_detector(driving)
        if motion == "relative":
            start = points[:1] if first is None else self.kp_detector(first[None])
            points = relative_keypoints(state.keypoints, points, start)
        return self.render(state.expand(len(driving)), points)[0]

    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        subject, points = self.encode_source(source), self.kp_detector(driving)
        prediction, motion = self.render(subject, points)
        answer = {
            "kp_source_value": subject.keypoints.value,
            "kp_source_jacobian": subject.keypoints.jacobian,
            "kp_driving_value": points.value,
            "kp_driving_jacobian": points.jacobian,
            "mask": motion.mask,
            "flow": motion.flow,
            "occlusion": motion.occlusion,
            "prediction": prediction,
        }
        return {name: value for name, value in answer.items() if value is not None}
