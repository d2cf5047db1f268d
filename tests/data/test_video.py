"""Videos of all kinds, made with ffmpeg on the spot, and files that only pretend to be videos."""

import gc
from pathlib import Path

import numpy as np
import pytest

from head3d.data import video
from head3d.errors import UserError

from .conftest import ffmpeg, gradient


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of 96 x 64 at 25 frames a second."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    video.write_video(path, gradient(20, 64, 96), fps=25)
    return path


def test_what_was_written_is_read(clip: Path) -> None:
    info = video.probe(clip)
    assert (info.width, info.height, info.fps, info.n_frames, info.rotation) == (96, 64, 25.0, 20, 0)
    assert not info.has_audio
    assert info.duration == pytest.approx(0.8, abs=0.05)
    got = np.stack(list(video.read_frames(clip)))
    wanted = np.stack(gradient(20, 64, 96))
    assert got.shape == wanted.shape
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - wanted).mean() < 3  # colours survive: the right matrix and range both ways


def test_start_and_count(clip: Path) -> None:
    everything = list(video.read_frames(clip))
    part = list(video.read_frames(clip, start=7, count=5))
    assert len(part) == 5
    assert np.array_equal(np.stack(part), np.stack(everything[7:12]))
    assert list(video.read_frames(clip, start=50)) == []
    assert list(video.read_frames(clip, count=0)) == []


