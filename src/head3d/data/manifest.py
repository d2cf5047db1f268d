"""Stage ``manifest``: one table of all clips, and a small summary with the digest of the data."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head3d import tracking
from head3d.data.store import LISTING, ClipRecord, digest, open_array, read_records, write_records
from head3d.errors import UserError
from head3d.files import replacing

if TYPE_CHECKING:
    from head3d.params import Params

MOST_LISTED = 100  # videos that the summary, which `dvc metrics show` prints, goes through one by one
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
        folder = Path("data/clips") / f"shard-{shard}"
        masks = open_array(Path("data/masks") / f"shard-{shard}.npy", _FIRST)
        points = open_array(folder / "landmarks.npy", _FIRST)
        for record in read_records(folder / "clips.csv"):
            records.append(_checked(record, masks, points))
    records.sort(key=lambda record: record.clip_id)
    ids = Counter(record.clip_id for record in records)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise UserError(
            f"data/clips: {len(twice)} clip ids come twice, {twice[0]} is one", fix="delete data/clips and crop again"
        )
    usable = [record for record in records if record.status == "ok"]
    _check_apart(usable)
    by_video: dict[tuple[str, str], Counter[str]] = {(record.source, record.video): Counter() for record in records}
    for record in usable:
        by_video[record.source, record.video][record.split] += 1
    if not any(record.split == "train" for record in usable):
        reasons = ", ".join(sorted({record.status for record in records if record.status != "ok"})) or "no videos"
        raise UserError(f"data/manifest.csv: no clip is left to train on ({reasons})", fix="add videos to a source")
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
    if len(set(listed.values())) > 1:
        first, *others = listed
        other = next(folder for folder in others if listed[folder] != listed[first])
        raise UserError(
            f"{first} and {other} were cropped from different lists of videos",
            fix="delete data/clips and crop every shard again, once no video comes or goes any more",
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
                fix="delete one of them, and crop again",
            )


def _checked(record: ClipRecord, masks: np.ndarray, points: np.ndarray) -> ClipRecord:
    """Add the digest of masks and landmarks; leave a clip out if the parser saw no head in one of its frames."""
    if record.row < 0:
        return record
    if record.row >= min(len(masks), len(points)):
        raise UserError(
            f"shard {record.shard}: {len(points)} clips and masks of {len(masks)}, but clips.csv has row {record.row}",
            fix="run `head3d crop` and `head3d parse` again",
        )
    mine = masks[record.row]
    if mine.mean((1, 2)).min() / 255 < _LEAST_HEAD:
        return replace(record, status="no head found by face parsing", split="unused", row=-1)
    labels = hashlib.sha256(mine.tobytes())
    labels.update(points[record.row].tobytes())
    return replace(record, labels_sha256=labels.hexdigest())
