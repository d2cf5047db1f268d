"""Losses of FaceV2V: perceptual, hinge, equivariance in the image plane, priors of keypoints, pose and expression."""

import torch
from torch import Tensor

from head3d.baselines.discriminator import Discriminator
from head3d.baselines.facev2v.head import expected_degrees, transform_keypoints
from head3d.baselines.facev2v.method import FaceV2V
from head3d.baselines.losses import equivariance_value, euler_xyz, expression_size, keypoint_prior, pose_error
from head3d.baselines.objective import Losses, Objective, Pairs, adversarial, weighted_sum
from head3d.models.head3d import HeadGeometry


@torch.no_grad()
def taught_degrees(geometry: HeadGeometry, images: Tensor, masks: Tensor) -> Tensor:
    """Yaw, pitch and roll (3, B) that F_P gives of frames, in the order and with the signs of FaceV2V's rotation.

    F_P's rotation has z away from the camera. The volume's z points towards it, which turns yaw and pitch round; in
    these axes the same matrix is taken apart as R_x(pitch) R_y(yaw) R_z(roll).
    """
    rotation = geometry.pose(images * masks).rotation
    towards = rotation.new_tensor((1.0, 1.0, -1.0))
    return euler_xyz(rotation * towards[:, None] * towards)


class Training(Objective[FaceV2V]):
    """FaceV2V's training (Sec. 3.4 of its paper), as the unofficial implementation has it."""

    needs_geometry = True

    def set_up(self) -> None:
        self.discriminator = Discriminator(self.settings.discriminator_width, spectral=True)
        self.notes["pose_teacher"] = (
            "HopeNet's weights have no address that this project can reach: Head3D's F_P of stage 1 teaches head poses"
        )

    def losses(self, pairs: Pairs, draw: torch.Generator) -> Losses:
        assert self.geometry is not None and self.discriminator is not None
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        predicted, points = answer["prediction"], answer["kp_driving"]
        images, spline = self.deformed(pairs.driving, draw)
        # Canonical keypoints are the source's: only pose and expression are those of the deformed frame.
        moved = transform_keypoints(answer["kp_canonical"], self.method.he_estimator(images))
        said = torch.stack([expected_degrees(answer[f"driving_{angle}_logits"]) for angle in ("yaw", "pitch", "roll")])
        expression = answer["driving_exp"].unflatten(1, (-1, 3))
        terms = {
            **self.likeness(predicted, pairs.driving),
            "equivariance_value": equivariance_value(points[..., :2], moved[..., :2], spline),
            "keypoint": keypoint_prior(points),
            "headpose": pose_error(said, taught_degrees(self.geometry, pairs.driving, pairs.driving_mask)),
            "expression": expression_size(expression),
        }
        terms |= adversarial(self.discriminator, predicted, pairs.driving, "hinge")
        return weighted_sum(terms, self.weights)
