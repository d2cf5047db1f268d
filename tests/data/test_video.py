"""Videos of all kinds, made with ffmpeg on the spot, and files that only pretend to be videos."""

import subprocess
from pathlib import Path
from typing import Any

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


def test_drift_is_the_most_on_the_way_and_not_that_at_the_end(clip: Path, tmp_path: Path) -> None:
    """Ten frames too slow, ten too fast: the tenth is 5 frames late, and the last one in time."""
    path, pace = tmp_path / "uneven.mp4", "setpts='if(lt(N,10),1.5*N,10+0.5*N)/25/TB'"
    ffmpeg("-i", clip, "-vf", pace, "-fps_mode", "passthrough", path)
    assert video.drift(clip, 25) < 0.01
    assert video.drift(path, 25) == pytest.approx(5 / 25, abs=0.03)


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
        ("ten_bits.mov", ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
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
    if name != "grey.mp4":
        assert np.abs(np.mean(frames, (0, 1, 2)) - np.mean(gradient(20, 64, 96), (0, 1, 2))).max() < 4
    if name == "odd.mkv":
        assert (info.width, info.height) == (47, 33)


def hlg(light: np.ndarray) -> np.ndarray:
    """Signal in [0, 1] of scene light in [0, 1] (ITU-R BT.2100)."""
    a = 0.17883277
    upper = a * np.log(np.maximum(12 * light - (1 - 4 * a), 1e-9)) + 0.5 - a * np.log(4 * a)
    return np.where(light <= 1 / 12, np.sqrt(3 * light), upper)


def pq(light: np.ndarray) -> np.ndarray:
    """Signal in [0, 1] of light in cd/m2 (ITU-R BT.2100)."""
    power = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(
    ("curve", "signal"),
    [("arib-std-b67", hlg(np.array([0.265, 0.0662, 0.0]))), ("smpte2084", pq(np.array([203.0, 203 / 4, 0.0])))],
)
def test_hdr_video_has_the_brightness_of_any_other(tmp_path: Path, curve: str, signal: np.ndarray) -> None:
    """White of BT.2408 (75 % of HLG, 203 cd/m2 of PQ), a quarter of its light, and black."""
    path = tmp_path / "phone.mov"
    luma = np.repeat(np.round(64 + 876 * signal).astype("<u2"), 32)
    picture = np.tile(luma, (64, 1)).tobytes() + np.full(2 * 32 * 48, 512, "<u2").tobytes()
    (tmp_path / "raw").write_bytes(picture * 5)
    tags = f"setparams=range=tv:color_primaries=bt2020:color_trc={curve}:colorspace=bt2020nc"
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "96x64", "-i", tmp_path / "raw"]
    ffmpeg(*raw, "-vf", tags, "-c:v", "libx264", "-crf", 4, path)
    assert video.probe(path).hdr == curve
    frame = next(iter(video.read_frames(path))).astype(int)
    white, quarter, black = (frame[20:40, x : x + 12].mean((0, 1)) for x in (10, 42, 74))
    assert white.min() > 245
    assert np.abs(quarter - 255 * 0.25 ** (1 / 2.2)).max() < 15
    assert black.max() < 5


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
    talking, tone = tmp_path / "talking.mp4", ("-f", "lavfi", "-i", f"sine=duration={seconds}")
    ffmpeg("-i", clip, *tone, "-c:v", "copy", "-c:a", "aac", "-metadata", "title=audio:0k", talking)
    assert video.probe(talking).has_audio
    video.write_video(tmp_path / "out.mp4", gradient(20, 64, 64), fps=25, audio_from=talking)
    assert video.probe(tmp_path / "out.mp4").has_audio
    assert len(list(video.read_frames(tmp_path / "out.mp4"))) == 20
    assert video.probe(tmp_path / "out.mp4").duration == pytest.approx(0.8, abs=0.1)
    video.write_video(tmp_path / "mute.mp4", gradient(20, 64, 64), fps=25, audio_from=clip)
    assert not video.probe(tmp_path / "mute.mp4").has_audio


