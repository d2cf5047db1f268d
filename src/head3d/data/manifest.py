"""Stage ``manifest``: one table of all clips, and a small summary with the digest of the data."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head3d import tracking
from head3d.data.store import (
    LISTING,
    MASKED,
    ClipRecord,
    digest,
    open_array,
    pixels_digest,
    read_records,
    write_records,
)
from head3d.errors import UserError
from head3d.files import replacing

if TYPE_CHECKING:
    from head3d.params import Params

MOST_LISTED = 100  # videos that the summary, which `dvc metrics show` prints, goes through one by one
# Neither engine sees that videos have changed; DVC would bring clips that were deleted back from its cache.
_AGAIN = "`dvc repro --force crop` and `dvc repro`, or by hand `head3d crop` and `head3d parse` for every shard"
_FIRST = "run `head3d crop` and `head3d parse` for every shard first"
_LEAST_HEAD = 0.02  # share of a frame that must be head; less means that the parser did not see one


def run(params: "Params") -> None:
    """Stage ``manifest``: ``data/manifest.csv`` and ``data/summary.json``."""
    with tracking.run(stage="manifest", params=params) as tracked:
        summary = join_shards(params)
        tracked.dataset("+".join(params.data.sources), summary["digest"], summary["clips"])
        tracked.metrics({key: summary[key] for key in ("clips", "clips_left_out", "people")})


def join_shards(params: "Params") -> dict[str, Any]:
    """Write the manifest and the summary of all shards; returns the summary."""
    records: list[ClipRecord] = []
    _check_listings([Path("data/clips") / f"shard-{shard}" for shard in params.shards])
    for shard in params.shards:
        records += _shard(shard, params)
    records.sort(key=lambda record: record.clip_id)
    ids = Counter(record.clip_id for record in records)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise UserError(f"data/clips: {len(twice)} clip ids come twice, {twice[0]} is one", fix=_AGAIN)
    usable = [record for record in records if record.status == "ok"]
    _check_apart(usable)
    by_video: dict[tuple[str, str], Counter[str]] = {(record.source, record.video): Counter() for record in records}
    for record in usable:
        by_video[record.source, record.video][record.split] += 1
    if not any(record.split == "train" for record in usable):
        reasons = ", ".join(sorted({record.status for record in records if record.status != "ok"})) or "no videos"
        raise UserError(f"data/manifest.csv: no clip is left to train on ({reasons})", fix="add videos to a source")
    for test_set in params.test_sets:
        if not any(record.split == test_set for record in usable):
            raise UserError(
                f"params.yaml: test_sets names {test_set!r}, which has no clip",
                allowed=", ".join(sorted({record.split for record in usable} - {"train"})) or "none",
                fix="take it out, or add videos to it (docs/data.md)",
            )
    write_records(Path("data/manifest.csv"), records)
    videos: dict[str, Any] = {}
    if len(by_video) <= MOST_LISTED:
        listed = {
            f"{source}/{name}": dict(sorted(splits.items())) for (source, name), splits in sorted(by_video.items())
        }
        videos = {"videos": listed}
    summary = {
        "digest": digest(usable),
        "clips": len(usable),
        "clips_left_out": len(records) - len(usable),
        "people": len({record.person_key for record in usable}),
        "splits": dict(sorted(Counter(record.split for record in usable).items())),
        **videos,
        "reasons": dict(sorted(Counter(r.status.split(":")[0] for r in records if r.status != "ok").items())),
    }
    with replacing("data/summary.json") as file:
        file.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _check_listings(folders: list[Path]) -> None:
    """Raises UserError if shards shared out different videos: some would be in two of them, and some in none."""
    listed = {folder: (folder / LISTING).read_text() if (folder / LISTING).is_file() else "" for folder in folders}
    for folder, text in listed.items():
        if text.split()[1:] not in ([], [str(len(folders))]):
            raise UserError(
                f"{folder} is one of {text.split()[1]} shards, params.yaml has {len(folders)}",
                fix=_AGAIN,
            )
    if len(set(listed.values())) > 1:
        first, *others = listed
        other = next(folder for folder in others if listed[folder] != listed[first])
        raise UserError(
            f"{first} and {other} were cropped from different lists of videos",
            fix=f"once no video comes or goes any more: {_AGAIN}",
        )


def _check_apart(usable: list[ClipRecord]) -> None:
    """Raises UserError if the very pixels that are trained on are also those of people who are never trained on."""
    trained = {record.pixels_sha256: record for record in usable if record.split == "train"}
    for record in usable:
        if record.split.endswith("-unseen") and record.pixels_sha256 in trained:
            twin = trained[record.pixels_sha256]
            raise UserError(
                f"data/clips: {record.source}/{record.video} is for testing and the same as "
                f"{twin.source}/{twin.video}, which is trained on",
                fix=f"delete one of the videos, then: {_AGAIN}",
            )


def _shard(shard: int, params: "Params") -> list[ClipRecord]:
    """The clips of a shard, as they are in the manifest.

    Raises:
        UserError: its files do not belong together, or are not of the size that the parameters say.
    """
    folder, path = Path("data/clips") / f"shard-{shard}", Path("data/masks") / f"shard-{shard}.npy"
    records = read_records(folder / "clips.csv", _FIRST)
    frames, points = (open_array(folder / name, _FIRST) for name in ("frames.npy", "landmarks.npy"))
    masks = open_array(path, _FIRST)
    size, length = params.data.image_size, params.data.clip_length
    rows = sum(record.row >= 0 for record in records)
    wanted = {folder / "frames.npy": (rows, length, size, size, 3), folder / "landmarks.npy": (rows, length, 68, 2)}
    for (file, shape), array in zip(wanted.items(), (frames, points), strict=True):
        if array.shape != shape:
            raise UserError(
                f"{file}: of shape {array.shape}", allowed=f"{shape} by clips.csv and params.yaml", fix=_AGAIN
            )
    made_from = path.with_suffix(MASKED)
    of = made_from.read_text().strip() if made_from.is_file() else ""
    if masks.shape != frames.shape[:-1] or of != pixels_digest(records):
        raise UserError(f"{path}: masks of other clips than {folder} has", fix=f"run `head3d parse --shard {shard}`")
    return [_checked(record, masks, points) for record in records]


def _checked(record: ClipRecord, masks: np.ndarray, points: np.ndarray) -> ClipRecord:
    """Add the digest of masks and landmarks; leave a clip out if the parser saw no head in one of its frames."""
    if record.row < 0:
        return record
    mine = masks[record.row]
    if mine.mean((1, 2)).min() / 255 < _LEAST_HEAD:
        return replace(record, status="no head found by face parsing", split="unused", row=-1)
    labels = hashlib.sha256(mine.tobytes())
    labels.update(points[record.row].tobytes())
    return replace(record, labels_sha256=labels.hexdigest())
