"""The networks of Head3D put together: from reference frames to the canonical head to a driving view.

Training stages, evaluation and inference all go through these functions, so there is one way that a frame flows:
predict (pose and depth of each head image) -> canonical (Eqs. 1, 5) -> render (Eq. 3) -> fuse (Eq. 7).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from head3d.geometry import (
    Pose,
    Rendered,
    box_blur,
    canonical_flow,
    dilate,
    from_canonical,
    intrinsics,
    mean_of_views,
    to_canonical,
    warp,
)
from head3d.models.depth import DepthNet
from head3d.models.pose import PoseNet

if TYPE_CHECKING:  # else stage 1 would depend on the networks of stage 2
    from head3d.models.canonical import CanonicalNet

M = TypeVar("M", bound=nn.Module)
FADE = 0.1  # where so large a share of the neighbourhood is head, the background takes half of the head's motion
RIM = 7  # window, pixels, about the head in which nothing is taken for a head left behind: its soft edge is there


@dataclass(frozen=True)
class GeometryPrediction:
    """What F_P and F_D say of head images.

    Attributes:
        pose: of each image.
        depth: (B, 1, H, W), metres from the camera.
    """

    pose: Pose
    depth: Tensor


@dataclass(frozen=True)
class Canonical:
    """A canonical head.

    Attributes:
        image: (B, 3, H, W) in [0, 1], zero outside the mask.
        mask: (B, 1, H, W) in [0, 1].
        depth: (B, 1, H, W), metres.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor

    def repeat(self, times: int) -> "Canonical":
        """Each head ``times`` times, copies next to each other."""
        return Canonical(*(x.repeat_interleave(times, dim=0) for x in (self.image, self.mask, self.depth)))


class HeadGeometry(nn.Module):
    """F_D and F_P with the camera they live in (Sec. 3.1).

    Args:
        depth: F_D.
        pose: F_P.
        fov_deg: field of view of the camera.
        distance_m: distance of the head's centre at t = 0.
    """

    def __init__(self, depth: DepthNet, pose: PoseNet, fov_deg: float = 10.0, distance_m: float = 1.0) -> None:
        super().__init__()
        self.depth, self.pose = depth, pose
        self.fov_deg, self.distance_m = fov_deg, distance_m

    def k(self, like: Tensor) -> Float[Tensor, "3 3"]:
        """Camera matrix for images of the size of ``like``."""
        return intrinsics(like.shape[-2], like.shape[-1], self.fov_deg).to(like.device)

    def predict(self, heads: Float[Tensor, "b 3 h w"]) -> GeometryPrediction:
        """Pose and depth of head images in [0, 1]."""
        return self.place(self.pose(heads), self.depth(heads))

    def place(self, pose: Pose, relative: Float[Tensor, "b 1 h w"]) -> GeometryPrediction:
        """Depth from the camera out of F_D's depth about the head's centre and the pose that says where that is."""
        return GeometryPrediction(pose, self.distance_m + pose.translation[:, 2, None, None, None] + relative)

    def canonical_depth(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Depth of a canonical head, whose centre is at the nominal distance."""
        return self.distance_m + self.depth(image)

    def views(
        self, heads: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b 1 h w"], prediction: GeometryPrediction
    ) -> Rendered:
        """Canonical frames x_i^c of head images (Eq. 1)."""
        return to_canonical(heads, masks, prediction.depth, prediction.pose, self.k(heads), self.distance_m)

    def mean_canonical(
        self,
        heads: Float[Tensor, "b 3 h w"],
        masks: Float[Tensor, "b 1 h w"],
        prediction: GeometryPrediction,
        references: int,
    ) -> Canonical:
        """Mean canonical head x_bar^c with its depth; the ``references`` images of one head next to each other."""
        image, mask = mean_of_views(self.views(heads, masks, prediction), references)
        return Canonical(image, mask, self.canonical_depth(image))

    def render(self, canonical: Canonical, pose: Pose) -> Rendered:
        """View of canonical heads at poses (Eq. 3)."""
        return from_canonical(
            canonical.image, canonical.mask, canonical.depth, pose, self.k(canonical.image), self.distance_m
        )


def rigid_flow(
    geometry: HeadGeometry, canonical: Canonical, rendered: Rendered, reference: Pose, background: Tensor
) -> Tensor:
    """Flow that carries a reference frame to a rendered view by the head's rigid motion alone.

    On the head it leads from each pixel of the view back to the canonical head (Eq. 3 inverted by the renderer), and
    from there to where the reference frame shows it (Eq. 5). Close around the head the motion fades out, and the
    background stays; where it would show the head that the reference has there, it shows what is next to it.

    Args:
        geometry: camera.
        canonical: canonical heads.
        rendered: their views.
        reference: poses of the reference frames.
        background: flow from the reference's head to the nearest background (:func:`outside_flow` of its mask).

    Returns:
        Backward flow (B, 2, H, W), pixels.
    """
    to_reference = canonical_flow(canonical.depth, reference, geometry.k(canonical.image), geometry.distance_m)
    flow = (rendered.flow + warp(to_reference, rendered.flow)) * rendered.mask
    outside, window = 1 - rendered.mask, 2 * (flow.shape[-1] // 32) + 1
    around, weight = flow, rendered.mask
    for _ in range(2):
        around, weight = box_blur(around, window), box_blur(weight, window)
    flow = flow + outside * around / (weight + FADE)
    far = 1 - dilate(rendered.mask, RIM)
    return flow + far * warp(background.expand(len(flow), -1, -1, -1), flow)


def recurrent_canonical(
    geometry: HeadGeometry,
    network: "CanonicalNet",
    heads: Float[Tensor, "b 3 h w"],
    masks: Float[Tensor, "b 1 h w"],
    prediction: GeometryPrediction,
    references: int,
) -> tuple[Canonical, Canonical]:
    """Canonical heads x_hat^c of the recurrent network, with the mean canonical heads they start from (Sec. 3.2).

    The depth is that of the mean canonical head; :meth:`HeadGeometry.canonical_depth` of the image gives d_hat^c.
    """
    views = geometry.views(heads, masks, prediction)
    image, mask = mean_of_views(views, references)
    mean = Canonical(image, mask, geometry.canonical_depth(image))
    depth = mean.depth.repeat_interleave(references, dim=0)
    flows = canonical_flow(depth, prediction.pose, geometry.k(heads), geometry.distance_m)
    estimate = network(
        heads.unflatten(0, (-1, references)),
        flows.unflatten(0, (-1, references)),
        views.mask.unflatten(0, (-1, references)),
        mean.image,
        mean.mask,
    )
    return Canonical(estimate, mean.mask, mean.depth), mean


def freeze(module: M) -> M:
    """Stop a trained network from learning and from updating its statistics."""
    module.requires_grad_(False).eval()
    return module


def freeze_batchnorm_statistics(module: nn.Module) -> None:
    """Keep batch normalisation at its running statistics while the rest of the network trains."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


@torch.no_grad()
def head_error(rendered: Rendered, head: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Mean squared error of each rendered head against the true head image, over the whole frame."""
    return (rendered.image - head).square().mean(dim=(1, 2, 3))
