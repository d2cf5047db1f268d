"""Stage ``crop``: one steady square box around the head of every clip, as in FOMM's preprocessing.

The face is detected every few frames and followed, its landmarks are found on every frame at full resolution, and
:mod:`head3d.data.boxes` makes one box of them.
"""

import contextlib
import hashlib
import itertools
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from head3d import tracking
from head3d.data import boxes, faces, sources, video
from head3d.data.box_tracker import BoxTracker
from head3d.data.boxes import Rejected, Square
from head3d.data.clips import Window, windows
from head3d.data.store import LISTING, ClipRecord, NpyWriter, write_records
from head3d.data.voxceleb import RAGGED_S
from head3d.errors import UserError
from head3d.files import replacing_directory
from head3d.parallel import chained, threads_each

if TYPE_CHECKING:
    from head3d.params import Params

_WORKING_SIDE = (
    2048  # pixels; larger frames are shrunk to this while they are read, so that forty of them fit in memory
)
_MOST_THREADS = 4  # each has the frames of a clip in memory; landmarks are found by one at a time, so more gain little
_MOST_BYTES = 128_000_000  # of clips that wait, in each thread, until those of the videos before are written


def working_size(info: video.VideoInfo) -> tuple[video.VideoInfo, float]:
    """The size at which a video is read, and how much smaller that is than the video."""
    shrink = max(1.0, max(info.width, info.height) / _WORKING_SIDE)
    smaller = replace(info, width=max(2, round(info.width / shrink)), height=max(2, round(info.height / shrink)))
    return smaller, shrink


def crop_clip(
    frames: Sequence[np.ndarray], tracker: faces.FaceTracker, params: "Params"
) -> tuple[np.ndarray, np.ndarray, Square]:
    """One clip: frames uint8 ``(T, S, S, 3)``, landmarks float32 ``(T, 68, 2)`` and its box; or :class:`Rejected`."""
    crop, size = params.data.crop, params.data.image_size
    if boxes.cut_strength(frames).max(initial=0.0) > crop.max_cut:
        raise Rejected("a cut")
    tracker.restart()
    detections = [
        boxes.detect_in_frame(index, frames[index], tracker)
        for index in boxes.detection_indices(len(frames), crop.detect_every)
    ]
    boxes.check_steady(detections, crop.min_iou)
    height, width = frames[0].shape[:2]
    square = boxes.square_box(detections, height, width, crop.margin)
    boxes.check_rivals(detections, square)
    between, good = boxes.boxes_between(detections, len(frames)), boxes.reliable_frames(detections, len(frames))
    points = np.full((len(frames), 68, 2), np.nan, np.float32)
    for index, frame in enumerate(frames):
        if good[index]:
            points[index] = square.map(faces.landmarks(frame, tuple(between[index])), size)
    return np.stack([square.cut(frame, size) for frame in frames]), boxes.smooth_landmarks(points), square


# A record, and of a usable clip its frames uint8 (T, S, S, 3) and landmarks float32 (T, 68, 2).
Clip = tuple[ClipRecord, np.ndarray | None, np.ndarray | None]


def run(params: "Params", shard: int) -> None:
    """Stage ``crop``, one shard: ``data/clips/shard-K/{frames.npy, landmarks.npy, clips.csv}``."""
    if shard not in params.shards:
        raise UserError(f"there is no shard {shard}", allowed=", ".join(map(str, params.shards)))
    found = sources.videos(params)
    sized, stems = sources.measured(found), sources.stems(found)
    hands = sources.deal(sized, len(params.shards))
    mine = hands[list(params.shards).index(shard)]
    size, length = params.data.image_size, params.data.clip_length
    records: list[ClipRecord] = []
    with (
        tracking.run(stage="crop", params=params, instance=f"shard-{shard}") as tracked,
        replacing_directory(Path("data/clips") / f"shard-{shard}") as folder,
    ):
        frames = NpyWriter(folder / "frames.npy", (length, size, size, 3), np.uint8)
        points = NpyWriter(folder / "landmarks.npy", (length, 68, 2), np.float32)
        with contextlib.closing(clips_of(mine, stems, shard, params)) as clips:
            for record, clip, landmarks in clips:
                if clip is not None and landmarks is not None:
                    record = replace(record, row=frames.rows)
                    frames.append(clip)
                    points.append(landmarks)
                records.append(record)
        frames.close()
        points.close()
        write_records(folder / "clips.csv", records)
        (folder / LISTING).write_text(f"{sources.listing(sized)} {len(params.shards)}\n")
        used = sum(record.row >= 0 for record in records)
        tracked.metrics({"videos": len(mine), "clips": used, "clips_left_out": len(records) - used}, step=0)


