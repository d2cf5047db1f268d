"""FaceV2V (Wang et al., CVPR 2021) as its unofficial implementation defines it: the official code was never published."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from head3d.baselines import official
from head3d.baselines.facev2v.detector import CanonicalDetector
from head3d.baselines.facev2v.generator import Generator
from head3d.baselines.facev2v.head import HeadEstimator, transform_keypoints
from head3d.baselines.keypoints import Keypoints, relative_keypoints
from head3d.baselines.method import Method

# The estimator's forward pass returns the head called fc_roll as yaw and the one called fc_yaw as roll. Weights know
# what the heads do, not what they are called: so ours are called by what they do, and the names cross over here.
TABLE: official.Table = (
    *official.BLOCKS,
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
        encoded: volume and compressed volume, of one frame.
        canonical: (1, K, 3), keypoints without pose and expression.
        source: (1, K, 3), keypoints of the frame.
    """

    encoded: tuple[Tensor, Tensor]
    canonical: Tensor
    source: Tensor


class FaceV2V(Method):
    """One-shot free-view talking heads: canonical 3D keypoints, head pose, expression, and a moved feature volume.

    Defaults are those of the implementation's ``vox-256.yaml``; narrower networks make it smaller.

    Args:
        image_size: side of the frames, pixels; a multiple of 4 * 2 ** levels.
        keypoints: K.
        width: channels of the generator at the frame's resolution.
        most: greatest number of its channels.
        residuals: residual blocks on the volume, and as many behind it.
        volume: channels of the volume.
        depth: cells of the volume along z.
        motion_width: channels of the motion's hourglass at its finest level.
        motion_most: greatest number of its channels.
        detector_width: channels of the keypoint detector's hourglass at its finest level.
        detector_most: greatest number of its channels.
        lifted: channels of the detector's coarsest volume.
        head_width: channels of the head estimator's first convolution.
        head_most: greatest number of its channels.
        levels: halvings of both hourglasses.
        align_corners: see :func:`head3d.baselines.keypoints.sample`.
    """

    name = "facev2v"
    table = TABLE
    scale: ClassVar[float] = 0.25  # of the detector's input; the volume has the same height and width

    def __init__(
        self,
        image_size: int = 128,
        keypoints: int = 15,
        width: int = 64,
        most: int = 512,
        residuals: int = 6,
        volume: int = 32,
        depth: int = 16,
        motion_width: int = 32,
        motion_most: int = 1024,
        detector_width: int = 32,
        detector_most: int = 1024,
        lifted: int = 1024,
        head_width: int = 64,
        head_most: int = 2048,
        levels: int = 5,
        align_corners: bool = False,
    ) -> None:
        super().__init__(image_size, multiple=4 * 2**levels)
        self.generator = Generator(
            keypoints,
            width,
            most,
            volume=volume,
            depth=depth,
            residuals=residuals,
            motion={"width": motion_width, "most": motion_most, "levels": levels},
            align_corners=align_corners,
        )
        self.kp_detector = CanonicalDetector(
            keypoints, detector_width, detector_most, levels, self.scale, depth, lifted
        )
        self.he_estimator = HeadEstimator(keypoints, head_width, head_most)

    def prepare(self, frames: Float[Tensor, "t 3 h w"], frame: int = 0) -> Subject:
        """Volume and keypoints of one frame."""
        image = frames[frame : frame + 1]
        self.check_size(*image.shape[-2:])
        canonical = self.kp_detector(image)
        source = transform_keypoints(canonical, self.he_estimator(image))
        return Subject(self.generator.encode(image), canonical, source)

    def drive(
        self,
        state: Subject,
        driving: Float[Tensor, "m 3 h w"],
        motion: str = "absolute",
        first: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "m 3 h w"]:
        """The subject with pose and expression of each driving frame, or with their change."""
        self.check_motion(motion)
        points = self._points(state, driving)
        if motion == "relative":
            start = points[:1] if first is None else self._points(state, first[None])
            points = relative_keypoints(Keypoints(state.source), Keypoints(points), Keypoints(start)).value
        return self.generator.decode(state.encoded, state.source, points)["prediction"]

    def _points(self, state: Subject, frames: Tensor) -> Tensor:
        return transform_keypoints(state.canonical, self.he_estimator(frames))

    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Prediction, keypoints (B, K, 3), occlusion, mask, deformation, and what the estimator says of both frames."""
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
