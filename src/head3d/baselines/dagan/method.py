"""DaGAN: FOMM whose keypoints see depth, and whose generator attends to it.

Hong, Zhang, Shen, Xu: Depth-Aware Generative Adversarial Network for Talking Head Video Generation, CVPR 2022. Defaults
are those that its README trains with: 15 keypoints, the ``DepthAwareGenerator``, a ResNet-50 for depth.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from head3d.baselines.dagan.depth import DepthDecoder, DepthEncoder
from head3d.baselines.dagan.generator import DepthAwareGenerator
from head3d.baselines.first_order import KeypointDetector, motion_inputs
from head3d.baselines.keypoints import Keypoints, full_precision, relative_keypoints
from head3d.baselines.method import Method
from head3d.baselines.motion import DenseMotion, Motion
from head3d.baselines.official import BLOCKS, Table
from head3d.errors import UserError

# Official names of the depth decoder's parts are their places in one list: coarsest level first, then the heads.
TABLE: Table = (
    *BLOCKS,
    ("src_first", "depth_first"),
    ("src_down_blocks.#", "depth_down.#"),
    ("AttnModule", "attention"),
    ("attention.query_conv", "attention.query"),
    ("attention.key_conv", "attention.key"),
    ("attention.value_conv", "attention.value"),
    *(
        (f"depth_decoder.decoder.{2 * place + which}.conv.conv", f"depth_decoder.{name}.{4 - place}.conv")
        for place in range(5)
        for which, name in enumerate(("before", "after"))
    ),
    *((f"depth_decoder.decoder.{10 + level}.conv", f"depth_decoder.heads.{level}.conv") for level in range(4)),
)
LAYERS = (18, 50)
D = TypeVar("D", bound="Dagan")


@dataclass(frozen=True)
class Subject:
    """What DaGAN knows of a source frame.

    Attributes:
        source: (1, 3, H, W).
        small: the frame at the motion network's resolution.
        disparity: (1, 1, H, W) in (0, 1).
        features: of the generator's encoder, finest first.
        depth: features of the disparity at the lowest resolution.
        keypoints: of the frame.
    """

    source: Tensor
    small: Tensor
    disparity: Tensor
    features: list[Tensor]
    depth: Tensor
    keypoints: Keypoints

    def expand(self, batch: int) -> "Subject":
        """The same for each of ``batch`` driving frames, without copies."""
        maps = (self.source, self.small, self.disparity, self.depth, *self.features)
        source, small, disparity, depth, *features = (x.expand(batch, -1, -1, -1) for x in maps)
        return Subject(source, small, disparity, features, depth, self.keypoints.expand(batch))


class Dagan(Method):
    """DaGAN.

    The depth networks are trained beforehand and frozen: official checkpoints of DaGAN lack them, their own are called
    ``encoder.pth`` and ``depth.pth``. Give all four to :meth:`load_official`, or the two that there are.

    Args:
        image_size: side of the frames, pixels.
        depth_layers: depth of the ResNet behind the disparity, 50 or 18. Training uses 50; the authors' demo, 18.
        align_corners: see :func:`head3d.baselines.keypoints.sample`.
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

    name = "dagan"
    exact = ("kp_detector", "depth_encoder", "depth_decoder")
    table = TABLE
    optional: ClassVar[tuple[str, ...]] = ("depth_encoder", "depth_decoder")

    def __init__(
        self,
        image_size: int = 128,
        *,
        depth_layers: int = 50,
        align_corners: bool = False,
        keypoints: int = 15,
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
        # The depth's ResNet halves five times.
        super().__init__(image_size, math.lcm(32, 2**downs, round(2**levels / scale)), align_corners)
        if depth_layers not in LAYERS:
            raise UserError(f"dagan: depth_layers is {depth_layers!r}", allowed=", ".join(map(str, LAYERS)))
        motion = DenseMotion(keypoints, motion_width, motion_most, motion_levels, scale, align_corners)
        self.generator = DepthAwareGenerator(motion, width, most, downs, residuals)
        self.kp_detector = KeypointDetector(
            keypoints, detector_width, detector_most, detector_levels, scale, temperature, channels=4
        )
        self.depth_encoder = DepthEncoder(depth_layers)
        self.depth_decoder = DepthDecoder(self.depth_encoder.channels)
        for network in (self.depth_encoder, self.depth_decoder):
            network.requires_grad_(False)
        self.depth_layers = depth_layers

    def train(self: D, mode: bool = True) -> D:
        """As of any module, but the depth networks stay frozen, normalisations included."""
        super().train(mode)
        self.depth_encoder.eval()
        self.depth_decoder.eval()
        return self

    def load_official(self: D, states: Mapping[str, object], what: str | None = None) -> D:
        """As :meth:`Method.load_official`; depth networks may also be called ``depth_encoder50`` and the like."""
        suffix = str(self.depth_layers)
        return super().load_official({name.removesuffix(suffix): state for name, state in states.items()}, what)

    def complete(self) -> None:
        if self.lacks:
            from head3d.assets.cache import dagan_names, fetch_all
            from head3d.baselines.dagan.official import load_depth

            files = fetch_all(dagan_names(self.depth_layers))
            load_depth(self.depth_encoder, self.depth_decoder, *files.values())
            self.lacks = ()

    @full_precision
    def disparity(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Disparity in (0, 1), in float32 like the keypoints; without a gradient, as its networks stay as they are."""
        with torch.no_grad():
            return self.depth_decoder(self.depth_encoder(images))[0]

    @full_precision
    def detect(self, images: Float[Tensor, "b 3 h w"], disparity: Float[Tensor, "b 1 h w"]) -> Keypoints:
        """Keypoints of frames and their disparity, in float32: inverses of jacobians magnify what bfloat16 rounds."""
        return self.kp_detector(torch.cat((images, disparity), dim=1))

    def encode_source(self, source: Float[Tensor, "b 3 h w"]) -> Subject:
        """What does not depend on the driving frames."""
        self.check_size(*source.shape[-2:])
        disparity = self.disparity(source)
        return Subject(
            source,
            self.generator.motion.shrink(source),
            disparity,
            self.generator.encode(source),
            self.generator.encode_depth(disparity),
            self.detect(source, disparity),
        )

    def render(self, subject: Subject, driving: Keypoints) -> tuple[Tensor, Motion]:
        """Frames (B, 3, H, W) at driving keypoints, and their motion."""
        heatmaps, motions = motion_inputs(subject.keypoints, driving, *subject.small.shape[-2:])
        motion = self.generator.motion(subject.small, heatmaps, motions)
        return self.generator(subject.source, subject.features, subject.depth, motion), motion

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
        points = self.detect(driving, self.disparity(driving))
        if motion == "relative":
            start = points[:1] if first is None else self.detect(first[None], self.disparity(first[None]))
            points = relative_keypoints(state.keypoints, points, start)
        return self.render(state.expand(len(driving)), points)[0]

    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """``prediction``, disparities of both frames, keypoints, mask, flow and occlusion."""
        subject = self.encode_source(source)
        driving_disparity = self.disparity(driving)
        points = self.detect(driving, driving_disparity)
        prediction, motion = self.render(subject, points)
        answer = {
            "source_disp": subject.disparity,
            "driving_disp": driving_disparity,
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
