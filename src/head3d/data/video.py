"""Reading and writing video files: the only module that runs ffmpeg.

ffmpeg-python builds the graphs (``ffmpeg.compile`` gives the argument list) and imageio-ffmpeg brings the binary. A
video may be anybody's: only real video containers are opened (no playlists, no network), every wait has a time limit,
and a file that cannot be read raises :class:`head3d.errors.UserError` with ffmpeg's own last words.
"""

import array
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from head3d.data.ffmpeg_log import last_words, own_words
from head3d.errors import UserError
from head3d.files import replacing

_ENDINGS = "mp4 m4v mov 3gp 3g2 mkv webm avi mpg mpeg ts mts m2ts flv wmv asf ogv ogg gif y4m nut mxf"
EXTENSIONS = frozenset(f".{ending}" for ending in _ENDINGS.split())
# Containers that hold their frames themselves. Playlists (hls, concat, dash) could make ffmpeg open other files, and
# the text demuxer would turn a renamed text file into a "video".
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,yuv4mpegpipe,nut,mxf"
_MAX_SIDE = 8192  # pixels; a header may claim any size, and one frame must fit into memory
_MAX_FPS = 240.0
_STALL_S = 60.0  # seconds without a single frame after which a file counts as unreadable
_SKIPPED_FPS = 10.0  # frames before the first wanted one that are decoded a second, at the slowest
_NTSC = {23.98: 24000 / 1001, 29.97: 30000 / 1001, 59.94: 60000 / 1001, 119.88: 120000 / 1001, 14.99: 15000 / 1001}
# Video for HDR screens, by its transfer curve. The white of ordinary pictures is 203 cd/m2 there (ITU-R BT.2408); what
# is brighter, lamps and reflections, is cut off, so that faces keep their brightness.
_HDR = ("arib-std-b67", "smpte2084")
_HDR_WHITE = 203
_SQUARE_PIXELS = {"width": "trunc(iw*if(sar,sar,1)+0.5)", "height": "ih"}


@dataclass(frozen=True)
class VideoInfo:
    """What a video shows after rotation and with square pixels.

    ``n_frames`` counts the stored frames (0 where the container cannot tell); ``duration`` is in seconds, ``rotation``
    in degrees as the file states it (already applied to ``width`` and ``height``). ``late`` is by how many seconds the
    picture begins after the file does: after its sound, mostly. ``hdr`` is the transfer curve of a video for HDR
    screens, ``arib-std-b67`` (HLG) or ``smpte2084`` (PQ), as ffmpeg calls it.
    """

    width: int
    height: int
    fps: float
    n_frames: int
    duration: float
    rotation: int
    has_audio: bool
    late: float = 0.0
    hdr: str | None = None


@lru_cache(maxsize=1)
def ffmpeg_exe() -> str:
    """Path of the ffmpeg binary: ``IMAGEIO_FFMPEG_EXE`` if set, else the one in imageio-ffmpeg's wheel.

    Raises:
        UserError: there is none.
    """
    import imageio_ffmpeg

    try:
        found = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError("no ffmpeg was found", fix="pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE") from error
    if shutil.which(found) is None:
        raise UserError(
            f"IMAGEIO_FFMPEG_EXE is {found!r}, which is no program", fix="set it to an ffmpeg, or not at all"
        )
    return found


