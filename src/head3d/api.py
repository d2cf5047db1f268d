"""Head3D for use: load trained networks, make a subject's canonical head once, drive it with any frames.

The command line, the evaluation and the figures all go through this class::

    model = Head3D.load("models")
    head = model.canonical(frames)                # head.image, head.mask, head.depth
    subject = model.subject(frames)               # (T, 3, H, W) float32 RGB in [0, 1]
    transfer = model.animate(subject, driving)    # transfer.frames: (M, 3, H, W)
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from head3d.compute import Compute
from head3d.errors import UserError
from head3d.geometry import Pose, align_flow, outside_flow, relative_pose, warp
from head3d.images import mask_tensor, to_frames
from head3d.inputs import check_frames, check_motion, place_frames, place_masks
from head3d.models.canonical import CanonicalNet
from head3d.models.fast import prepare_for_inference
from head3d.models.fusion import FusionNet
from head3d.models.head3d import Canonical, HeadGeometry, freeze, recurrent_canonical, rigid_flow
from head3d.models.head_masks import FaceParser, found_landmarks, head_masks
from head3d.models.head_masks import Parser as HeadParser
from head3d.models.small_parser import SmallParser
from head3d.params import Params, load_params
from head3d.references import draw_references
from head3d.relative import Start, fit_driver_face, shown_of_driver
from head3d.sections.choices import PARSERS, Motion, Parser
from head3d.training.build.canonical import build_canonical
from head3d.training.build.fusion import build_fusion, place_fusion
from head3d.training.build.geometry import build_geometry, place_geometry
from head3d.training.weights import load_weights

POSED_AT_ONCE = 64  # frames: of a whole video at once, the pose network alone would fill the memory
FAR_DEG, FAR_XY_M, FAR_Z_M = 10.0, 0.01, 0.05  # differences of poses that count as equally far: angle, sideways, depth


@dataclass(frozen=True)
class Subject:
    """A person, ready to be driven.

    Attributes:
        canonical: canonical head x_hat^c (1, 3, H, W) in [0, 1], zero outside ``mask``.
        mask: (1, 1, H, W) in [0, 1].
        depth: (1, 1, H, W), metres.
        mean_canonical: mean canonical head x_bar^c (1, 3, H, W).
        references: the N reference frames (N, 3, H, W).
        masks: their head masks (N, 1, H, W).
        poses: of the references.
        reference_index: which of the references is s_ref.
    """

    canonical: Tensor
    mask: Tensor
    depth: Tensor
    mean_canonical: Tensor
    references: Tensor
    masks: Tensor
    poses: Pose
    reference_index: int

    @property
    def reference(self) -> Tensor:
        """s_ref (1, 3, H, W)."""
        return self.references[self.reference_index : self.reference_index + 1]

    @property
    def reference_pose(self) -> Pose:
        return self.poses[slice(self.reference_index, self.reference_index + 1)]

    def head(self) -> Canonical:
        """The canonical head as the geometry takes it."""
        return Canonical(self.canonical, self.mask, self.depth)


@dataclass(frozen=True)
class Transfer:
    """A subject driven by frames or poses.

    Attributes:
        frames: (M, 3, H, W) in [0, 1], the result.
        head: (M, 3, H, W), the canonical head rendered at each pose ("transformed").
        head_mask: (M, 1, H, W) in [0, 1].
        deformed: (M, 3, H, W), the reference frame warped by f_{s_ref <- s_dri}.
        attention: (M, 3, H', W'): rendered head, reference, decoder; sums to 1.
        pose: of each frame.
    """

    frames: Tensor
    head: Tensor
    head_mask: Tensor
    deformed: Tensor
    attention: Tensor
    pose: Pose


class Head3D:
    """Trained Head3D networks of one variant; use :meth:`load`.

    Its methods answer with inference tensors; ``clone()`` those that a training of yours is to go through.

    Args:
        geometry: F_D and F_P.
        canonical: E_H, Lambda, Omega_H, or None for the mean canonical head.
        fusion: E_F, Phi, Omega_F, or None where only heads are rendered.
        params: what they were trained with.
        compute: device and precision.
        parser: finds heads in driving frames; None leaves them to the face parser, as the masks of
            references always are.
    """

    def __init__(
        self,
        geometry: HeadGeometry,
        canonical: CanonicalNet | None,
        fusion: FusionNet | None,
        params: Params,
        compute: Compute,
        parser: SmallParser | None = None,
    ) -> None:
        self.geometry, self.canonical_net, self.fusion, self.parser = geometry, canonical, fusion, parser
        self.params, self.compute = params, compute

    @classmethod
    def load(
        cls,
        models: str | Path = "models",
        params: Params | None = None,
        variant: str | None = "full",
        device: str | None = None,
        parser: Parser = "full",
    ) -> "Head3D":
        """Load trained networks.

        Args:
            models: directory of ``geometry.safetensors``, ``canonical.safetensors``, ``fusion-VARIANT.safetensors``.
            params: parameters that they were trained with; default ``params.yaml`` here.
            variant: which fusion; None loads none.
            device: default what ``params`` says.
            parser: of driving frames: the face parser, or the small one that ``parser.safetensors`` holds.

        Raises:
            UserError: weights are missing or do not fit the parameters, or there is no such device or parser.
        """
        if parser not in PARSERS:
            raise UserError(f"parser is {parser!r}", allowed=" or ".join(PARSERS))
        params = params or load_params()
        compute = Compute.resolve(device or params.device, params.precision, params.train.channels_last)
        directory = Path(models)
        geometry = load_weights(build_geometry(params), directory / "geometry.safetensors")
        place_geometry(freeze(geometry), compute)
        canonical = fusion = None
        if variant != "mean_canonical":
            weights = load_weights(build_canonical(params), directory / "canonical.safetensors")
            canonical = compute.place(freeze(weights))
        if variant is not None:
            weights = load_weights(build_fusion(params, variant), directory / f"fusion-{variant}.safetensors")
            fusion = place_fusion(prepare_for_inference(freeze(weights)), compute)
        small = None
        if parser == "small":
            network = SmallParser(params.parser.input_size, params.parser.width)
            small = load_weights(network, directory / "parser.safetensors").prepare_for_inference(compute)
        return cls(geometry, canonical, fusion, params, compute, small)

    @property
    def image_size(self) -> int:
        """Side of the frames that the networks were trained on, pixels."""
        return self.params.data.image_size

    def masks(self, frames: Tensor, landmarks: np.ndarray | None = None) -> Tensor:
        """Head masks (B, 1, H, W) in [0, 1] of frames (B, 3, H, W) in [0, 1], by the face parser.

        Args:
            frames: RGB.
            landmarks: (B, 68, 2), pixels; the face is looked for where they are NaN, and everywhere if not given,
                which takes longer than the parser.

        Raises:
            UserError: landmarks of another shape.
        """
        return self._masks(frames, FaceParser(self.params.parse.input_size, self.compute), landmarks)

    def driving_masks(self, frames: Tensor, landmarks: np.ndarray | None = None) -> Tensor:
        """As :meth:`masks`, of driving frames: by the small parser where one is loaded."""
        return self.masks(frames, landmarks) if self.parser is None else self._masks(frames, self.parser, landmarks)

    def _masks(self, frames: Tensor, parser: HeadParser, landmarks: np.ndarray | None) -> Tensor:
        if landmarks is not None and landmarks.shape != (len(frames), 68, 2):
            wanted = f"({len(frames)}, 68, 2), those of each frame"
            raise UserError(f"landmarks of shape {landmarks.shape}", allowed=wanted)
        pixels, settings = to_frames(frames), self.params.parse
        known = found_landmarks(pixels, landmarks)
        return mask_tensor(head_masks(pixels, parser, known, rim=settings.rim, batch_size=settings.batch_size))

    def _place(self, frames: Tensor, what: str) -> Tensor:
        return place_frames(frames, self.image_size, self.compute.device, what)

    @torch.inference_mode()
    def subject(
        self, frames: Tensor, masks: Tensor | None = None, references: int | None = None, seed: int = 0
    ) -> Subject:
        """Choose reference frames of a subject video and make the canonical head from them.

        Args:
            frames: (T, 3, H, W) RGB in [0, 1].
            masks: head masks (T, 1, H, W) in [0, 1]; parsed if not given.
            references: N; default as in training, at most T.
            seed: of the choice.

        Raises:
            UserError: frames or masks of a wrong shape or range, or no head in the chosen frames.
        """
        check_frames(frames, self.image_size, "subject frames")
        count = min(self.params.model.references if references is None else references, len(frames))
        if count < 1:
            raise UserError(f"{references} reference frames are wanted", allowed="1 or more")
        if masks is not None and len(masks) != len(frames):
            raise UserError(f"subject frames: {len(masks)} masks of {len(frames)} frames", allowed="one a frame")
        picks = draw_references(len(frames), count, seed)
        return self.subject_of(frames[picks], None if masks is None else masks[picks])

    @torch.inference_mode()
    def subject_of(self, references: Tensor, masks: Tensor | None = None) -> Subject:
        """The subject with just these reference frames (N, 3, H, W) in [0, 1], in their order; the first one is s_ref.

        Args:
            references: RGB in [0, 1].
            masks: head masks (N, 1, H, W) in [0, 1]; parsed if not given.

        Raises:
            UserError: frames or masks of a wrong shape or range, or no head in them.
        """
        own, count = self._place(references, "subject frames"), len(references)
        own_masks = place_masks(self.masks(own) if masks is None else masks, own, "subject frames")
        if float(own_masks.mean()) < 1e-3:
            raise UserError(
                "subject frames: no head found in the reference frames", fix="give a video that shows a face"
            )
        heads = own * own_masks
        prediction = self.geometry.predict(heads)
        if self.canonical_net is None:
            head = mean = self.geometry.mean_canonical(heads, own_masks, prediction, count)
        else:
            head, mean = recurrent_canonical(self.geometry, self.canonical_net, heads, own_masks, prediction, count)
        depth = self.geometry.canonical_depth(head.image)
        return Subject(head.image, head.mask, depth, mean.image, own, own_masks, prediction.pose, 0)

    def canonical(
        self, frames: Tensor, masks: Tensor | None = None, references: int | None = None, seed: int = 0
    ) -> Canonical:
        """The canonical head of a subject video: image (1, 3, H, W), mask and depth; arguments of :meth:`subject`."""
        return self.subject(frames, masks, references, seed).head()

    @torch.inference_mode()
    def pose(self, frames: Tensor, masks: Tensor | None = None) -> Pose:
        """Head pose of each frame (B, 3, H, W)."""
        frames = self._place(frames, "frames")
        masks = place_masks(self.driving_masks(frames) if masks is None else masks, frames, "frames")
        heads = zip(frames.split(POSED_AT_ONCE), masks.split(POSED_AT_ONCE), strict=True)
        return Pose.cat([self.geometry.pose(some * their) for some, their in heads])

    @torch.inference_mode()
    def animate(
        self,
        subject: Subject,
        driving: Tensor,
        masks: Tensor | None = None,
        motion: Motion = "absolute",
        first: Start | None = None,
        pose: Pose | None = None,
    ) -> Transfer:
        """Put the motion of driving frames on a subject.

        Args:
            subject: from :meth:`subject`.
            driving: (M, 3, H, W) RGB in [0, 1].
            masks: their head masks (M, 1, H, W); parsed if not given.
            motion: ``absolute`` takes the driving poses as they are; ``relative`` keeps the subject's place and size
                and adds how the driving head and its face have moved since its first frame.
            first: from :meth:`start`, when ``driving`` is a later part of the video.
            pose: poses of the driving frames where they are known already, from :meth:`pose`.
        """
        check_motion(motion)
        driving = self._place(driving, "driving frames")
        seen = self.pose(driving, masks) if pose is None else pose
        if motion == "absolute":
            return self._fuse(subject, seen, driving)
        start = first or self.start(subject, driving[:1], seen[:1])
        camera = (self.geometry.k(driving), self.geometry.distance_m, driving.shape[-1])
        place = relative_pose(start.pose, start.pose, subject.reference_pose)
        pose = relative_pose(seen, start.pose, subject.reference_pose)
        begins = warp(start.frame.to(driving), align_flow(start.pose, place, *camera, start.fit))
        shown = warp(driving, align_flow(seen, pose, *camera, start.fit))
        return self._fuse(subject, pose, shown, Start(begins, place))

    @torch.inference_mode()
    def start(self, subject: Subject, frame: Tensor, pose: Pose) -> Start:
        """Where a driving video begins; relative motion counts from there.

        Args:
            subject: with the s_ref that is to be driven.
            frame: first driving frame (1, 3, H, W) in [0, 1].
            pose: of its head, from :meth:`pose`.
        """
        frame = self._place(frame, "first driving frame")
        place = relative_pose(pose, pose, subject.reference_pose)
        rendered = self.geometry.render(subject.head(), place)
        background = outside_flow(subject.masks[[subject.reference_index]])
        flow = rigid_flow(self.geometry, subject.head(), rendered, subject.reference_pose, background)
        k, distance_m = self.geometry.k(frame), self.geometry.distance_m
        placed = warp(frame, align_flow(pose, place, k, distance_m, frame.shape[-1]))
        return Start(frame, pose, fit_driver_face(placed, warp(subject.reference, flow), place, k, distance_m))

    @torch.inference_mode()
    def view(self, subject: Subject, pose: Pose) -> Transfer:
        """The subject at given poses (Sec. 3.4): the rendered head takes the driving frame's place.

        Raises:
            UserError: there are no poses.
        """
        if len(pose) == 0:
            raise UserError("no poses to show the subject at", allowed="1 or more")
        return self._fuse(subject, pose.to(self.compute.device), None)

    @torch.inference_mode()
    def render(self, subject: Subject, pose: Pose) -> tuple[Tensor, Tensor]:
        """The canonical head alone at given poses: image (M, 3, H, W) and mask (M, 1, H, W)."""
        pose = pose.to(self.compute.device)
        parts = [self.geometry.render(subject.head(), pose[i : i + 1]) for i in range(len(pose))]
        return torch.cat([p.image for p in parts]), torch.cat([p.mask for p in parts])

    def _fuse(self, subject: Subject, pose: Pose, driving: Tensor | None, begins: Start | None = None) -> Transfer:
        """Render and fuse in batches; the result does not depend on the batch size.

        Args:
            subject: whose head.
            pose: of the frames to make.
            driving: frames at these poses. None: there are none, and nothing but the pose moves.
            begins: the driver's first frame, where it shows another person.
        """
        if self.fusion is None:
            raise UserError("Head3D: loaded without a fusion network", fix='load it with variant="full"')
        parts = []
        step = self.params.evaluate.batch_size
        canonical = subject.head()
        background = outside_flow(subject.masks[[subject.reference_index]]) if self.fusion.uses_rigid_flow else None
        for start in range(0, len(pose), step):
            here = pose[start : start + step]
            each = canonical.repeat(len(here))
            rendered = self.geometry.render(each, here)
            shown = rendered.image if driving is None else driving[start : start + step]
            rigid = None
            if background is not None:
                rigid = rigid_flow(self.geometry, each, rendered, subject.reference_pose, background)
            moved = torch.zeros_like(shown[:, :2]) if driving is None else None
            if begins is not None and self.fusion.matcher is not None:
                shown, moved = shown_of_driver(self.fusion.matcher, self.geometry, begins, each, rendered, shown, here)
            fused = self.fusion(rendered.image, subject.reference, shown, rigid, rendered.mask, moved)
            parts.append(Transfer(fused.frame, rendered.image, rendered.mask, fused.deformed, fused.attention, here))
        return Transfer(
            frames=torch.cat([p.frames for p in parts]),
            head=torch.cat([p.head for p in parts]),
            head_mask=torch.cat([p.head_mask for p in parts]),
            deformed=torch.cat([p.deformed for p in parts]),
            attention=torch.cat([p.attention for p in parts]),
            pose=pose,
        )

    def choose_reference(self, subject: Subject, driving: Pose, motion: Motion = "absolute") -> Subject:
        """The same subject with s_ref chosen as ``animate.reference`` says: at random, or nearest in pose.

        Args:
            subject: its s_ref is a random one already.
            driving: poses that the reference should be near to on average. One choice for a whole video keeps the
                background still.
            motion: for ``relative`` only rotations count.
        """
        check_motion(motion)
        if self.params.animate.reference == "random":
            return subject
        trace = torch.einsum("bij,nij->bn", driving.rotation, subject.poses.rotation)
        apart = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1))) / FAR_DEG
        if motion == "absolute":
            shift = driving.translation[:, None] - subject.poses.translation
            apart = apart + shift[..., :2].norm(dim=-1) / FAR_XY_M + shift[..., 2].abs() / FAR_Z_M
        return replace(subject, reference_index=int(apart.mean(dim=0).argmin()))
