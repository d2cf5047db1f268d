"""FaceV2V: canonical 3D keypoints, head pose, expression, and a feature volume that moves with them.

Wang, Mallya, Liu: One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing, CVPR 2021. The authors never
published their code: this is what the unofficial implementation defines, its ``original`` generator.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.baselines.facev2v.detector import CanonicalDetector
from head3d.baselines.facev2v.generator import Generator, VolumeMotion
from head3d.baselines.facev2v.head import HeadEstimator, transform_keypoints
from head3d.baselines.keypoints import Keypoints, relative_keypoints
from head3d.baselines.method import Method
from head3d.baselines.official import BLOCKS, Table

# The estimator's forward pass returns the head called fc_roll as yaw and the one called fc_yaw as roll. Weights know
# what the heads do, not what they are called: so ours are called by what they do, and the names cross over here.
TABLE: Table = (
    *BLOCKS,
    ("kp_detector.predictor.down_blocks.down#", "kp_detector.predictor.down.#"),
    ("kp_detector.predictor.up_blocks.up#", "kp_detector.predictor.up.#"),
    ("he_estimator.fc_roll", "he_estimator.yaw"),
    ("he_estimator.fc_yaw", "he_estimator.roll"),
    ("he_estimator.fc_pitch", "he_estimator.pitch"),
    ("he_estimator.fc_t", "he_estimator.translation"),
    ("he_estimator.fc_exp", "he_estimator.expression"),
    ("he_estimator.block1.b1_#", "he_estimator.stages.0.blocks.#"),
    ("he_estimator.block2", "he_estimator.stages.1.halve"),
    ("he_estimator.block3.b3_#", "he_estimator.stages.1.blocks.#"),
    ("he_estimator.block4", "he_estimator.stages.2.halve"),
    ("he_estimator.block5.b5_#", "he_estimator.stages.2.blocks.#"),
    ("he_estimator.block6", "he_estimator.stages.3.halve"),
    ("he_estimator.block7.b7_#", "he_estimator.stages.3.blocks.#"),
    ("he_estimator.conv1", "he_estimator.first.conv"),
    ("he_estimator.norm1", "he_estimator.first.norm"),
    *(
        pair
        for i in range(4)
        for pair in (
            (f"he_estimator.conv{i + 2}", f"he_estimator.stages.{i}.widen.conv"),
            (f"he_estimator.norm{i + 2}", f"he_estimator.stages.{i}.widen.norm"),
        )
    ),
    *(
        pair
        for place in ("halve", "blocks.#")
        for number, part in enumerate(("reduce", "middle", "expand", "past"), start=1)
        for pair in (
            (f"{place}.conv{number}", f"{place}.{part}.conv"),
            (f"{place}.norm{number}", f"{place}.{part}.norm"),
        )
        if not (part == "past" and pair[0].endswith("conv4"))
    ),
    ("halve.skip", "halve.past.conv"),
    ("generator.motion.hourglass.decoder.conv", "generator.motion.hourglass.close.conv"),
    ("generator.motion.hourglass.decoder.norm", "generator.motion.hourglass.close.norm"),
    ("generator.motion.compress", "generator.motion.compressor.conv"),
    ("generator.motion.norm", "generator.motion.compressor.norm"),
    ("generator.second", "generator.lift"),
    ("generator.third", "generator.flatten"),
    ("generator.fourth", "generator.mix"),
    ("resblocks_3d.3dr#", "solid.#"),
    ("resblocks_2d.2dr#", "flat.#"),
)


@dataclass(frozen=True)
class Subject:
    """What driving needs to know of a source frame.

    Attributes:
        volume: (1, C, D, H / 4, W / 4), features.
        compressed: (1, C', D, H / 4, W / 4), the few of them that the motion is judged by.
        canonical: (1, K, 3), keypoints without pose and expression.
        source: (1, K, 3), keypoints of the frame.
    """

    volume: Tensor
    compressed: Tensor
    canonical: Tensor
    source: Tensor


class FaceV2V(Method):
    """FaceV2V. Defaults are those of the implementation's ``vox-256``.

    Args:
        image_size: side of the frames, pixels.
        align_corners: see :func:`head3d.baselines.keypoints.sample`.
        keypoints: number of them.
        depth: cells of the volumes along z.
        scale: of the resolution at which keypoints are found.
        temperature: of the keypoints' softmax.
        detector_width: of the keypoint detector's hourglass.
        detector_most: greatest number of channels there.
        detector_lifted: channels of that hourglass's coarsest volume.
        detector_levels: of that hourglass.
        head_width: of the head estimator.
        head_most: greatest number of channels there.
        width: of the generator.
        most: greatest number of channels there.
        downs: halvings of the generator; its volume has the last one's height and width.
        volume: channels of the generator's volume.
        residuals: residual blocks of the generator, on its volume and again on its moved features.
        motion_width: of the motion network's hourglass.
        motion_most: greatest number of channels there.
        motion_levels: of that hourglass.
    """

    name = "facev2v"
    exact = ("kp_detector", "he_estimator")
    table = TABLE

    def __init__(
        self,
        image_size: int = 128,
        *,
        align_corners: bool = False,
        keypoints: int = 15,
        depth: int = 16,
        scale: float = 0.25,
        temperature: float = 0.1,
        detector_width: int = 32,
        detector_most: int = 1024,
        detector_lifted: int = 1024,
        detector_levels: int = 5,
        head_width: int = 64,
        head_most: int = 2048,
        width: int = 64,
        most: int = 512,
        downs: int = 2,
        volume: int = 32,
        residuals: int = 6,
        motion_width: int = 32,
        motion_most: int = 1024,
        motion_levels: int = 5,
    ) -> None:
        # Five halvings of the head estimator leave a pixel of 32.
        multiple = math.lcm(32, round(2**detector_levels / scale), 2 ** (downs + motion_levels))
        super().__init__(image_size, multiple, align_corners)
        motion = VolumeMotion(
            keypoints,
            volume,
            depth=depth,
            width=motion_width,
            most=motion_most,
            levels=motion_levels,
            align_corners=align_corners,
        )
        self.generator = Generator(motion, width, most, downs, volume, depth, residuals)
        self.kp_detector = CanonicalDetector(
            keypoints, detector_width, detector_most, detector_levels, scale, temperature, detector_lifted, depth
        )
        self.he_estimator = HeadEstimator(keypoints, head_width, head_most)

    @torch.no_grad()
    def prepare(self, frames: Float[Tensor, "t 3 h w"], frame: int = 0) -> Subject:
        image = frames[frame][None]
        self.check_size(*image.shape[-2:])
        canonical = self.kp_detector(image)
        source = transform_keypoints(canonical, self.he_estimator(image))
        return Subject(*self.generator.encode(image), canonical, source)

    @torch.no_grad()
    def drive(
        self,
        state: Subject,
        driving: Float[Tensor, "m 3 h w"],
        motion: str = "absolute",
        first: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "m 3 h w"]:
        self.check_motion(motion)
        points = self._points(state, driving)
        if motion == "relative":
            start = points[:1] if first is None else self._points(state, first[None])
            subject, moved, still = map(Keypoints, (state.source, points, start))
            points = relative_keypoints(subject, moved, still).value
        return self.generator.decode(state.volume, state.compressed, state.source, points)["prediction"]

    def _points(self, state: Subject, frames: Tensor) -> Tensor:
        return transform_keypoints(state.canonical, self.he_estimator(frames))

    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Prediction, keypoints (B, K, 3), occlusion, mask, deformation, and what the estimator says of both frames."""
        self.check_size(*source.shape[-2:])
        canonical = self.kp_detector(source)
        heads = {"source": self.he_estimator(source), "driving": self.he_estimator(driving)}
        points = {name: transform_keypoints(canonical, head) for name, head in heads.items()}
        result = self.generator(source, points["source"], points["driving"])
        for name, head in heads.items():
            result |= {
                f"kp_{name}": points[name],
                f"{name}_yaw_logits": head.yaw,
                f"{name}_pitch_logits": head.pitch,
                f"{name}_roll_logits": head.roll,
                f"{name}_t": head.translation,
                f"{name}_exp": head.expression.flatten(1),
            }
        return result | {"kp_canonical": canonical}
