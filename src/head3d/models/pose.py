"""Pose network F_P: HopeNet [33] whose last layer also gives a translation (Sec. 4.2)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from head3d.geometry.pose import Pose, rotation_from_euler
from head3d.models.blocks import imagenet
from head3d.models.resnet import ResNet

BINS = 66  # HopeNet's classes for each angle
BIN_DEG = 3.0  # width of a class
HEAD_SHARE = 0.39  # share of the image that a head at the nominal distance covers
CORRECTION = 0.01  # scale of the last layer's output: its thousands of inputs move together under Adam
GRID = 4  # cells a side of the pooled map that the translation is read from


class PoseNet(nn.Module):
    """Head pose of a head image.

    Angles are the expectation over HopeNet's 66 classes of 3 degrees. The translation starts from where the head image
    lies and how much it covers (its centroid and area) and is corrected from a 4x4 map of features: global pooling, as
    for the angles, forgets where in the image the head is.

    Args:
        backbone: ``resnet18`` or ``resnet50`` (HopeNet).
        input_size: side in pixels to which images are resized; HopeNet has 224.
        max_xy_m: bound of the translation sideways and up and down, metres.
        max_z_m: bound of the translation towards the camera and away, metres.
        span_m: metres that the image spans at the nominal distance.
        distance_m: that distance.
    """

    def __init__(
        self,
        backbone: Literal["resnet18", "resnet50"] = "resnet50",
        input_size: int = 224,
        max_xy_m: float = 0.1,
        max_z_m: float = 0.35,
        span_m: float = 0.175,
        distance_m: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.backbone = ResNet(50 if backbone == "resnet50" else 18)
        self.backbone.fc = nn.Identity()
        features = self.backbone.channels[-1]
        self.fc_yaw, self.fc_pitch, self.fc_roll = (nn.Linear(features, BINS) for _ in range(3))
        self.fc_translation = nn.Linear(features * GRID * GRID, 3)
        nn.init.zeros_(self.fc_translation.bias)
        nn.init.normal_(self.fc_translation.weight, std=1e-2)
        self.span_m, self.distance_m = span_m, distance_m
        self.register_buffer("bounds", torch.tensor((max_xy_m, max_xy_m, max_z_m)), persistent=False)
        self.register_buffer("centres", torch.arange(BINS) * BIN_DEG - 99.0, persistent=False)

    bounds: Tensor
    centres: Tensor

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Last feature map of the backbone."""
        if x.shape[-1] != self.input_size:
            x = F.interpolate(x, size=(self.input_size, self.input_size), mode="bilinear", align_corners=False)
        return self.backbone.features(imagenet(x))[-1]

    @torch.no_grad()
    def first_guess(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3"]:
        """Translation by the centroid and the area of what is not black, within 0.95 of the bounds."""
        present = (x.float().amax(dim=1) > 0.02).float()
        area = present.mean(dim=(1, 2)).clamp(min=1e-3)
        z = (HEAD_SHARE / area).sqrt()
        axis = torch.linspace(-0.5, 0.5, x.shape[-1], device=x.device)
        right = (present.mean(dim=1) * axis).mean(dim=1) / area
        down = (present.mean(dim=2) * axis).mean(dim=1) / area
        guess = torch.stack((right * z * self.span_m, down * z * self.span_m, self.distance_m * (z - 1)), dim=1)
        return guess.clamp(-0.95 * self.bounds, 0.95 * self.bounds)

    def degrees_and_translation(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
        """Yaw, pitch, roll in degrees, and the translation in metres."""
        feature = self.features(x).float()
        pooled = feature.mean(dim=(2, 3))
        with torch.autocast(x.device.type, enabled=False):
            logits = torch.stack([fc(pooled) for fc in (self.fc_yaw, self.fc_pitch, self.fc_roll)], dim=1)
            degrees = (logits.softmax(dim=-1) * self.centres).sum(dim=-1)
            cells = F.adaptive_avg_pool2d(feature, GRID).flatten(1)
            first = torch.atanh(self.first_guess(x) / self.bounds)
            translation = torch.tanh(first + CORRECTION * self.fc_translation(cells)) * self.bounds
        return degrees, translation

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Pose:
        """Pose of each head image, (B, 3, H, W) in [0, 1]."""
        degrees, translation = self.degrees_and_translation(x)
        return Pose(rotation_from_euler(*degrees.unbind(dim=1)), translation)
