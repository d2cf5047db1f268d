"""``head3d runs``: what runs leave behind, brought into MLflow's store or deleted."""

from __future__ import annotations

import argparse
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from head3d.files import alive, unfinished_by

DEAD_AFTER_S = 24 * 3600.0  # a file of a process that is not on this machine may be one that a job writes on another


def add(commands: Any) -> None:
    """Add ``runs`` to the command line."""
    group = commands.add_parser("runs", help="bring runs kept as files into MLflow's store; delete old states")
    parts = group.add_subparsers(dest="part", required=True, metavar="PART")
    bring = parts.add_parser(
        "import",
        help="bring runs that were kept as files into the store that MLFLOW_TRACKING_URI names",
        description="Bring runs that were kept as files into MLflow's store, with their times. What is there already "
        "is not written twice: an import that was cut short may be repeated. docs/cluster.md says more.",
    )
    bring.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="a run, or a folder of them (default: runs/mlflow-offline)"
    )
    bring.add_argument("--remove", action="store_true", help="delete each run that has ended, once it is in the store")
    bring.set_defaults(run=_import)
    old = parts.add_parser(
        "prune",
        help="delete saved states of trainings that nothing goes on with",
        description="Delete the states under runs/ of earlier parameters and code, all but each training's last one, "
        "and what killed processes left half-written. Trained weights, curves and MLflow's runs stay.",
    )
    old.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    old.set_defaults(run=_prune)


def _import(args: argparse.Namespace) -> None:
    from head3d.tracking.bring import bring

    for line in bring([Path(folder) for folder in args.folders], args.remove):
        print(line, flush=True)


def _prune(args: argparse.Namespace) -> None:
    total = 0
    for path in stale(Path("runs")):
        size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
        total += size
        print(f"{path}: {size / 1e6:.0f} MB", flush=True)
        if not args.dry_run:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{total / 1e9:.2f} GB {'would be ' if args.dry_run else ''}freed")


def stale(runs: Path) -> Iterator[Path]:
    """Directories of states that are not the last ones of their training, and half-written files of dead processes."""
    for training in sorted(path for path in runs.glob("train_*") if path.is_dir()):
        # Besides states there are profiles, which have names and no digests.
        states = [path for path in training.iterdir() if re.fullmatch("[0-9a-f]{16}", path.name)]
        last = max(states, key=_written, default=None)
        yield from sorted(path for path in states if path != last)
        for path in sorted(last.iterdir()) if last else []:
            pid = unfinished_by(path)
            if pid is not None and not alive(pid) and time.time() - _time(path) > DEAD_AFTER_S:
                yield path


def _written(folder: Path) -> float:
    return max(map(_time, folder.iterdir()), default=0.0)


def _time(path: Path) -> float:
    """When it was written; now, if it has gone while a training that runs put another in its place."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return time.time()