def test_resampling(clip: Path) -> None:
    assert len(list(video.read_frames(clip, fps=50))) in (39, 40)
    assert len(list(video.read_frames(clip, fps=12.5))) in (10, 11)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_flag_is_applied(clip: Path, tmp_path: Path, turn: int) -> None:
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", turn, "-i", clip, "-c", "copy", turned)
    info = video.probe(turned)
    assert (info.width, info.height) == ((96, 64) if turn == 180 else (64, 96))
    first = next(iter(video.read_frames(turned)))
    upright = np.rot90(next(iter(video.read_frames(clip))), turn // 90)  # the flag counts counter-clockwise
    assert first.shape == upright.shape
    assert np.abs(first.astype(int) - upright).mean() < 3


def test_pixels_become_square(clip: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.mp4"
    ffmpeg("-i", clip, "-vf", "setsar=2/1", wide)
    assert (video.probe(wide).width, video.probe(wide).height) == (192, 64)
    assert next(iter(video.read_frames(wide))).shape == (64, 192, 3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("odd.mkv", ["-vf", "scale=47:33", "-c:v", "ffv1", "-pix_fmt", "bgr0"]),
        ("moving.gif", []),
        ("old.avi", ["-c:v", "mjpeg"]),
        ("web.webm", ["-c:v", "libvpx"]),
        ("stream.ts", ["-c:v", "mpeg2video"]),
        ("phone.mov", ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
        ("grey.mp4", ["-c:v", "libx264", "-pix_fmt", "gray"]),
    ],
)
def test_containers_and_codecs(clip: Path, tmp_path: Path, name: str, arguments: list[str]) -> None:
    path = tmp_path / name
    ffmpeg("-i", clip, *arguments, path)
    info = video.probe(path)
    frames = list(video.read_frames(path))
    assert 19 <= len(frames) <= 21
    assert frames[0].shape == (info.height, info.width, 3)
    if name == "odd.mkv":
        assert (info.width, info.height) == (47, 33)


def test_size_that_changes_on_the_way(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ts"
    ffmpeg("-i", clip, "-vf", "scale=48:80", "-c:v", "mpeg2video", other)
    ffmpeg("-i", clip, "-c:v", "mpeg2video", tmp_path / "one.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "one.ts").read_bytes() + other.read_bytes())
    assert {frame.shape for frame in video.read_frames(joined)} == {(64, 96, 3)}


def test_odd_sizes_are_padded_for_yuv420p(tmp_path: Path) -> None:
    video.write_video(tmp_path / "odd.mp4", gradient(3, 33, 47), fps=10)
    info = video.probe(tmp_path / "odd.mp4")
    assert (info.width, info.height, info.n_frames) == (48, 34, 3)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_sound_is_taken_along(clip: Path, tmp_path: Path, seconds: float) -> None:
    talking = tmp_path / "talking.mp4"
    ffmpeg("-i", clip, "-f", "lavfi", "-i", f"sine=duration={seconds}", "-c:v", "copy", "-c:a", "aac", talking)
    assert video.probe(talking).has_audio
    video.write_video(tmp_path / "out.mp4", gradient(20, 64, 64), fps=25, audio_from=talking)
    assert video.probe(tmp_path / "out.mp4").has_audio
    assert len(list(video.read_frames(tmp_path / "out.mp4"))) == 20
    assert video.probe(tmp_path / "out.mp4").duration == pytest.approx(0.8, abs=0.1)
    video.write_video(tmp_path / "mute.mp4", gradient(20, 64, 64), fps=25, audio_from=clip)
    assert not video.probe(tmp_path / "mute.mp4").has_audio


@pytest.mark.parametrize(("late", "begins"), [(0.0, 0.7), (0.5, 0.2)])
def test_sound_stays_with_the_picture_that_begins_later(tmp_path: Path, late: float, begins: float) -> None:
    """A click 0.7 s after the file's start is that much less after the picture's."""
    source, out, heard = tmp_path / "source.mp4", tmp_path / "out.mp4", tmp_path / "heard.raw"
    click = r"aevalsrc='if(between(t,0.7,0.75),sin(6000*t),0)':d=1.5:s=16000"
    picture = ("-itsoffset", str(late), "-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=1")
    ffmpeg(*picture, "-f", "lavfi", "-i", click, "-pix_fmt", "yuv420p", source)
    assert video.probe(source).late == pytest.approx(late, abs=0.03)
    video.write_video(out, gradient(25, 64, 64), fps=25, audio_from=source)
    ffmpeg("-i", out, "-f", "s16le", "-ac", "1", "-ar", "16000", heard)
    loud = np.abs(np.fromfile(heard, np.int16).astype(int)) > 3000
    assert np.flatnonzero(loud)[0] / 16000 == pytest.approx(begins, abs=0.05)


def test_truncated_file_gives_the_frames_before_the_break(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=4", "-c:v", "libx264", "-g", "10", whole)
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 10 < len(list(video.read_frames(torn))) < 90


def hostile(folder: Path, clip: Path) -> dict[str, Path]:
    """Files that are no readable videos, each bad in its own way."""
    files = {name: folder / f"{name}.mp4" for name in ("empty", "text", "torn", "noise", "playlist", "concat")}
    files["empty"].write_bytes(b"")
    files["text"].write_text("this is not a video\n" * 100)
    files["torn"].write_bytes(clip.read_bytes()[-400:])  # the index of an mp4 without its frames
    files["noise"].write_bytes(np.random.default_rng(0).bytes(20_000))
    files["playlist"].write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n")
    files["concat"].write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    sound, cover, music = folder / "sound.m4a", folder / "cover.jpg", folder / "music.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", sound)
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1", cover)
    ffmpeg("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", music)
    return {**files, "sound": sound, "music": music, "missing": folder / "missing.mp4", "folder": folder}


NAMES = ["empty", "text", "torn", "noise", "playlist", "concat", "sound", "music", "missing", "folder"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_files_are_one_clear_line(clip: Path, tmp_path: Path, name: str) -> None:
    path = hostile(tmp_path, clip)[name]
    for use in (video.probe, lambda bad: list(video.read_frames(bad))):
        with pytest.raises(UserError) as error:
            use(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_names_are_never_options_or_addresses(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mp4", "http:x.mp4", "ein Bär %03d; rm.mp4", "pipe:0.mp4"):
        Path(name).write_bytes(clip.read_bytes())
        assert len(list(video.read_frames(name))) == 20


def test_unfinished_output_never_appears(tmp_path: Path) -> None:
    def breaks_off():
        yield from gradient(3, 32, 32)
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        video.write_video(tmp_path / "out.mp4", breaks_off(), fps=25)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no frames"):
        video.write_video(tmp_path / "out.mp4", [], fps=25)


def test_a_reader_that_is_given_up_ends_ffmpeg(clip: Path) -> None:
    reader = video.read_frames(clip)
    next(reader)
    reader.close()
    gc.collect()
    with pytest.raises(StopIteration):
        next(reader)


def test_frames_before_the_first_wanted_one_have_time(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec "{video.ffmpeg_exe()}" "$@"\n')
    slow.chmod(0o755)
    info = video.probe(clip)
    monkeypatch.setattr(video, "_STALL_S", 0.2)
    monkeypatch.setattr(video, "_SKIPPED_FPS", 1.0)
    monkeypatch.setattr(video, "ffmpeg_exe", lambda: str(slow))
    assert len(list(video.stream(clip, info, start=15))) == 5
    with pytest.raises(UserError, match="no frame came"):
        list(video.stream(clip, info))


def test_a_recording_without_rate_and_duration(tmp_path: Path) -> None:
    """As browsers write them: times are uneven, and the container's time base is no rate."""
    file = tmp_path / "recorded.webm"
    uneven = ("-vf", "settb=1/1000,setpts='N*33.4+floor(random(0)*14)'", "-fps_mode", "passthrough")
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x64:r=30:d=2", *uneven, "-enc_time_base", "1/1000", "-c:v", "libvpx")
    ffmpeg(*picture, "-live", "1", file)
    stated = bytearray(file.read_bytes())
    at = stated.index(b"\x23\xe3\x83\x84")  # DefaultDuration, 8 bytes in all: made void
    stated[at : at + 8] = b"\xec\x86" + bytes(6)
    file.write_bytes(stated)
    info = video.probe(file)
    assert (info.fps, info.n_frames) == (pytest.approx(30, rel=0.02), 60), "a time base of 1/1000 is no rate"
    assert info.duration == pytest.approx(2, rel=0.03)


def test_a_decoder_that_hangs_is_killed(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = tmp_path / "lazy"
    lazy.write_text("#!/bin/sh\nexec sleep 60\n")
    lazy.chmod(0o755)
    info = video.probe(clip)
    monkeypatch.setattr(video, "_STALL_S", 0.2)
    monkeypatch.setattr(video, "ffmpeg_exe", lambda: str(lazy))
    with pytest.raises(UserError, match="no frame came"):
        list(video.stream(clip, info))
    with pytest.raises(UserError, match="no frame came"):
        list(video.stream(clip, info, start=1))
    with pytest.raises(UserError, match="nothing came"):
        video.probe(clip)
