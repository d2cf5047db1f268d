"""Losses of FaceV2V: perceptual, hinge, equivariance in the image plane, priors of keypoints, pose and expression."""

import torch
from torch import Tensor

from head3d.baselines.discriminator import Discriminator
from head3d.baselines.facev2v.head import expected_degrees, transform_keypoints
from head3d.baselines.facev2v.method import FaceV2V
from head3d.baselines.losses import equivariance_value, euler_xyz, expression_size, keypoint_prior, pose_error
from head3d.baselines.objective import Losses, Objective, PairLoader, Pairs, TrainingPhase, adversarial, weighted_sum
from head3d.models.head3d import HeadGeometry

POSE_WARMUP = 20  # steps over which the learning rate of the pose part rises
ANGLE_RATE = 0.2  # share of the learning rate that the layers of the three angles have there


@torch.no_grad()
def teacher_euler(geometry: HeadGeometry, images: Tensor, masks: Tensor) -> Tensor:
    """Yaw, pitch and roll (3, B) that F_P gives of frames, in the order and with the signs of FaceV2V's rotation.

    F_P's rotation has z away from the camera. The volume's z points towards it, which turns yaw and pitch round; in
    these axes the same matrix is taken apart as R_x(pitch) R_y(yaw) R_z(roll).
    """
    rotation = geometry.pose(images * masks).rotation
    towards = rotation.new_tensor((1.0, 1.0, -1.0))
    return euler_xyz(rotation * towards[:, None] * towards)


def predicted_euler(*logits: Tensor) -> Tensor:
    """Yaw, pitch and roll (3, B) from the estimator's logits of each."""
    return torch.stack([expected_degrees(angle) for angle in logits])


class Training(Objective[FaceV2V]):
    """FaceV2V's training (Sec. 3.4 of its paper), as the unofficial implementation has it."""

    needs_geometry = True

    def set_up(self) -> None:
        self.discriminator = Discriminator(self.settings.discriminator_width, spectral=True)
        self.notes["pose_teacher"] = "Head3D's F_P of stage 1 teaches head poses in HopeNet's place" + (
            f", for {self.settings.pose_steps} steps before all else too" if self.settings.pose_steps else ""
        )

    def pretraining(self, clips: int) -> TrainingPhase | None:
        """Head poses first, where ``pose_steps`` asks for it.

        Keypoints cannot turn with a head whose pose is not known, and in a few hundred steps of everything together it
        never is. Yaw, pitch and roll together, in degrees on the demo's training frames, turned and scaled at random,
        with poses of landmarks: a constant is 23 off, 400 steps come to 13, 80 steps to 21. That is not near enough for
        the demo: unturned frames are 2 to 4 degrees off in each angle, heads differ by 1 or 2 within a clip, and so all
        weight of the motions goes to the one that moves nothing. The angles' own layers learn slowly, since an
        expectation over bins of 3 degrees turns by many for a small change of theirs: at the full rate 400 steps come
        to 20.
        """
        if self.settings.pose_steps == 0:
            return None
        steps, lr = self.settings.pose_steps, self.settings.pose_lr
        return TrainingPhase(
            "pose",
            self.method.he_estimator,
            steps,
            lr,
            self.settings.batch_size,
            self.pose_losses,
            frozen_after=False,
            warmup=min(POSE_WARMUP, steps // 4),
            rates=dict.fromkeys(("yaw", "pitch", "roll"), ANGLE_RATE),
        )

    def pose_losses(self, step: int, load_pairs: PairLoader, rng: torch.Generator) -> Losses:
        """Distance of poses from the teacher's, degrees, on both frames of each pair."""
        assert self.geometry is not None
        pairs = load_pairs(step)
        images = torch.cat((pairs.source, pairs.driving))
        masks = torch.cat((pairs.source_mask, pairs.driving_mask))
        head = self.method.he_estimator(images)
        predicted_angles = predicted_euler(head.yaw, head.pitch, head.roll)
        return {"loss": pose_error(predicted_angles, teacher_euler(self.geometry, images, masks))}

    def losses(self, pairs: Pairs, rng: torch.Generator) -> Losses:
        assert self.geometry is not None and self.discriminator is not None
        answer = self.method.forward_pair(pairs.source, pairs.driving)
        predicted, points = answer["prediction"], answer["kp_driving"]
        images, spline = self.random_tps(pairs.driving, rng)
        # Canonical keypoints are the source's: only pose and expression are those of the deformed frame.
        moved = transform_keypoints(answer["kp_canonical"], self.method.he_estimator(images))
        predicted_angles = predicted_euler(*(answer[f"driving_{angle}_logits"] for angle in ("yaw", "pitch", "roll")))
        expression = answer["driving_exp"].unflatten(1, (-1, 3))
        terms = {
            **self.reconstruction_losses(predicted, pairs.driving),
            "equivariance_value": equivariance_value(points[..., :2], moved[..., :2], spline),
            "keypoint": keypoint_prior(points),
            "headpose": pose_error(predicted_angles, teacher_euler(self.geometry, pairs.driving, pairs.driving_mask)),
            "expression": expression_size(expression),
        }
        terms |= adversarial(self.discriminator, predicted, pairs.driving, "hinge")
        return weighted_sum(terms, self.weights)
