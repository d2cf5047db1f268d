"""Which runs belong together: the ledger of pipeline runs, and the commit of the code that made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from head3d.files import replacing

LEDGER = Path("runs/pipeline.json")  # digest of parameters, commit and store -> ids of the parent and of open runs
LOCK_TIMEOUT = 60.0  # seconds


@contextlib.contextmanager
def ledger() -> Iterator[dict[str, Any]]:
    """The ledger, locked; what the body changes in it is kept."""
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{LEDGER}.lock", timeout=LOCK_TIMEOUT):
        groups: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):  # a broken file costs only the grouping of runs
            groups = json.loads(LEDGER.read_text())
        try:
            yield groups
        finally:  # a parent that was created before something failed is not created again
            with replacing(LEDGER) as file:
                file.write_text(json.dumps(groups, indent=1))


def group_of(params: Mapping[str, Any], commit: str, place: str) -> str:
    """Key of a pipeline run in the ledger.

    Args:
        params: all parameters, as JSON can hold them.
        commit: of the code, as :func:`git_commit` gives it.
        place: address of the store, or ``files``.
    """
    return hashlib.sha256(json.dumps([params, commit, place], sort_keys=True).encode()).hexdigest()


def member(groups: dict[str, Any], group: str) -> dict[str, Any]:
    """A group's entry in the ledger, made if need be: ``parent``, an id or empty; ``open``, name -> id of a run."""
    return groups.setdefault(group, {"parent": "", "open": {}})


def git_commit() -> str:
    """Commit of the code, with ``-dirty`` if code or parameters differ from it; ``unknown`` without git."""
    code = ["src", "params.yaml", "dvc.yaml"]
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain", "--", *code) else head
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()
