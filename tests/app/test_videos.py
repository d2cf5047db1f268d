"""Uploads: what is kept, under which names, for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from head3d.app import videos
from head3d.app.videos import TooLarge, Video, Videos
from head3d.errors import UserError


async def parts(data: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def take(into: Videos, data: bytes, name: str = "a.mp4", stated: int | None = None) -> Video:
    return asyncio.run(into.take(name, parts(data), stated))


@pytest.fixture
def data(clips: Path) -> bytes:
    return (clips / "subject.mp4").read_bytes()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\0b\n.mp4", "x" * 5000, "", "日本 語.mp4"])
def test_a_users_name_is_no_path(tmp_path: Path, data: bytes, name: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    found = take(Videos(folder, 10**6), data, name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [found.path]
    assert found.path.parent == folder and found.path.name == found.id and found.path.read_bytes() == data
    assert found.name.isprintable() and 0 < len(found.name) <= videos.MOST_NAME
    assert (found.info.width, found.info.n_frames) == (64, 9)


def test_too_much_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    into = Videos(tmp_path, len(data))
    take(into, data)
    (kept,) = tmp_path.iterdir()
    for stated in (len(data) + 1, None, 3):  # what is stated may be false
        with pytest.raises(TooLarge, match=r"a.mp4: larger than .* MB; cut it, or start .* --most-mb"):
            take(into, data + b"x", stated=stated)
    assert list(tmp_path.iterdir()) == [kept]


def test_what_is_no_video_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    for broken in (b"", b"text", data[:200]):
        with pytest.raises(UserError, match=r"mine\.mp4: ") as caught:
            take(Videos(tmp_path, 10**6), broken, "mine.mp4")
        assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield data[:100]
        raise ConnectionError("the browser went away")

    with pytest.raises(UserError, match="cannot be kept"):
        asyncio.run(Videos(tmp_path, 10**6).take("a.mp4", broken()))
    assert list(tmp_path.iterdir()) == []


def test_old_videos_go_unless_a_job_needs_them(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MOST_KEPT", 2)
    needed: set[str] = set()
    into = Videos(tmp_path, 10**6, lambda: needed)
    first = take(into, data)
    needed.add(first.id)
    made = [first, *(take(into, data) for _ in range(3))]
    assert [into.get(one.id) is one for one in made] == [True, False, True, True]
    assert [one.path.exists() for one in made] == [True, False, True, True]


def test_messages_have_the_users_names(tmp_path: Path, data: bytes) -> None:
    into = Videos(tmp_path, 10**6)
    found = take(into, data, "holiday.mp4")
    assert into.in_words(f"{found.path}: no face was found in it") == "holiday.mp4: no face was found in it"