@pytest.mark.parametrize("name", ["cut.mkv", "cut.webm", "silent_at_last.mkv", "unknown.mkv", "title.mp4"])
def test_sound_that_cannot_be_heard_is_left_out(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A track without a packet, one that is over before the pictures begin, one in no known coding, and a word."""
    monkeypatch.setattr(video, "_STALL_S", 5.0)
    source, tone = tmp_path / name, ["-f", "lavfi", "-i", "sine=duration=0.3"]
    if name.startswith("cut"):
        coding = ["-c:v", "libvpx", "-c:a", "libopus"] if name == "cut.webm" else ["-c:v", "libx264", "-c:a", "aac"]
        whole = source.with_stem("whole")
        ffmpeg("-i", clip, *tone, "-g", 1, *coding, whole)
        ffmpeg("-ss", 0.5, "-i", whole, "-c", "copy", source)
    elif name == "silent_at_last.mkv":
        ffmpeg("-itsoffset", 2, "-i", clip, *tone, "-c:v", "copy", "-c:a", "aac", source)
    elif name == "unknown.mkv":
        ffmpeg("-i", clip, *tone, "-c:v", "copy", "-c:a", "pcm_s16le", source)
        data = source.read_bytes()
        assert data.count(b"A_PCM/INT/LIT") == 1
        source.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_NOT/OF/THIS"))
    else:
        ffmpeg("-i", clip, "-c", "copy", "-metadata", "title=Lesson 3: Audio: mixing", source)
    video.write_video(tmp_path / "made.mp4", gradient(200, 64, 96), fps=25, audio_from=source)
    made = video.probe(tmp_path / "made.mp4")
    assert (made.n_frames, made.has_audio) == (200, False)


def test_an_encoder_that_hangs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = tmp_path / "lazy"
    lazy.write_text("#!/bin/sh\nexec sleep 60\n")
    lazy.chmod(0o755)
    monkeypatch.setattr(video, "_STALL_S", 1.0)
    monkeypatch.setattr(video, "ffmpeg_exe", lambda: str(lazy))
    with pytest.raises(UserError, match=r"made.mp4: cannot be written \(ffmpeg took no frame for 1 s\)"):
        video.write_video(tmp_path / "made.mp4", gradient(30, 256, 256), fps=25)


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


def test_late_is_counted_from_the_begin_of_the_file() -> None:
    """Cut out of a longer recording, a file may begin at another time than 0."""
    head = "  Duration: 00:00:03.00, start: 5.000000, bitrate: 100 kb/s"
    assert video._late(head, "Video: h264, 64x64, 25 fps, start 5.480000") == pytest.approx(0.48)
    assert video._late(head, "Video: h264, 64x64, 25 fps, start 5.000000") == 0
    assert video._late(head, "Video: h264, 64x64, 25 fps") == 0


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


WORDS = [
    "Duration: 99:00:00.00, start: 5.000000 rotation of 90 degrees",
    "Stream #0:0: Video: h264, 100 fps, start 7.000000",
    "\n  Duration: 98:00:00.00, start: 5.000000, bitrate: 1 kb/s\n  Stream #0:1: Audio: aac\n",
    "\n      displaymatrix: rotation of 90.00 degrees\nOutput #0, null\n  Stream #0:0: Video: wrapped_avframe, 9x9\n",
    "x\r\nMetadata:\n  Stream #0:0: Video: wrapped_avframe (/smpte2084), 9x9, 100 fps",
]


@pytest.mark.parametrize("words", WORDS)
def test_tags_and_names_are_not_taken_for_what_ffmpeg_says(clip: Path, tmp_path: Path, words: str) -> None:
    tags = [f"-metadata{of}" for of in ("", ":s:v:0")]
    named = Path(tmp_path, words.replace("/", "") + "':.mkv")
    plain, tagged = tmp_path / "plain.mkv", tmp_path / "tagged.mkv"
    ffmpeg("-i", clip, "-c", "copy", plain)
    key = "Stream #0:0(x): Video: wrapped_avframe, 9x9, 100 fps, start 7.0"
    ffmpeg(
        "-i", clip, "-c", "copy", *(w for tag in tags for w in (tag, f"title={words}", tag, f"{key}={words}")), tagged
    )
    named.write_bytes(tagged.read_bytes())
    assert video.probe(tagged) == video.probe(plain)
    assert video.probe(named) == video.probe(plain)


def test_a_language_is_no_stream(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "spoken.mkv"
    ffmpeg("-i", clip, "-c", "copy", "-metadata:s:v:0", "language=x: Video: y (attached pic), 100 fps", path)
    assert video.probe(path).fps == 25


def test_names_are_never_options_or_addresses(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mp4", "http:x.mp4", "ein Bär %03d; rm.mp4", "pipe:0.mp4", "B\udce4r.mp4"):  # the last in Latin-1
        Path(name).write_bytes(clip.read_bytes())
        frames = list(video.read_frames(name))
        assert len(frames) == 20
        video.write_video(f"copy of {name}", frames, 25, audio_from=name)
        assert len(list(video.read_frames(f"copy of {name}"))) == 20


def test_a_video_can_open_nothing_but_files(clip: Path) -> None:
    command = video._command(video.pictures(clip).output("-", format="null"))
    assert command[command.index("-protocol_whitelist") + 1] == "file,pipe"


def test_an_ffmpeg_that_is_not_there(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    video.ffmpeg_exe.cache_clear()
    try:
        with pytest.raises(UserError, match="IMAGEIO_FFMPEG_EXE is '/nowhere/ffmpeg', which is no program"):
            video.probe(clip)
    finally:
        video.ffmpeg_exe.cache_clear()


def test_unfinished_output_never_appears(tmp_path: Path) -> None:
    def breaks_off():
        yield from gradient(3, 32, 32)
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        video.write_video(tmp_path / "out.mp4", breaks_off(), fps=25)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no frames"):
        video.write_video(tmp_path / "out.mp4", [], fps=25)


def test_a_reader_that_is_given_up_ends_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more frames left than a pipe holds, it would wait for ever for somebody to read them."""
    source, started, real = tmp_path / "long.mp4", [], subprocess.Popen
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=4", "-c:v", "libx264", source)
    info = video.probe(source)

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen:
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    reader = video.stream(source, info)
    next(reader)
    assert started[-1].poll() is None
    reader.close()
    assert [process.poll() is not None for process in started] == [True]


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
