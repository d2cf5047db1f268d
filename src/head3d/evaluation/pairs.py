"""Whose head moves whose: pairs of test clips of different people, the same for every method.

``data/transfer/SET/pairs.csv`` lists them; ``subject/PAIR.mp4`` and ``driving/PAIR.mp4`` beside it are for people.
"""

from collections.abc import Container
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from head3d import tracking
from head3d.data.store import ClipRecord, ClipStore, read_rows, write_rows
from head3d.data.video import write_video
from head3d.errors import UserError
from head3d.files import replacing_directory
from head3d.references import subject_half

if TYPE_CHECKING:
    from head3d.params import Params

CRF = 12  # of the videos that people judge: nothing of the coding is seen


@dataclass(frozen=True)
class Pair:
    """One line of pairs.csv; ``pair`` is a short name, the same for every method."""

    pair: str
    dataset: str
    subject_clip: str
    driving_clip: str


COLUMNS = [field.name for field in fields(Pair)]


def folder_of(test_set: str, root: str | Path = "data") -> Path:
    """Where the videos of a test set lie."""
    return Path(root) / "transfer" / test_set


def choose(records: list[ClipRecord], test_set: str, most: int, seed: int) -> list[Pair]:
    """At most ``most`` pairs of clips of different people.

    Every ordered pair of people comes once before any comes again, in an order and with clips that the seed decides;
    no pair of clips comes twice. One person alone makes no pair.
    """
    rng = np.random.default_rng([seed, 2])
    clips: dict[tuple[str, str], list[ClipRecord]] = {}
    for record in sorted(records, key=lambda record: record.clip_id):
        clips.setdefault(record.person_key, []).append(record)
    people = list(clips)
    ordered = [(a, b) for a, b in product(range(len(people)), repeat=2) if a != b]
    ordered = [ordered[index] for index in rng.permutation(len(ordered))][:most]
    waiting = []
    for a, b in ordered:
        both = list(product(clips[people[a]], clips[people[b]]))
        waiting.append([both[index] for index in rng.permutation(len(both))[:most]])
    chosen: list[tuple[ClipRecord, ClipRecord]] = []
    while len(chosen) < most and any(waiting):
        chosen += [both.pop(0) for both in waiting if both]
    width = max(2, len(str(most - 1)))
    return [
        Pair(f"p{number:0{width}}", test_set, subject.clip_id, driving.clip_id)
        for number, (subject, driving) in enumerate(chosen[:most])
    ]


def write(path: Path, pairs: list[Pair]) -> None:
    """Write pairs.csv; it appears when complete."""
    write_rows(path, COLUMNS, (asdict(pair) for pair in pairs))


def read(path: Path, clips: Container[str] | None = None) -> list[Pair]:
    """Read what :func:`write` wrote.

    Args:
        path: the file.
        clips: ids of those that there are; None does not ask for them.

    Raises:
        UserError: it is not there or damaged, or names a clip that is none of these.
    """
    fix = "run `head3d transfer pairs` first (dvc repro)"
    found = [Pair(**row) for row in read_rows(path, COLUMNS, fix)]
    if clips is not None:
        for pair in found:
            for clip in (pair.subject_clip, pair.driving_clip):
                if clip not in clips:
                    raise UserError(f"{path}: {pair.pair} is of {clip}, which is no clip of {pair.dataset}", fix=fix)
    return found


def run(params: "Params", test_set: str) -> None:
    """Choose the pairs of a test set and write their subject videos (first halves) and driving videos (whole clips)."""
    store = ClipStore()
    with tracking.run(stage="transfer_pairs", params=params, instance=test_set) as tracked:
        records = store.records(test_set)
        known = {record.clip_id: record for record in records}
        pairs = choose(records, test_set, params.evaluate.pairs, params.seed)
        folder = folder_of(test_set)
        with replacing_directory(folder / "subject") as subject, replacing_directory(folder / "driving") as driving:
            for pair in pairs:
                shown, moves = known[pair.subject_clip], known[pair.driving_clip]
                frames = store.frames(shown)
                write_video(subject / f"{pair.pair}.mp4", frames[: subject_half(len(frames))], shown.fps, crf=CRF)
                write_video(driving / f"{pair.pair}.mp4", store.frames(moves), moves.fps, crf=CRF)
        write(folder / "pairs.csv", pairs)
        tracked.metrics({"pairs": float(len(pairs))})