def probe(path: str | os.PathLike) -> VideoInfo:
    """Size, rate and length of a video; decodes its first frame, so a file that passes can be read."""
    path = existing_file(path)
    graph = pictures(path).filter("scale", **_SQUARE_PIXELS).filter("setsar", "1")
    log = run_graph(graph.output("-", format="null", vframes=1), path)
    head, _, tail = own_words(log, _url(path)).partition("\nOutput #0")
    shown = re.search(r"^ +Stream #0:.*: Video: wrapped_avframe.*?, (\d+)x(\d+)", tail, re.MULTILINE)
    # the last ": Video: " of its line: a language in parentheses before it may be any words
    stream = re.search(r"^ +Stream #0:.*: Video: (?!.*\(attached pic\))(.*)", head, re.MULTILINE)
    if not shown or not stream:
        raise UserError(f"{path}: not a readable video ({last_words(log)})")
    width, height = int(shown[1]), int(shown[2])
    if max(width, height) > _MAX_SIDE or min(width, height) < 2:
        raise UserError(f"{path}: frames of {width}x{height} pixels", allowed=f"2 to {_MAX_SIDE} pixels a side")
    rate = re.search(r"([\d.]+)(k?) fps", stream[1]) or re.search(r"([\d.]+)(k?) tb[rn]", stream[1])
    fps = float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0
    fps = _NTSC.get(round(fps, 2), fps) or 25.0
    rotation = re.search(r"^ +display ?matrix: rotation of (-?[\d.]+) degrees", head, re.MULTILINE | re.IGNORECASE)
    stated = re.search(r"^ +Duration: (\d+):(\d+):([\d.]+)", head, re.MULTILINE)
    duration = int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3]) if stated else 0.0
    try:
        counted = run_graph(pictures(path).output("-", format="null", vcodec="copy"), path)
        packets = re.findall(r"frame=\s*(\d+)", counted)
        n_frames = int(packets[-1]) if packets else 0
    except UserError:  # broken further on, or too long to count: what the header says will do
        n_frames = int(duration * fps)
    if fps > _MAX_FPS:  # a time base that passes for a rate: browsers' recordings state neither rate nor duration
        times = _times(path)
        fps = max(1.0, (len(times) - 1) / float(np.ptp(times))) if len(times) > 1 and np.ptp(times) > 0 else 25.0
    duration = duration or n_frames / fps
    return VideoInfo(
        width=width,
        height=height,
        fps=fps,
        n_frames=n_frames,
        duration=duration,
        rotation=round(float(rotation[1])) if rotation else 0,
        has_audio=re.search(r"^ +Stream #0:\d+.*?: Audio: (?!none)", head, re.MULTILINE) is not None,
        late=_late(head, stream[1]),
        hdr=next((curve for curve in _HDR if f"/{curve}" in stream[1]), None),
    )


def _late(head: str, stream: str) -> float:
    """By how many seconds a stream begins after its file, from what ffmpeg says of both."""
    first = re.search(r"^ +Duration: .*, start: (-?[\d.]+)", head, re.MULTILINE)
    own = re.search(r", start (-?[\d.]+)", stream)
    return max(0.0, float(own[1]) - (float(first[1]) if first else 0.0)) if own else 0.0


def drift(path: str | os.PathLike, fps: float) -> float:
    """How far the stored frames are from an even rate at most, in seconds; 0 where the file does not tell.

    Only time stamps are read, nothing is decoded. Phones and screen recorders write uneven ones.
    """
    times = _times(existing_file(path))
    if len(times) < 2:
        return 0.0
    late = times - times[0] - np.arange(len(times)) / fps
    return float(np.ptp(late))


def _times(path: Path) -> np.ndarray:
    """When each stored frame is shown, in order, seconds; empty where the file does not tell."""
    stamps, unit = array.array("q"), 0.0
    command = _command(pictures(path).output("pipe:", format="framecrc", vcodec="copy"))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        watchdog = _Watchdog(run)
        with watchdog:
            for line in run.stdout:
                if found := re.match(rb"#tb 0: (\d+)/(\d+)", line):
                    unit = int(found[1]) / int(found[2])
                elif found := re.match(rb"0, +-?\d+, +(-?\d+),", line):
                    stamps.append(int(found[1]))
        watchdog.stop()
    return np.sort(np.asarray(stamps, np.int64)) * unit if unit else np.empty(0)


