"""Self-reconstruction by Head3D in its variants, and by the floors copy, copy_last and paste."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from head3d.api import Head3D, Subject, Transfer
from head3d.data.store import ClipRecord, ClipStore
from head3d.evaluation.protocol import (
    Case,
    MethodFrames,
    Row,
    reenact,
    run_evaluation,
    score,
)
from head3d.geometry import Pose
from head3d.params import FLOORS
from head3d.references import draw_seed, reference_of
from head3d.sections.choices import Motion

if TYPE_CHECKING:
    from head3d.params import Params


class Head3DMethod:
    """Head3D with N references as the evaluation sees every method (:class:`head3d.evaluation.protocol.Reenactor`).

    Args:
        model: Head3D.
        references: N.
        nearest: whether s_ref is the reference nearest in pose to all driving frames (``head3d animate`` knows only
            the first of them); else it is the first one, which every method is given.
        poses: of the last driving frames, kept for all adapters of a model that share it.
    """

    def __init__(
        self,
        model: Head3D,
        references: int,
        nearest: bool = False,
        poses: "list[tuple[Tensor, Pose]] | None" = None,
    ) -> None:
        self.model, self.references, self.nearest = model, references, nearest
        self.poses = [] if poses is None else poses

    def prepare(self, frames: Tensor, masks: Tensor, seed: int) -> Subject:
        return self.model.subject(frames, masks, references=self.references, seed=seed)

    def drive(self, state: Subject, driving: Tensor, masks: Tensor, motion: Motion = "absolute") -> Tensor:
        return self.transfer(state, driving, masks, motion).frames

    def transfer(self, state: Subject, driving: Tensor, masks: Tensor, motion: Motion = "absolute") -> Transfer:
        """What :meth:`drive` gives, with the rendered head and all else that leads to it."""
        if not self.poses or self.poses[0][0] is not driving:
            self.poses[:] = [(driving, self.model.pose(driving, masks))]
        pose = self.poses[0][1]
        if self.nearest:
            state = self.model.choose_reference(state, pose, motion)
        return self.model.animate(state, driving, motion=motion, pose=pose)


def paste(model: Head3D, subject: Subject, case: Case) -> Tensor:
    """The rendered canonical head on the reference frame, no stage 3: a floor for the fusion."""
    head, mask = model.render(subject, model.pose(case.driving, case.driving_masks))
    return head + (1 - mask) * subject.reference


def floors(model: Head3D, params: "Params", record: ClipRecord, case: Case) -> Iterator[tuple[str, int, Tensor]]:
    """``copy`` for every subject frame, ``copy_last``, and ``paste`` for every draw.

    Draw 0, of which more is measured, is a random frame for ``copy`` too, the one that a baseline gets.
    """
    length, count = len(case.driving), len(case.subject)
    first = reference_of(count, draw_seed(params, record, 0))
    for draw in range(count):
        yield "copy", draw, case.subject[(first + draw) % count].expand(length, -1, -1, -1)
    yield "copy_last", 0, case.subject[-1].expand(length, -1, -1, -1)
    for draw in range(params.evaluate.draws):
        subject = model.subject(case.subject, case.subject_masks, seed=draw_seed(params, record, draw))
        yield "paste", draw, paste(model, subject, case)


def name_of(variant: str, references: int, params: "Params") -> str:
    """Name of a method in tables: ``head3d`` for N as trained, ``head3d_nK``, or ``head3d_VARIANT``."""
    if variant != "full":
        return f"head3d_{variant}"
    return "head3d" if references == params.model.references else f"head3d_n{references}"


def predictions(
    model: Head3D, variant: str, params: "Params", record: ClipRecord, case: Case
) -> Iterator[tuple[str, int, Tensor]]:
    """Output frames of Head3D in a variant; for the full one with every N of params.yaml, and with s_ref chosen."""
    usual = params.model.references
    counts = sorted({usual, *params.evaluate.references}) if variant == "full" else [usual]
    poses: list[tuple[Tensor, Pose]] = []  # computed once for all N and draws
    for references in counts:
        method = Head3DMethod(model, references, poses=poses)
        yield from reenact(method, name_of(variant, references, params), params, record, case)
    if variant == "full" and params.animate.reference == "nearest":
        method = Head3DMethod(model, usual, nearest=True, poses=poses)
        yield from reenact(method, "head3d_nearest", params, record, case)


def evaluate(params: "Params", test_set: str, method: str, store: ClipStore) -> list[Row]:
    """Rows of every clip and draw of the floors, or of a variant, on a test set.

    Raises:
        UserError: the test set is empty.
    """
    store.split(test_set)  # an empty one is told before the model is loaded
    model = Head3D.load(params=params, variant=None if method == FLOORS else method)

    # VGG costs ten times AlexNet's time: for Head3D and the floors, not for its ablations.
    vgg_of = {FLOORS: None, "full": ("head3d",)}.get(method, ())

    def make(record: ClipRecord, case: Case) -> MethodFrames:
        if method == FLOORS:
            return floors(model, params, record, case)
        return predictions(model, method, params, record, case)

    return score(store, test_set, method, model.compute.device, make, vgg_of)


def run(params: "Params", test_set: str, method: str) -> None:
    """Evaluate the floors or a variant on a test set; writes metrics/reconstruction/SET-METHOD.csv."""
    run_evaluation(params, test_set, method, evaluate)
