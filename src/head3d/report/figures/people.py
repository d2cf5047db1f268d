"""Which clips are shown, by rule and not by hand, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from head3d.errors import UserError
from head3d.images import mask_tensor, to_tensor
from head3d.references import subject_half

if TYPE_CHECKING:
    from collections.abc import Sequence

    from head3d.api import Head3D, Subject, Transfer
    from head3d.data.store import ClipRecord, ClipStore
    from head3d.params import Params
    from head3d.sections.choices import Motion

T = TypeVar("T")
MOST = 6  # people in a figure
RULE = "Shown is the first clip of every person in the test sets, by clip name, not a choice."
LIMITED = f"Shown is the first clip of {MOST} people, the first ones of each test set, by clip name, not a choice."


@dataclass
class Example:
    """A person's first test clip: its first half is the subject video, its second half drives.

    Attributes:
        person: name from the manifest.
        test_set: where the clip belongs.
        clip_id: which clip.
        fps: frames a second of the video.
        frames: uint8 (T, H, W, 3).
        masks: uint8 (T, H, W), head masks.
        subject: the model's view of the first half.
    """

    person: str
    test_set: str
    clip_id: str
    fps: float
    frames: np.ndarray
    masks: np.ndarray
    subject: Subject

    @property
    def half(self) -> int:
        return subject_half(len(self.frames))

    @property
    def label(self) -> str:
        """Person and what kind of test set, on two lines."""
        return f"{self.person}\n({self.test_set.rpartition('-')[2]})"


def choose(store: ClipStore, test_sets: tuple[str, ...]) -> tuple[list, str]:
    """The first clip of every person of the test sets, and the sentence that says so."""
    groups = []
    for test_set in test_sets:
        first: dict[tuple[str, str], ClipRecord] = {}
        for record in store.records(test_set):
            first.setdefault(record.person_key, record)
        groups.append([(test_set, record) for record in first.values()])
    if not any(groups):
        raise UserError(f"no test clips in {', '.join(test_sets)}", fix="add videos or take more clips of each")
    return shared(groups, MOST), LIMITED if sum(map(len, groups)) > MOST else RULE


def shared(groups: Sequence[Sequence[T]], most: int) -> list[T]:
    """The first of each group in their order, at most ``most`` in all, and no more of one group than needs be."""
    takes = [0] * len(groups)
    for place in range(max(map(len, groups), default=0)):
        for number, group in enumerate(groups):
            if place < len(group) and sum(takes) < most:
                takes[number] += 1
    return [one for group, count in zip(groups, takes, strict=True) for one in group[:count]]


def subject_of(model: Head3D, frames: np.ndarray, masks: np.ndarray, params: Params) -> Subject:
    """The model's view of the first half of a clip, which may be shorter than the references are many."""
    half = subject_half(len(frames))
    count = min(params.model.references, half)
    return model.subject(to_tensor(frames[:half]), mask_tensor(masks[:half]), references=count, seed=params.seed)


def examples(model: Head3D, store: ClipStore, params: Params) -> tuple[list[Example], str]:
    """Every chosen clip with its canonical head, and the sentence that tells how they were chosen."""
    chosen, rule = choose(store, params.test_sets)
    found = []
    for test_set, record in chosen:
        frames, masks = np.asarray(store.frames(record)), np.asarray(store.masks(record))
        subject = subject_of(model, frames, masks, params)
        found.append(Example(record.person, test_set, record.clip_id, float(record.fps), frames, masks, subject))
    return found, rule


def transfer(model: Head3D, subject: Example, driver: Example, indices: np.ndarray, motion: Motion) -> Transfer:
    """``subject`` moved by the named frames of ``driver``'s clip."""
    frames, masks = to_tensor(driver.frames[indices]), mask_tensor(driver.masks[indices])
    return model.animate(subject.subject, frames, masks, motion=motion)


def driver_of(people: list[Example], number: int) -> Example:
    """Who drives person ``number`` across identities: the next one in the list, the first one drives the last."""
    return people[(number + 1) % len(people)]
