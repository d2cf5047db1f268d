"""Files that appear under their name when they are complete, and not at all otherwise."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that takes the place of ``target`` if the block ends well, and vanishes if not.

    The folder is made if need be. The name in between keeps the ending, as writers of videos and arrays go by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield unfinished
        with unfinished.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name with half of what it stands for
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_directory(target: str | os.PathLike) -> Iterator[Path]:
    """The same for a directory: the block gets a new empty one. What killed processes have left there is removed."""
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
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
