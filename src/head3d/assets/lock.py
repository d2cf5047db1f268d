"""``assets.lock.json``: digests of files whose publishers state none, recorded the first time that they came.

The file lies beside params.yaml and belongs into git: from then on every machine takes the same file or none.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from filelock import FileLock

from head3d.errors import UserError
from head3d.files import expanded, replacing

NAME = "assets.lock.json"


class Entry(TypedDict):
    """What the lock knows of an asset: digest (64 digits), bytes, where it came from, and the day (UTC)."""

    sha256: str
    size: int
    source: str
    date: str


def path() -> Path:
    """The lock of the project that is the current directory; elsewhere, one in the cache."""
    if Path("params.yaml").exists():
        return Path(NAME)
    return expanded(os.environ.get("HEAD3D_CACHE") or "~/.cache/head3d") / NAME


def entries() -> dict[str, Entry]:
    """All entries by asset.

    Raises:
        UserError: the file is damaged.
    """
    try:
        held = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path()}: cannot be read ({error})", fix=f"git checkout {NAME}") from error
    if not isinstance(held, dict) or not all(
        isinstance(entry, dict) and Entry.__annotations__.keys() <= entry.keys() and len(str(entry["sha256"])) == 64
        for entry in held.values()
    ):
        raise UserError(f"{path()}: not a list of digests by asset", fix=f"git checkout {NAME}")
    return held


def digest(name: str) -> str:
    """Recorded SHA-256 of an asset, or nothing."""
    entry = entries().get(name)
    return entry["sha256"] if entry else ""


def record(name: str, sha256: str, size: int, source: str, *, again: bool = False) -> None:
    """Record an asset's digest.

    Args:
        name: of the asset.
        sha256: 64 digits.
        size: bytes.
        source: address, or ``by hand``.
        again: whether another digest may be there already; it is replaced.

    Raises:
        UserError: another process has recorded another digest meanwhile, or the file can't be written.
    """
    try:
        with _locked():
            held = entries()
            known = held.get(name)
            if known and known["sha256"] == sha256:
                return
            if known and not again:
                raise UserError(
                    f"asset '{name}': its SHA-256 is {sha256}, but {path()} has {known['sha256']} of {known['date']}",
                    fix=f"head3d assets trust {name} takes another file deliberately",
                )
            held[name] = Entry(sha256=sha256, size=size, source=source, date=datetime.now(UTC).date().isoformat())
            with replacing(path()) as file:
                file.write_text(json.dumps(dict(sorted(held.items())), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path()}: cannot be written ({error})") from error


@contextmanager
def _locked() -> Iterator[None]:
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{NAME}.busy")):
        yield
