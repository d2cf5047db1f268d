"""Figure 7: the canonical heads that failed most, found by a rule, with the parses that they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from head3d.images import mask_frames, to_frames
from head3d.report.figures.people import subject_of
from head3d.report.figures.pictures import outlined
from head3d.report.figures.sheet import Row, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from head3d.api import Head3D, Subject
    from head3d.data.store import ClipRecord, ClipStore
    from head3d.params import Params

MOST = 4  # cases shown


@dataclass
class Case:
    """The canonical head of a test clip against the references that it was made of.

    Attributes:
        record: the clip.
        subject: its reference frames, parses and canonical head.
        rendered: (N, 3, H, W) in [0, 1], the canonical head at the pose of each reference.
        errors: (N,), mean absolute difference of rendered head and head image over where either is, in [0, 1].
        overlaps: (N,), intersection over union of the rendered head and the parse.
    """

    record: ClipRecord
    subject: Subject
    rendered: Tensor
    errors: np.ndarray
    overlaps: np.ndarray

    @property
    def score(self) -> float:
        """Mean of the errors; high is bad."""
        return float(self.errors.mean())


def examine(model: Head3D, store: ClipStore, record: ClipRecord, params: Params) -> Case:
    """A clip's canonical head, rendered where its reference frames have their heads."""
    frames, masks = np.asarray(store.frames(record)), np.asarray(store.masks(record))
    subject = subject_of(model, frames, masks, params)
    rendered, found = model.render(subject, subject.poses)
    parsed = subject.masks
    difference = (rendered - subject.references * parsed).abs().mean(dim=1, keepdim=True)
    union = (found + parsed - found * parsed).sum(dim=(1, 2, 3)).clamp(min=1)
    errors = difference.sum(dim=(1, 2, 3)) / union
    overlaps = (found * parsed).sum(dim=(1, 2, 3)) / union
    return Case(record, subject, rendered, errors.cpu().numpy(), overlaps.cpu().numpy())


def worst(scores: Sequence[tuple[float, ClipRecord]], most: int = MOST) -> list[ClipRecord]:
    """The clips of the highest scores, one a person, worst first; those of one score by name."""
    chosen: dict[tuple[str, str], ClipRecord] = {}
    for _, record in sorted(scores, key=lambda scored: (-scored[0], scored[1].clip_id)):
        chosen.setdefault(record.person_key, record)
    return list(chosen.values())[:most]


def failure_sheet(model: Head3D, store: ClipStore, params: Params) -> Sheet:
    """For each case: the references with their parses, the head made of them, and the reference that it fits worst."""
    records = [record for test_set in params.test_sets for record in store.records(test_set)]
    # Pictures of all of them would not fit into memory: those shown are made once more.
    scores = [(examine(model, store, record, params).score, record) for record in records]
    shown = [examine(model, store, record, params) for record in worst(scores)]
    count = max(len(case.errors) for case in shown)
    references = ["references\nand parses", *[""] * (count - 1)]
    sheet = Sheet(heads=[*references, "mean x̄ᶜ", "canonical\nx̂ᶜ", "fits worst", "x̂ᶜ there"])
    for case in shown:
        subject = case.subject
        pictures = to_frames(subject.references)
        parses = mask_frames(subject.masks)
        tiles: list[np.ndarray | None] = [outlined(*pair) for pair in zip(pictures, parses, strict=True)]
        tiles += [None] * (count - len(tiles))
        bad = int(case.errors.argmax())
        tiles += [*to_frames(subject.mean_canonical), *to_frames(subject.canonical)]
        tiles += [outlined(pictures[bad], parses[bad]), to_frames(case.rendered)[bad]]
        label = f"{case.record.person}\n{case.score:.3f}, IoU {case.overlaps.mean():.2f}"
        sheet.rows.append(Row(tiles, label))
    return sheet