def read_frames(
    path: str | os.PathLike, fps: float | None = None, start: int = 0, count: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Frames of a video, one after the other, in constant memory: uint8 ``(H, W, 3)`` RGB.

    Args:
        path: the video; its rotation flag is applied and its pixels are made square.
        fps: frames a second to resample to; ``None`` gives every stored frame once.
        start: index of the first frame to give.
        count: most frames to give; ``None`` gives all.

    A file that breaks off gives the frames before the break; one without any frame raises ``UserError``.
    """
    info = probe(path)
    yield from stream(path, info, fps=fps, start=start, count=count)


def stream(
    path: str | os.PathLike, info: VideoInfo, fps: float | None = None, start: int = 0, count: int | None = None
) -> Generator[np.ndarray, None, None]:
    """:func:`read_frames` for a video that was probed before."""
    path = existing_file(path)
    graph = pictures(path)
    if info.hdr:
        coded = {"matrixin": "2020_ncl", "primariesin": "2020", "transferin": info.hdr}
        graph = graph.filter("zscale", **coded, transfer="linear", npl=_HDR_WHITE).filter("format", "gbrpf32le")
        graph = graph.filter("zscale", primaries="709").filter("tonemap", "clip")
        graph = graph.filter("zscale", transfer="709", matrix="709", range="tv").filter("format", "yuv444p")
    if fps is not None:
        graph = graph.filter("fps", fps=fps)
    if start:
        graph = graph.filter("trim", start_frame=start)
    # The size is fixed here, so that a stream that changes its size on the way cannot shift the bytes.
    graph = graph.filter("scale", width=info.width, height=info.height).filter("setsar", "1")
    options: dict[str, Any] = {"format": "rawvideo", "pix_fmt": "rgb24", "fps_mode": "passthrough"}
    if count is not None:
        options["vframes"] = count
    shape = (info.height, info.width, 3)
    n_bytes, given = info.height * info.width * 3, 0
    with tempfile.TemporaryFile() as log:
        command = _command(graph.output("pipe:", **options))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=n_bytes
        )
        assert process.stdout is not None
        watchdog = _Watchdog(process, start / _SKIPPED_FPS)
        try:
            while True:
                with watchdog:
                    data = process.stdout.read(n_bytes)
                if len(data) < n_bytes:
                    break
                given += 1
                yield np.frombuffer(data, np.uint8).reshape(shape)
            process.wait(_STALL_S)
        finally:
            watchdog.stop()
            process.kill()
            process.wait()
            process.stdout.close()
        if watchdog.fired:  # not where the file ends or breaks off, but wherever a slow disk or a busy machine had it
            raise UserError(f"{path}: no frame came for {_STALL_S:.0f} s, after {given}", fix="try again")
        if given == 0 and count != 0 and start == 0:
            log.seek(0)
            raise UserError(f"{path}: not a readable video ({last_words(log.read().decode(errors='replace'))})")


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    audio_from: str | os.PathLike | None = None,
    crf: int = 16,
    comment: str | None = None,
) -> None:
    """Write uint8 ``(H, W, 3)`` RGB frames as H.264 (yuv420p) in an mp4, streaming; the file appears when complete.

    Odd sizes are padded to even ones, as yuv420p needs. ``audio_from`` names a video whose sound is taken along, if it
    has any, cut to the length of the frames.
    """
    path = Path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{path}: there are no frames to write")
    sound = None if audio_from is None else _sound(existing_file(audio_from))
    with replacing(path) as file, tempfile.TemporaryFile() as log:
        command = [*_command(_encoder(file, first, fps, sound, crf, comment), stdin=True), "-y"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        assert process.stdin is not None
        watchdog = _Watchdog(process)
        try:
            try:
                for frame in chain((first,), frames):
                    if frame.shape != first.shape or frame.dtype != np.uint8:
                        raise ValueError(f"frame of {frame.shape} {frame.dtype}, expected {first.shape} uint8")
                    with watchdog:
                        process.stdin.write(np.ascontiguousarray(frame).tobytes())
                with watchdog:
                    process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg gave up (full disk) or `shortest` ended it; its exit status tells which
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STALL_S * 10)
            if watchdog.fired or process.returncode is None:
                raise UserError(f"{path}: cannot be written (ffmpeg took no frame for {_STALL_S:.0f} s)")
            if process.returncode != 0:
                log.seek(0)
                raise UserError(f"{path}: cannot be written ({last_words(log.read().decode(errors='replace'))})")
        finally:
            watchdog.stop()
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):  # frames that nobody reads any more
                process.stdin.close()


def _encoder(file: Path, first: np.ndarray, fps: float, sound: Any, crf: int, comment: str | None) -> Any:
    """The graph from raw frames like the first one, and perhaps sound, to an mp4."""
    height, width = first.shape[:2]
    picture = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=fps)
    picture = picture.filter("pad", "ceil(iw/2)*2", "ceil(ih/2)*2")
    picture = picture.filter("scale", out_color_matrix="bt709", out_range="tv")
    streams, options = [picture], {}
    if sound is not None:
        # apad: sound that ends before the frames is continued with silence, or `shortest` would cut the frames off
        streams.append(sound.filter("apad"))
        options = {"acodec": "aac", "shortest": None}
    if comment is not None:
        options["metadata"] = f"comment={comment}"
    colours = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
    coding = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": crf, **colours}
    return ffmpeg.output(*streams, node(file), format="mp4", movflags="+faststart", **coding, **options)


def _sound(path: Path) -> Any:
    """The sound that goes with the pictures of a video, from their beginning on; None if there is none to be heard.

    A track may be empty, in another coding than ffmpeg knows, or over before the pictures begin: `apad` would make
    silence of it without end, while `shortest` waits for its first sample.
    """
    given = probe(path)
    if not given.has_audio:
        return None
    sound = _input(path).audio
    if given.late > 0:  # the frames begin at 0 in what is written, so must what was heard with them
        sound = sound.filter("atrim", start=given.late).filter("asetpts", f"PTS-{given.late}/TB")
    try:
        log = run_graph(sound.output("-", format="null", aframes=10), path)
    except UserError:
        return None
    written = re.findall(r"audio:(\d+(?:\.\d+)?)[kK]", log)  # the last one: a title may have such words, too
    return None if written and float(written[-1]) == 0 else sound


class _Watchdog:
    """Kills a process on which one ``with`` block waits for longer than ``_STALL_S`` seconds, the first one longer."""

    def __init__(self, process: subprocess.Popen, first_s: float = 0.0) -> None:
        self.fired, self._more = False, first_s
        self._process, self._deadline, self._done = process, float("inf"), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._deadline, self._more = time.monotonic() + _STALL_S + self._more, 0.0

    def __exit__(self, *_: object) -> None:
        self._deadline = float("inf")

    def stop(self) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            if time.monotonic() > self._deadline:
                self.fired = True
                self._process.kill()
                return


def existing_file(path: str | os.PathLike) -> Path:
    """The path of a file that is there and not empty, or ``UserError``."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such video file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def _url(path: Path) -> str:
    """A file's name for ffmpeg, which would take ``http:…`` for an address and ``-y.mp4`` for an option."""
    return f"file:{path.absolute()}"


def node(path: Path) -> str:
    """A file's name in a graph, each byte a letter: ffmpeg-python wants text, and a name may be none in UTF-8."""
    return os.fsencode(_url(path)).decode("latin-1")


def _input(path: Path) -> Any:
    """The start of an ffmpeg-python graph that reads a file, and nothing but files."""
    return ffmpeg.input(node(path), protocol_whitelist="file,pipe", format_whitelist=_CONTAINERS)


def pictures(path: Path) -> Any:
    """The first stream of moving pictures in a file: not the cover that music and downloaded videos carry."""
    return _input(path)["V:0"]


def _command(graph: Any, stdin: bool = False) -> list[str]:
    words = ffmpeg.compile(graph, cmd=ffmpeg_exe())
    command = [os.fsdecode(word.encode("latin-1")) if word.startswith("file:") else word for word in words]
    return [command[0], "-hide_banner", *([] if stdin else ["-nostdin"]), *command[1:]]


def run_graph(graph: Any, path: Path, failed: str = "not a readable video") -> str:
    """Run a graph that gives no data; ffmpeg's log, or ``UserError`` that names the path, what failed, and why."""
    try:
        done = subprocess.run(_command(graph), stdin=subprocess.DEVNULL, capture_output=True, timeout=_STALL_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{path}: {failed} (nothing came for {_STALL_S:.0f} s)") from error
    log = done.stderr.decode(errors="replace")
    if done.returncode != 0:
        raise UserError(f"{path}: {failed} ({last_words(log)})")
    return log
