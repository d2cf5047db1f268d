"""Transfer between people by Head3D in a variant, and by the floors copy and paste."""

from typing import TYPE_CHECKING

from head3d.api import Head3D
from head3d.evaluation import compared
from head3d.evaluation.cross import CrossCase, RenderedVideo, hold_reference, make_videos
from head3d.evaluation.reconstruction import Head3DMethod
from head3d.geometry import relative_pose
from head3d.params import FLOORS
from head3d.sections.choices import Motion

if TYPE_CHECKING:
    from head3d.params import Params


def floors(model: Head3D, case: CrossCase, motion: Motion) -> dict[str, RenderedVideo]:
    """The reference frame held still, and the rendered head on it."""
    subject = model.subject(case.subject, case.subject_masks, seed=case.seed)
    pose = model.pose(case.driving, case.driving_masks)
    if motion == "relative":
        pose = relative_pose(pose, pose[:1], subject.reference_pose)
    head, mask = model.render(subject, pose)
    return {"copy": (hold_reference(case), None), "paste": (head + (1 - mask) * subject.reference, mask)}


def reenact_pair(model: Head3D, case: CrossCase, motion: Motion) -> RenderedVideo:
    """Head3D's frames and where it rendered the head."""
    method = Head3DMethod(model, model.params.model.references)
    state = method.prepare(case.subject, case.subject_masks, case.seed)
    made = method.transfer(state, case.driving, case.driving_masks, motion)
    return made.frames, made.head_mask


def run(params: "Params", test_set: str, method: str) -> None:
    """Videos of all pairs of a test set by a variant of Head3D, or by the floors; data/transfer/SET/METHOD."""
    model = Head3D.load(params=params, variant=None if method == FLOORS else method)

    def make(case: CrossCase, motion: Motion) -> dict[str, RenderedVideo]:
        return floors(model, case, motion) if method == FLOORS else {method: reenact_pair(model, case, motion)}

    outs = compared.FLOOR_VIDEOS if method == FLOORS else (method,)
    make_videos(params, test_set, method, outs, model.compute.device, make)
