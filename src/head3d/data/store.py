"""Clips on disk: arrays that are read frame by frame without decoding, found through the manifest.

``data/clips/shard-K/frames.npy`` uint8 ``(n, T, H, W, 3)`` RGB, ``landmarks.npy`` float32 ``(n, T, 68, 2)`` and
``data/masks/shard-K.npy`` uint8 ``(n, T, H, W)``; ``data/manifest.csv`` has a line for every clip, also those left out.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from head3d.errors import UserError
from head3d.files import replacing


@dataclass(frozen=True)
class ClipRecord:
    """One line of the manifest. ``row`` is the clip's index in its shard's arrays, -1 for a clip that was left out.

    ``x0, y0, x1, y1`` is the square that was cut out, in pixels of the (rotated, square-pixel) video;
    ``status`` is ``ok`` or the reason why the clip was left out. ``pixels_sha256`` is over the clip's frames,
    ``labels_sha256`` over its head masks and landmarks (filled in by the stage ``manifest``).
    """

    clip_id: str
    shard: int
    row: int
    source: str
    video: str
    person: str
    start_frame: int
    fps: float
    x0: float
    y0: float
    x1: float
    y1: float
    status: str
    split: str
    pixels_sha256: str
    labels_sha256: str = ""

    @property
    def person_key(self) -> tuple[str, str]:
        """Who it is: two sources may call different people alike."""
        return self.source, self.person


_MADE_BY = "run the pipeline up to `head3d manifest` (dvc repro manifest)"
# Beside a shard's clips: digest of all videos that were shared out, not only its own, and over how many shards.
LISTING = "videos.sha256"
MASKED = ".sha256"  # ending of the file beside a shard's masks that says which clips they are of, by pixels_digest
COLUMNS = [field.name for field in fields(ClipRecord)]
_NUMBERS = {"shard": int, "row": int, "start_frame": int, **dict.fromkeys(("fps", "x0", "y0", "x1", "y1"), float)}


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file; it appears when complete."""
    with (
        replacing(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path, columns: Sequence[str], fix: str) -> list[dict[str, str]]:
    """Read what :func:`write_rows` wrote.

    Args:
        path: the file.
        columns: that it must have.
        fix: what an error says that makes it.

    Raises:
        UserError: it is not there, has other columns, or is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: not there", fix=fix)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != list(columns):
                raise UserError(f"{path}: columns {reader.fieldnames}", allowed=", ".join(columns), fix=fix)
            rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path}: no table that can be read ({error})", fix=fix) from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(f"{path}: row {number} is damaged", allowed=f"{len(columns)} cells", fix=fix)
    return rows


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write numbers by name, whole or not at all; the folder is made if need be."""
    with replacing(path) as file:
        file.write_text(json.dumps(values, indent=2) + "\n")


def write_records(path: Path, records: Iterable[ClipRecord]) -> None:
    """Write clip records as CSV; the file appears when complete."""
    write_rows(path, COLUMNS, (asdict(record) for record in records))


def read_records(path: Path, fix: str = _MADE_BY) -> list[ClipRecord]:
    """Read what :func:`write_records` wrote.

    Args:
        path: the file.
        fix: what an error says that makes it.

    Raises:
        UserError: it is not there, or damaged.
    """
    records = []
    for row in read_rows(path, COLUMNS, fix):
        try:
            records.append(ClipRecord(**{name: _NUMBERS.get(name, str)(row[name]) for name in COLUMNS}))
        except ValueError as error:
            raise UserError(f"{path}: clip {row['clip_id']!r} is damaged ({error})", fix=fix) from error
    return records


def open_array(path: Path, fix: str) -> np.ndarray:
    """The array in a file that :class:`NpyWriter` wrote; what is never indexed is never read.

    Args:
        path: the file.
        fix: what an error says that makes it.

    Raises:
        UserError: it is not there, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: not there", fix=fix)
    try:
        # A plain array over the mapped file: numpy's own class for it makes each indexing several times slower.
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, OSError) as error:  # no array at all, or one that breaks off
        raise UserError(f"{path}: no array that can be read ({error})", fix=fix) from error


class NpyWriter:
    """Writes an ``.npy`` file row by row, without knowing the number of rows before or holding them in memory."""

    _HEADER = 256  # bytes kept for the header; the format allows padding

    def __init__(self, path: Path, row_shape: Sequence[int], dtype: Any) -> None:
        self._shape, self._dtype, self.rows = tuple(row_shape), np.dtype(dtype), 0
        self._file = path.open("wb")
        self._file.write(bytes(self._HEADER))

    def append(self, row: np.ndarray) -> None:
        if row.shape != self._shape or row.dtype != self._dtype:
            raise ValueError(f"row of {row.shape} {row.dtype}, expected {self._shape} {self._dtype}")
        self._file.write(np.ascontiguousarray(row).tobytes())
        self.rows += 1

    def close(self) -> None:
        shape = (self.rows, *self._shape)
        header = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
        text = header.encode().ljust(self._HEADER - 11) + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        self._file.close()


class ClipStore:
    """Random access to the frames, head masks and landmarks of all clips under ``root``."""

    def __init__(self, root: str | os.PathLike = "data") -> None:
        self.root = Path(root)
        self._records = read_records(self.root / "manifest.csv")
        self._arrays: dict[Path, np.ndarray] = {}

    def records(self, split: str | None = None) -> list[ClipRecord]:
        """The usable clips of a split (of all splits if ``None``), sorted by ``clip_id``."""
        chosen = [r for r in self._records if r.status == "ok" and split in (None, r.split)]
        return sorted(chosen, key=lambda record: record.clip_id)

    def split(self, name: str) -> list[ClipRecord]:
        """The clips of a split.

        Raises:
            UserError: there are none.
        """
        if found := self.records(name):
            return found
        raise UserError(
            f"data/manifest.csv: no clip in the split {name!r}",
            allowed=", ".join(sorted({record.split for record in self.records()})) or "none",
            fix="see the column `status` of data/manifest.csv for why clips were left out, and `data` in params.yaml",
        )

    @property
    def all_records(self) -> list[ClipRecord]:
        """Every line of the manifest, also the clips that were left out."""
        return list(self._records)

    @property
    def digest(self) -> str:
        """SHA-256 over pixels, labels, people and splits of all usable clips: see the function :func:`digest`."""
        return digest(self.records())

    def frames(self, record: ClipRecord, idx: Any = None) -> np.ndarray:
        """Frames of a clip, uint8 ``(k, H, W, 3)`` RGB; ``idx`` is an index array, a list or a slice, default all."""
        return self._rows(self.root / "clips" / f"shard-{record.shard}" / "frames.npy", record, idx)

    def masks(self, record: ClipRecord, idx: Any = None) -> np.ndarray:
        """Soft head masks, uint8 ``(k, H, W)``, 255 = head."""
        return self._rows(self.root / "masks" / f"shard-{record.shard}.npy", record, idx)

    def views(self, record: ClipRecord) -> tuple[np.ndarray, np.ndarray]:
        """Frames and masks of a clip, as above, read-only and still on disk: what is never indexed is never read."""
        return (
            self._array(self.root / "clips" / f"shard-{record.shard}" / "frames.npy", record)[record.row],
            self._array(self.root / "masks" / f"shard-{record.shard}.npy", record)[record.row],
        )

    def landmarks(self, record: ClipRecord, idx: Any = None) -> np.ndarray:
        """Landmarks, float32 ``(k, 68, 2)`` pixel (x, y) in the crop, NaN where the face was not found."""
        return self._rows(self.root / "clips" / f"shard-{record.shard}" / "landmarks.npy", record, idx)

    def _rows(self, path: Path, record: ClipRecord, idx: Any) -> np.ndarray:
        clip = self._array(path, record)[record.row]
        return np.array(clip if idx is None else clip[np.atleast_1d(idx) if isinstance(idx, int) else idx])

    def _array(self, path: Path, record: ClipRecord) -> np.ndarray:
        """The array of a file, on disk."""
        if record.row < 0:
            raise ValueError(f"{record.clip_id} was left out: {record.status}")
        if path not in self._arrays:
            self._arrays[path] = open_array(path, _MADE_BY)
        if record.row >= len(self._arrays[path]):
            raise UserError(f"{path}: has no row {record.row}, where {record.clip_id} should be", fix=_MADE_BY)
        return self._arrays[path]


def pixels_digest(records: Iterable[ClipRecord]) -> str:
    """SHA-256 over the pixels' digests of a shard's clips, in the order in which they lie there."""
    rows = sorted((one.row, one.pixels_sha256) for one in records if one.row >= 0)
    return hashlib.sha256("\n".join(pixels for _, pixels in rows).encode()).hexdigest()


def digest(records: Iterable[ClipRecord]) -> str:
    """SHA-256 over the digests of clips and their labels, who is in them and what they are for, in the order of names.

    A clip that moves from the training set to a test set makes other data of it: what was trained on it is not taken
    for trained.
    """
    lines = sorted(
        f"{one.clip_id} {one.split} {one.source}/{one.person} {one.pixels_sha256} {one.labels_sha256}"
        for one in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
