"""Head pose and expression of a frame, and the keypoints that follow from them (FaceV2V, Sec. 3.1, 3.2)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines.keypoints import full_precision

BIN_DEG = 3.0  # width of a class of angles; the classes' centres start at -99 degrees, as in HopeNet
START_DEG = -99.0
# The official code converts degrees with 3.14, 0.05 % short of pi. Weights are trained with it and keypoints move by
# up to 1e-3, which is more than the 1e-4 that we promise.
PI = 3.14


class Head(NamedTuple):
    """What the estimator says of each frame.

    Attributes:
        yaw: (B, bins), logits.
        pitch: (B, bins), logits.
        roll: (B, bins), logits.
        translation: (B, 3).
        expression: (B, K, 3), movement of each keypoint.
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor


class Unit(nn.Module):
    """Convolution and batch normalisation, without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """Residual block of ResNet-50; its way past has a convolution exactly where the resolution is halved."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = channels // 4
        self.reduce = Unit(channels, inner)
        self.middle = Unit(inner, inner, 3, stride)
        self.expand = Unit(inner, channels)
        self.past = nn.Identity() if stride == 1 else Unit(channels, channels, 1, stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        out = self.expand(F.relu(self.middle(F.relu(self.reduce(x)))))
        return F.relu(out + self.past(x))


class Stage(nn.Module):
    """A 1x1 convolution to more channels, a halving of the resolution unless it is the first stage, and blocks."""

    def __init__(self, inputs: int, channels: int, blocks: int, halves: bool) -> None:
        super().__init__()
        self.widen = Unit(inputs, channels)
        self.halve = Bottleneck(channels, stride=2) if halves else nn.Identity()
        self.blocks = nn.Sequential(*(Bottleneck(channels) for _ in range(blocks)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return self.blocks(self.halve(F.relu(self.widen(x))))


class HeadEstimator(nn.Module):
    """Head pose and expression deformation of an image in [0, 1].

    Args:
        keypoints: K, number of keypoints that an expression moves.
        width: channels of the first convolution; four times as many enter the first stage and every stage doubles.
        most: greatest number of channels.
        blocks: blocks of each stage, besides those that halve.
        bins: classes of an angle, 3 degrees each.
    """

    def __init__(
        self,
        keypoints: int = 15,
        width: int = 64,
        most: int = 2048,
        blocks: tuple[int, ...] = (3, 3, 5, 2),
        bins: int = 66,
    ) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.first = Unit(3, width, 7, 2)
        channels = [width] + [min(most, 4 * width * 2**i) for i in range(len(blocks))]
        self.stages = nn.Sequential(
            *(Stage(channels[i], channels[i + 1], count, halves=i > 0) for i, count in enumerate(blocks))
        )
        self.yaw, self.pitch, self.roll = (nn.Linear(channels[-1], bins) for _ in range(3))
        self.translation = nn.Linear(channels[-1], 3)
        self.expression = nn.Linear(channels[-1], 3 * keypoints)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Head:
        """Logits of the angles, translation, expression; sides of at least 32 pixels."""
        x = self.stages(F.max_pool2d(F.relu(self.first(image)), 3, 2, 1))
        pooled = x.float().mean(dim=(2, 3))
        with torch.autocast(image.device.type, enabled=False):  # saves nothing here, and a keypoint needs the digits
            return Head(
                self.yaw(pooled),
                self.pitch(pooled),
                self.roll(pooled),
                self.translation(pooled),
                self.expression(pooled).unflatten(1, (self.keypoints, 3)),
            )


def expected_degrees(logits: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Mean angle under the classes' probabilities."""
    centres = torch.arange(logits.shape[1], device=logits.device) * BIN_DEG + START_DEG
    return (logits.float().softmax(dim=1) * centres).sum(dim=1)


def rotation_matrix(
    yaw: Float[Tensor, " b"], pitch: Float[Tensor, " b"], roll: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 3"]:
    """R_pitch R_yaw R_roll about x, y and z, of angles in degrees."""

    def turn(degrees: Tensor, axis: int) -> Tensor:
        radians = degrees / 180 * PI
        cos, sin = radians.cos(), radians.sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = {
            0: (one, zero, zero, zero, cos, -sin, zero, sin, cos),
            1: (cos, zero, sin, zero, one, zero, -sin, zero, cos),
            2: (cos, -sin, zero, sin, cos, zero, zero, zero, one),
        }[axis]
        return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))

    return turn(pitch, 0) @ turn(yaw, 1) @ turn(roll, 2)


@full_precision
def transform_keypoints(canonical: Float[Tensor, "#b k 3"], head: Head) -> Float[Tensor, "b k 3"]:
    """Keypoints of a frame: the canonical ones turned and moved with the head, then by the expression (Eq. 1)."""
    rotation = rotation_matrix(*(expected_degrees(a) for a in (head.yaw, head.pitch, head.roll)))
    return canonical @ rotation.transpose(1, 2) + head.translation[:, None] + head.expression
