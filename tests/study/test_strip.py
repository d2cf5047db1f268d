"""Copies of videos: the same pictures, nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from head3d.data import video
from head3d.errors import UserError
from head3d.study.strip import Copied, copy_stripped

from .conftest import frames


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg as anybody would, to make what the code under test must read."""
    command = [video.ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    video.write_video(path, frames(80, length=12), fps=30, crf=12)
    return path


def test_pictures_are_the_same_and_alone(clip: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.mp4"
    sound = ("-f", "lavfi", "-i", "sine=duration=0.4", "-c:a", "aac")
    ffmpeg("-i", clip, *sound, "-c:v", "copy", "-metadata", "title=made by fomm", "-metadata", "comment=fomm", named)
    assert video.probe(named).has_audio and b"fomm" in named.read_bytes()
    out = tmp_path / "out.mp4"
    assert copy_stripped(named, out) == Copied(12, 30.0)
    assert not video.probe(out).has_audio
    assert np.array_equal(np.stack(list(video.read_frames(out))), np.stack(list(video.read_frames(clip))))
    for word in (b"fomm", b"x264", b"Lavf", b"Lavc", b"crf="):
        assert word not in out.read_bytes()
    again = tmp_path / "Müller 研究" / "again.mp4"
    copy_stripped(clip, again)
    assert again.read_bytes() == out.read_bytes()
    assert again.stat().st_mtime == out.stat().st_mtime  # the server sends it


@pytest.mark.parametrize(
    ("coding", "name"),
    [
        (("-c:v", "mpeg4"), "mpeg4, yuv420p"),
        (("-c:v", "libx265", "-x265-params", "log-level=none"), "hevc, yuv420p"),
        (("-c:v", "libvpx-vp9"), "vp9, yuv420p"),
        (("-c:v", "libx264", "-pix_fmt", "yuv444p"), "h264, yuv444p"),
    ],
)
def test_what_not_every_browser_plays_is_refused(
    clip: Path, tmp_path: Path, coding: tuple[str, ...], name: str
) -> None:
    other = tmp_path / "other.mp4"
    ffmpeg("-i", clip, *coding, other)
    with pytest.raises(UserError, match=f"other.mp4: coded as {name}; allowed: h264"):
        copy_stripped(other, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.mp4"]


@pytest.mark.parametrize(("data", "message"), [(None, "no such"), (b"", "empty"), (b"no video" * 99, "not a readable")])
def test_no_video_is_one_clear_line(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "clip.mp4"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        copy_stripped(path, tmp_path / "out.mp4")
    assert "\n" not in str(caught.value)
