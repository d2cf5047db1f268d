"""Official weights that stage 1 starts from: HopeNet [33] for F_P, the face depth network of [20] for F_D (Sec. 4.2).

Every tensor of a file is used or ignored by name, and every tensor of ours is filled or kept by name; anything else is
an error. What neither file has: F_P's translation layer and the instance norms of F_D's decoder.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from head3d.checkpoints import match_state_dict, read_checkpoint
from head3d.models.blocks import imagenet
from head3d.models.depth import DepthNet
from head3d.models.pose import PoseNet
from head3d.ranks import current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from head3d.models.head3d import HeadGeometry

HOPENET_IGNORED = ("fc_finetune.weight", "fc_finetune.bias")  # of an experiment; its forward pass ends before it
ENCODER = "encoder.original_model.features."
# ImageNet's classes, which nothing reads, and the output layer: it gives the distance of its synthetic data, in a scale
# that would drive our bounded, centred depth to the bound.
FACE_DEPTH_IGNORED = (
    "encoder.original_model.classifier.1.weight",
    "encoder.original_model.classifier.1.bias",
    "decoder.conv3.weight",
    "decoder.conv3.bias",
)
TRANSLATION = "fc_translation."  # F_P's layer that HopeNet has not
IMAGENET_IGNORED = ("classifier.1.weight", "classifier.1.bias", "fc.weight", "fc.bias")


def mirrored(rows: Tensor) -> Tensor:
    """Rows of an angle's 66 classes for the angle of the other sign.

    Class i stands for 3 i - 99 degrees, so class 66 - i for its negative. The outermost, -99 degrees, has no mirror
    image and stays.
    """
    return torch.cat((rows[:1], rows[1:].flip(0)))


def load_hopenet(pose: PoseNet, state: Mapping[str, object], what: str) -> list[nn.Parameter]:
    """Fill F_P from HopeNet's state dict: the ResNet-50 and the classes of the three angles. Returns what was filled.

    HopeNet's yaw is positive where the nose points to the left of the image, ours to the right: its classes change
    sides. Pitch and roll have our signs. The orders in which the angles apply differ, which tells at large angles only.

    Raises:
        UserError: a tensor is missing, left over or of another shape; then nothing is changed.
    """
    own = pose.state_dict()
    names = {name.removeprefix("backbone."): name for name in own if not name.startswith(TRANSLATION)}
    wanted = {official: own[name] for official, name in names.items()}
    found = match_state_dict(
        state, wanted, HOPENET_IGNORED, what, "HopeNet has a ResNet-50: is model.pose.backbone resnet50?"
    )
    for part in ("weight", "bias"):
        found[f"fc_yaw.{part}"] = mirrored(found[f"fc_yaw.{part}"])
    _fill(wanted, found)
    return [weight for name, weight in pose.named_parameters() if not name.startswith(TRANSLATION)]


def load_face_depth(depth: DepthNet, state: Mapping[str, object], what: str) -> list[nn.Parameter]:
    """Fill F_D from the state dict of [20]: the MobileNetV2 and all of the decoder but its output layer.

    Returns what was filled.

    [20] sees BGR in [0, 1], ours normalised RGB: the first convolution is rewritten for that, and its bias, which it
    does not have, moves into the mean of the batch norm behind it. Exact but for the image's rim, which is padded with
    black there and with grey here.

    Raises:
        UserError: a tensor is missing, left over or of another shape; then nothing is changed.
    """
    own = depth.state_dict()
    kept = ("conv3.", *(f"up.{i}.norm{which}." for i in range(len(depth.up)) for which in "AB"))
    wanted = {_face_depth_name(name): value for name, value in own.items() if not name.startswith(kept)}
    found = match_state_dict(
        state, wanted, FACE_DEPTH_IGNORED, what, "[20] has model.depth.encoder_width 1.0 and decoder_width 0.6"
    )
    black, white = imagenet(torch.zeros(1, 3, 1, 1)), imagenet(torch.ones(1, 3, 1, 1))
    std = 1 / (white - black)
    kernel, mean = f"{ENCODER}0.0.weight", f"{ENCODER}0.1.running_mean"
    rgb = found[kernel].flip(1)
    found[kernel] = rgb * std
    found[mean] = found[mean] - (rgb * -black * std).sum(dim=(1, 2, 3))
    _fill(wanted, found)
    return [weight for name, weight in depth.named_parameters() if not name.startswith(kept)]


def _face_depth_name(name: str) -> str:
    """Name that [20] has for a tensor of F_D."""
    if name.startswith("encoder."):
        return ENCODER + name.removeprefix("encoder.")
    return "decoder." + name.replace("up.", "up", 1)


def load_imagenet(network: nn.Module, state: Mapping[str, object], what: str) -> None:
    """Fill a ResNet without its classes, or the features of a MobileNetV2, from torchvision's state dict.

    Raises:
        UserError: a tensor is missing, left over or of another shape; then nothing is changed.
    """
    own = network.state_dict()
    prefix = "" if "conv1.weight" in own else "features."
    wanted = {prefix + name: value for name, value in own.items()}
    found = match_state_dict(
        state, wanted, IMAGENET_IGNORED, what, "official weights have model.depth.encoder_width 1.0"
    )
    _fill(wanted, found)


def _fill(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)


def check_hopenet(path: Path) -> None:
    """Whether a file is HopeNet's. Raises UserError if not."""
    load_hopenet(PoseNet("resnet50"), read_checkpoint(path), str(path))


def check_face_depth(path: Path) -> None:
    """Whether a file is the face depth network of [20]. Raises UserError if not."""
    load_face_depth(DepthNet(), read_checkpoint(path), str(path))


@dataclass(frozen=True)
class Start:
    """What the networks of stage 1 start from.

    Attributes:
        used: in words, for the run's record.
        official: weights that came from [33] and [20], which know poses and depths of faces already.
    """

    used: str
    official: tuple[nn.Parameter, ...] = ()


def start(geometry: HeadGeometry, files: Mapping[str, Path]) -> Start:
    """Start F_P and F_D from official weights.

    Args:
        geometry: F_D and F_P.
        files: of :func:`head3d.assets.cache.geometry_names`, by name.

    Raises:
        UserError: a file does not fit these networks.
    """
    used: list[str] = []
    official: list[nn.Parameter] = []
    for name, path in files.items():
        state = read_checkpoint(path)
        if name == "hopenet":
            official += load_hopenet(geometry.pose, state, path.name)
            used.append("F_P: HopeNet")
        elif name == "face-depth":
            official += load_face_depth(geometry.depth, state, path.name)
            used.append("F_D: face depth network of [20]")
        elif name == "mobilenet_v2":
            if current().is_rank_zero:
                print(
                    "train_geometry: the weights of [20] have no public address and were not added (head3d assets add "
                    "face-depth FILE): F_D's encoder starts from ImageNet, its decoder untrained",
                    file=sys.stderr,
                    flush=True,
                )
            load_imagenet(geometry.depth.encoder, state, path.name)
            used.append("F_D: encoder of mobilenet_v2 of ImageNet")
        else:
            load_imagenet(geometry.pose.backbone, state, path.name)
            used.append(f"F_P: {name} of ImageNet")
    return Start("; ".join(used), tuple(official))
