"""Runs kept as files: where no MLflow store can be reached, or none is wanted for now (``HEAD3D_TRACKING=files``).

A journal is a folder with ``journal.jsonl``, one JSON object a line, and ``files/`` for artifacts. Each
process writes a journal of its own and only ever appends to it, so jobs of many nodes need no lock, and a kill costs at
most the line that was being written. The first line describes the run: name, tags, parameters, ``run``. Two journals
with the same ``run`` are of one run, which was killed and went on. The lines after it are entries::

    {"kind": "metrics", "time": ms, "step": 3, "values": {"loss": 0.1}}
    {"kind": "tag", "time": ms, "key": "pretrained", "value": "yes"}
    {"kind": "dataset", "time": ms, "name": "mini", "digest": "ab…", "clips": 137, "context": "train_fusion"}
    {"kind": "artifact", "time": ms, "file": "files/000001/note.txt", "folder": null}
    {"kind": "end", "time": ms, "status": "FINISHED"}

Times are milliseconds since 1970. This module knows nothing of MLflow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from head3d.tracking.ledger import LOCK_TIMEOUT

OFFLINE = Path("runs/mlflow-offline")
NAME = "journal.jsonl"
VERSION = 1

Entry = dict[str, Any]


class Journal:
    """A journal that this process writes.

    Args:
        root: folder of the journals; this one becomes a folder in it.
        head: what describes the run: ``name``, ``run``, ``time``, ``tags``, ``params``, ``commit``, ``scale``.

    Raises:
        OSError: it can't be written; so do all methods.
    """

    def __init__(self, root: Path, head: Mapping[str, Any]) -> None:
        self.id = uuid.uuid4().hex
        self.folder = root / (re.sub(r"[^\w.-]", "_", head["name"]) + f"-{self.id[:12]}")
        self.folder.mkdir(parents=True)
        self._file = (self.folder / NAME).open("ab", buffering=0)
        self._size = self._files = 0
        self._line({"kind": "run", "version": VERSION, "journal": self.id, **head})

    def put(self, entry: Entry) -> None:
        """Append an entry; the file of an artifact's ``path`` is copied into the folder."""
        kept = {key: value for key, value in entry.items() if key != "path"}
        if "path" in entry:
            target = self._place(Path(entry["path"]).name)
            shutil.copyfile(entry["path"], target)
            kept["file"] = target.relative_to(self.folder).as_posix()
        self._line(kept)

    def close(self) -> None:
        """Nothing more is to be written."""
        self._file.close()

    def remove(self) -> None:
        """Delete the folder, whose content has reached the store."""
        self.close()
        delete(self.folder)

    def _place(self, name: str) -> Path:
        self._files += 1
        folder = self.folder / "files" / f"{self._files:06}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _line(self, entry: Entry) -> None:
        data = json.dumps(entry).encode() + b"\n"
        try:
            if self._file.write(data) != len(data):
                raise OSError(f"{self.folder / NAME}: only a part of a line could be written")
        except OSError:  # a full disk: what is whole stays, the next line must not be glued to half of this one
            os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(data)


def read(folder: Path) -> list[Entry]:
    """The lines of a journal, the one that describes the run first; ``path`` is where the file of an entry lies.

    A line that is not whole, such as the last one that a kill has cut, is passed over.
    """
    found: list[Entry] = []
    for line in (folder / NAME).read_bytes().splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or (entry.get("kind") == "run") != (not found):
            continue
        if "file" in entry:
            entry["path"] = str(folder / entry["file"])
        found.append(entry)
    return found


def folders(place: Path) -> list[Path]:
    """The journals in a folder, or the folder itself if it is one; those that began first come first."""
    found = [place] if (place / NAME).exists() else [path.parent for path in place.glob(f"*/{NAME}")]
    return sorted(found, key=lambda folder: (_began(folder), folder.name))


def _began(folder: Path) -> int:
    time = next((line.get("time") for line in read(folder)), 0)
    return time if isinstance(time, int) else 0  # of another hand, or damaged: who brings it in will say so


def delete(folder: Path) -> None:
    """Delete a journal."""
    shutil.rmtree(folder, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """Held by whoever brings a journal into a store."""
    return FileLock(folder / ".lock", timeout=LOCK_TIMEOUT)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"fusion": {"lr": 0.1}}`` as ``{"fusion.lr": "0.1"}``."""
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return found