def clips_of(
    videos: Sequence[sources.Video], stems: Mapping[tuple[str, str], str], shard: int, params: "Params"
) -> Generator[Clip]:
    """The clips of all videos in their order, which several threads make, each of a video.

    Args:
        videos: what is cropped.
        stems: begin the clips' ids, by a video's source and name.
        shard: of which the clips will be.
        params: of the pipeline.
    """
    size, length = params.data.image_size, params.data.clip_length
    ahead = max(1, _MOST_BYTES // (length * size * size * 3))
    with tqdm(desc=f"crop {shard}", unit="clip", disable=None) as bar:

        def cropped(one: sources.Video) -> Iterator[Clip]:
            for clip in video_clips(one, stems[one.source, one.name], shard, params):
                with bar.get_lock():
                    bar.update()
                yield clip

        yield from chained(cropped, videos, min(_MOST_THREADS, threads_each()), ahead)


def video_clips(one: sources.Video, stem: str, shard: int, params: "Params") -> Iterator[Clip]:
    """The clips of one video, which have no rows yet; whatever is wrong costs only itself.

    ``stem`` begins their ids (:func:`head3d.data.sources.stems`).
    """
    data = params.data
    base = {"shard": shard, "source": one.source, "video": one.name, "person": one.person}
    nothing = {"row": -1, "x0": 0.0, "y0": 0.0, "x1": 0.0, "y1": 0.0, "split": "unused", "pixels_sha256": ""}

    def left_out(start: int, fps: float, reason: str) -> Clip:
        name = f"{stem}-{start:06d}"
        return ClipRecord(clip_id=name, start_frame=start, fps=fps, status=reason, **base, **nothing), None, None

    try:
        info, shrink = working_size(video.probe(one.path))
    except UserError as error:
        yield left_out(0, 0.0, f"unreadable: {_short(error)}")
        return
    fps = data.fps or info.fps
    n_frames = info.n_frames if data.fps is None else int(info.n_frames / info.fps * data.fps)
    first, n_frames = _within(one, info, fps, n_frames)
    chosen = windows(
        one.name,
        one.source,
        one.unseen,
        n_frames,
        fps,
        length=data.clip_length,
        most=data.clips_per_video,
        seen_fraction=data.seen_fraction,
        gap_s=data.split_gap_s,
        seed=params.seed,
    )
    if not chosen:
        yield left_out(0, fps, "too short")
        return
    chosen = [replace(window, start=first + window.start) for window in chosen]
    tracker = faces.FaceTracker(data.crop.min_face)
    if one.box is not None:
        tracker = BoxTracker(data.crop.min_face, one.box.within(info.width, info.height))
    for window, stack in _window_frames(one.path, info, data.fps, chosen, data.clip_length, first):
        if isinstance(stack, UserError):
            yield left_out(window.start, fps, f"unreadable: {_short(stack)}")
            continue
        if len(stack) < data.clip_length:
            yield left_out(window.start, fps, "too short")
            continue
        try:
            clip, landmarks, square = crop_clip(stack, tracker, params)
        except Rejected as reason:
            yield left_out(window.start, fps, str(reason))
            continue
        record = ClipRecord(
            clip_id=f"{stem}-{window.start:06d}",
            row=-1,
            start_frame=window.start,
            fps=fps,
            x0=round(shrink * square.x0, 3),
            y0=round(shrink * square.y0, 3),
            x1=round(shrink * (square.x0 + square.side), 3),
            y1=round(shrink * (square.y0 + square.side), 3),
            status="ok",
            split=window.split,
            pixels_sha256=hashlib.sha256(clip.tobytes()).hexdigest(),
            **base,
        )
        yield record, clip, landmarks


def _within(one: sources.Video, info: video.VideoInfo, fps: float, n_frames: int) -> tuple[int, int]:
    """First frame and number of frames that clips may be taken of."""
    if one.span is None and one.box is None:
        return 0, n_frames
    # What was cut out of a longer video holds stored frames before its begin that are never shown, so that its duration
    # counts, not they; and where it ends, frames that others were needed for are missing between those that are there.
    n_frames = min(n_frames, max(0, int((info.duration - RAGGED_S) * fps)))
    if one.span is None:
        return 0, n_frames
    first = math.ceil(one.span[0] * fps)
    return first, max(0, min(n_frames, int(one.span[1] * fps)) - first)


def _window_frames(
    path: Path, info: video.VideoInfo, fps: float | None, chosen: list[Window], length: int, first: int = 0
):
    """The frames of each window, reading the video once; short or none where it ends or breaks off.

    Nothing before the frame ``first`` is handed over.
    """
    reader = video.stream(path, info, fps=fps, start=first)
    position, problem = first, None
    for window in chosen:
        stack: list[np.ndarray] = []
        try:
            for _ in itertools.islice(reader, window.start - position):
                pass
            stack = list(itertools.islice(reader, length))
        except UserError as error:
            problem = error
        position = window.start + length
        yield window, problem or stack
    reader.close()


def _short(error: UserError) -> str:
    return error.what.split(": ", 1)[-1][:200]
