"""Figure 3: every method on the same frames, where each is off, and what each makes of another person's motion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from head3d.evaluation import compared, cross, pairs
from head3d.images import mask_tensor, to_frames, to_tensor
from head3d.references import reference_of
from head3d.report import names
from head3d.report.figures.pictures import colored
from head3d.report.figures.sheet import Row, Sheet

if TYPE_CHECKING:
    from head3d.data.store import ClipStore
    from head3d.evaluation.protocol import Reenactor
    from head3d.params import Params
    from head3d.report.figures.people import Example

ERROR_COLORS = "inferno"  # black is right
HIGHEST = 0.25  # difference that has the last colour
MOST_PAIRS = 2  # of each test set


def comparison_sheet(methods: Mapping[str, Reenactor], shown: list[Example], store: ClipStore, params: Params) -> Sheet:
    """Subject, driving frame and every method's frame; below each frame its difference from the driving frame.

    Then the same across people, with no truth to differ from.
    """
    # A column is narrow: what is in brackets goes on a line of its own.
    titles = [names.plain(name, params.model.references).replace(" (", "\n(") for name in methods]
    label = "mean absolute difference, RGB in [0, 1]"
    sheet = Sheet(["subject", "driving\n(truth)", *titles], colorbar=(ERROR_COLORS, 0.0, HIGHEST, label))
    for example in shown:
        reference = example.frames[reference_of(example.half, params.seed)]
        index = most_different(example.frames, example.half, reference)
        truth = example.frames[index]
        made = [_by(method, example, index, params.seed) for method in methods.values()]
        sheet.rows.append(Row([reference, truth, *made], example.label, new_group=True))
        sheet.rows.append(Row([None, None, *(error_picture(frame, truth) for frame in made)]))
    sheet.rows += cross_rows(store, params)
    return sheet


def cross_rows(store: ClipStore, params: Params) -> list[Row]:
    """Subject, driving frame and every method's frame of the first pairs of each test set, as they were measured."""
    rows, folders = [], [name for name in compared.methods_of(params.baselines) if name != "paste"]
    for test_set in params.test_sets:
        folder = pairs.folder_of(test_set, store.root)
        known = {record.clip_id: record for record in store.records(test_set)}
        for pair in pairs.read(folder / "pairs.csv", known)[:MOST_PAIRS]:
            subject, driver = known[pair.subject_clip], known[pair.driving_clip]
            driving = store.frames(driver)
            index = most_different(driving, 0, driving[0])
            made = [cross.load(folder / name, pair.pair)[0][index] for name in folders]
            label = f"{subject.person}\nby {driver.person}"
            rows.append(Row([made[0], driving[index], *made[1:]], label, new_group=not rows))
    if rows:
        rows[0].heads = {0: "another person drives: there is no truth"}
    return rows


def most_different(frames: np.ndarray, half: int, reference: np.ndarray) -> int:
    """Which driving frame is farthest from the reference: there the most must move, and copying fails most.

    Args:
        frames: uint8 (T, H, W, 3).
        half: index of the first driving frame.
        reference: uint8 (H, W, 3).
    """
    errors = (frames[half:].astype(np.float32) - reference.astype(np.float32)) ** 2
    return half + int(errors.mean(axis=(1, 2, 3)).argmax())


def error_picture(frame: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute difference of two uint8 frames (H, W, 3) over the channels, coloured."""
    difference = np.abs(frame.astype(np.float32) - truth.astype(np.float32)).mean(axis=-1) / 255
    return colored(difference, ERROR_COLORS, 0.0, HIGHEST)


def _by(method: Reenactor, example: Example, index: int, seed: int) -> np.ndarray:
    """A method's frame, made as those that Table 1 measures: the first half prepares, the whole second half drives."""
    half = example.half
    images, masks = to_tensor(example.frames), mask_tensor(example.masks)
    state = method.prepare(images[:half], masks[:half], seed)
    return to_frames(method.drive(state, images[half:], masks[half:])[[index - half]])[0]
