"""Videos that a browser sends: streamed into one private folder under names that nobody else chose."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from head3d.data import video
from head3d.errors import UserError

MOST_KEPT = 12  # videos; the oldest that no job needs goes first
MOST_NAME = 100  # characters of a file's name that are kept, for messages only


@dataclass(frozen=True)
class Video:
    """A video in the folder.

    Attributes:
        id: unguessable; also the file's name.
        path: of the file.
        name: as the user calls it. It never becomes part of a path.
        info: size, rate and length.
    """

    id: str
    path: Path
    name: str
    info: video.VideoInfo


class TooLarge(UserError):
    """A video over the limit."""


class Videos:
    """The videos of one server.

    Args:
        folder: where they lie.
        most_bytes: of one video.
        needed: tells the ids of videos that must stay.
    """

    def __init__(self, folder: Path, most_bytes: int, needed: Callable[[], set[str]] = set) -> None:
        self.folder, self.most_bytes, self._needed = folder, most_bytes, needed
        self._videos: dict[str, Video] = {}

    async def take(self, name: str, chunks: AsyncIterator[bytes], size: int | None = None) -> Video:
        """Keep a video that comes in parts.

        Args:
            name: of the user's file.
            chunks: its bytes.
            size: bytes, as the browser states it; what really comes counts all the same.

        Raises:
            TooLarge: more bytes than allowed.
            UserError: no video that can be read, or no room.
        """
        name = "".join(letter for letter in name if letter.isprintable()).strip()[-MOST_NAME:] or "video"
        if size is not None:
            self._check_size(name, size)
        path = self.folder / secrets.token_urlsafe(16)
        whole, had = False, 0
        try:
            with path.open("xb") as file:
                async for chunk in chunks:
                    had += len(chunk)
                    self._check_size(name, had)
                    file.write(chunk)
            found = Video(path.name, path, name, await run_in_threadpool(_probe, path, name))
            whole = True
        except OSError as error:
            raise UserError(
                f"{name}: cannot be kept ({error.strerror or error})", fix="make room on the disk"
            ) from error
        finally:
            if not whole:
                path.unlink(missing_ok=True)
        self._videos[found.id] = found
        stay = {*self._needed(), *list(self._videos)[-MOST_KEPT:]}
        for old in [one for one in self._videos.values() if one.id not in stay]:
            del self._videos[old.id]
            old.path.unlink(missing_ok=True)
        return found

    def get(self, name: str) -> Video | None:
        """The video with this id, if there is one."""
        return self._videos.get(name)

    def in_words(self, text: str) -> str:
        """A message with the user's names in place of the files' own."""
        for one in list(self._videos.values()):
            text = text.replace(str(one.path), one.name)
        return text

    def _check_size(self, name: str, size: int) -> None:
        if size > self.most_bytes:
            raise TooLarge(
                f"{name}: larger than {self.most_bytes / 1e6:g} MB",
                fix="cut it, or start `head3d app` with a larger --most-mb",
            )


def _probe(path: Path, name: str) -> video.VideoInfo:
    try:
        return video.probe(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from None
