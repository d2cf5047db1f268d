"""Files that appear under their name when they are complete, and not at all otherwise."""

import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from head3d.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what writing ends with, without a word of where

LEFT_S = 3600.0  # a file that was changed since then may be written by another machine that shares the directory
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}-(\d+)-[0-9a-f]{8}(\..*)?", re.ASCII | re.DOTALL)  # as `replacing` names it


@contextmanager
def replacing(target: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that takes the place of ``target`` if the block ends well, and vanishes if not.

    The folder is made if need be. The name in between keeps the ending, as writers of videos and arrays go by it. What
    killed processes have left of the same target is removed, ``LEFT_S`` after they last wrote.

    Raises:
        OSError: there is something else than a file at ``target``, as a directory or a device; or it can't be written.
    """
    target = Path(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a directory is there, not a file", str(target))
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "is there and no file that could be replaced", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name's digest stands for the name, which may be as long as names can be.
    mark = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}"
    for left in target.parent.glob(f"{mark}-*{glob.escape(target.suffix)}"):
        pid = unfinished_by(left)
        with suppress(FileNotFoundError):  # it has just been renamed
            if pid is not None and not alive(pid) and time.time() - left.stat().st_mtime > LEFT_S:
                left.unlink()
    unfinished = target.with_name(f"{mark}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield unfinished
        with unfinished.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name with half of what it stands for
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno in FULL and error.filename in (None, str(unfinished)):
            error.filename = str(target)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_by(path: Path) -> int | None:
    """Number of the process that writes a file in :func:`replacing`, or was killed there; None for any other file."""
    match = _UNFINISHED.fullmatch(path.name)
    return int(match[1]) if match else None


@contextmanager
def replacing_directory(target: str | os.PathLike) -> Iterator[Path]:
    """A new empty directory that takes the place of ``target`` if the block ends well, and vanishes if not.

    For one process at a time: one on another machine is taken for killed, and what killed processes have left of the
    same target is removed at once. An old directory is deleted before the new one has its name, and nothing waits for
    the disk: a kill in between leaves none, and a power cut may leave files that are not whole.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.iterdir():
        name, _, pid = left.name.rpartition(".")
        if name == f".{target.name}" and pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        if target.exists():
            shutil.rmtree(target)
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno in FULL and (error.filename is None or Path(error.filename).is_relative_to(unfinished)):
            error.filename = str(target)
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def expanded(path: str | os.PathLike) -> Path:
    """The path with ``~`` and ``~name`` at its beginning as home directories; of nobody known it is left as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - that of pathlib raises RuntimeError for a name of nobody


def files_below(root: Path, passed_over: Callable[[str], bool] = lambda name: name.startswith(".")) -> Iterator[Path]:
    """All files below a directory, folder by folder in the order of their names; links to directories are followed.

    A directory that links lead to more than once, or back to, comes once.

    Args:
        root: the directory.
        passed_over: which names of directories are not looked into.

    Raises:
        UserError: a directory can't be read. What is in it would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})", fix="make it readable, or move it away")

    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        place = Path(folder).stat()
        if (place.st_dev, place.st_ino) in seen:
            below.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        below[:] = sorted(name for name in below if not passed_over(name))
        yield from (Path(folder, name) for name in sorted(files))


def alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
