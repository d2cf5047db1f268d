"""Stage ``crop``: one steady square box around the head of every clip, as in FOMM's preprocessing.

The face is detected every few frames and followed, its landmarks are found on every frame at full resolution, and
:mod:`head3d.data.boxes` makes one box of them.
"""

import hashlib
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from head3d import tracking
from head3d.data import boxes, faces, sources, video
from head3d.data.boxes import Rejected, Square
from head3d.data.clips import Window, windows
from head3d.data.given import GivenTracker
from head3d.data.store import ClipRecord, NpyWriter, write_records
from head3d.errors import UserError
from head3d.files import replacing_directory

_WORKING_SIDE = (
    2048  # pixels; larger frames are shrunk to this while they are read, so that forty of them fit in memory
)

_RAGGED_S = 0.25  # seconds at the end of a cut video that are not used


def working_size(info: video.VideoInfo) -> tuple[video.VideoInfo, float]:
    """The size at which a video is read, and how much smaller that is than the video."""
    shrink = max(1.0, max(info.width, info.height) / _WORKING_SIDE)
    smaller = replace(info, width=max(2, round(info.width / shrink)), height=max(2, round(info.height / shrink)))
    return smaller, shrink


def crop_clip(
    frames: Sequence[np.ndarray], tracker: faces.FaceTracker, params: Any
) -> tuple[np.ndarray, np.ndarray, Square]:
    """One clip: frames uint8 ``(T, S, S, 3)``, landmarks float32 ``(T, 68, 2)`` and its box; or :class:`Rejected`."""
    crop, size = params.data.crop, params.data.image_size
    if boxes.cut_strength(frames).max(initial=0.0) > crop.max_cut:
        raise Rejected("a cut")
    tracker.restart()
    looks = [boxes.look(index, frames[index], tracker) for index in boxes.looks_at(len(frames), crop.detect_every)]
    boxes.check_steady(looks, crop.min_iou)
    height, width = frames[0].shape[:2]
    square = boxes.square_box(looks, height, width, crop.margin)
    boxes.check_rivals(looks, square)
    between, good = boxes.boxes_between(looks, len(frames)), boxes.trusted(looks, len(frames))
    points = np.full((len(frames), 68, 2), np.nan, np.float32)
    for index, frame in enumerate(frames):
        if good[index]:
            points[index] = square.map(faces.landmarks(frame, tuple(between[index])), size)
    return np.stack([square.cut(frame, size) for frame in frames]), boxes.steadied(points), square


def crop_video(
    path: str | os.PathLike, params: Any
) -> tuple[np.ndarray, tuple[float, float, float, float], float, np.ndarray]:
    """A whole video of any length with one steady box, for a user's own videos.

    Returns frames uint8 ``(T, S, S, 3)``, the box ``(x0, y0, x1, y1)`` in the video, its frames a second, and landmarks
    float32 ``(T, 68, 2)`` in the crop (NaN where the face was not found). The video is read twice, in constant memory
    but for the result. Raises ``UserError`` if there is no steady face.
    """
    info, shrink = working_size(video.probe(path))
    crop, size, fps = params.data.crop, params.data.image_size, params.data.fps
    tracker, looks, n_frames, last = faces.FaceTracker(crop.min_face), [], 0, None
    for last in video.stream(path, info, fps=fps):
        if n_frames % crop.detect_every == 0:
            looks.append(boxes.look(n_frames, last, tracker))
        n_frames += 1
    if last is not None and looks[-1].index != n_frames - 1:
        looks.append(boxes.look(n_frames - 1, last, tracker))
    if not any(one.box is not None for one in looks):
        raise UserError(f"{path}: no face was found in it", allowed=f"a face of at least {crop.min_face} pixels")
    square = boxes.square_box(looks, info.height, info.width, crop.margin)
    try:
        boxes.check_rivals(looks, square)
    except Rejected as reason:
        raise UserError(f"{path}: {reason}", allowed="one person", fix="cut the video to one person") from reason
    between, good = boxes.boxes_between(looks, n_frames), boxes.trusted(looks, n_frames)
    frames = np.empty((n_frames, size, size, 3), np.uint8)
    points = np.full((n_frames, 68, 2), np.nan, np.float32)
    for index, frame in enumerate(itertools.islice(video.stream(path, info, fps=fps), n_frames)):
        frames[index] = square.cut(frame, size)
        if good[index]:
            points[index] = square.map(faces.landmarks(frame, tuple(between[index])), size)
    x0, y0, side = shrink * square.x0, shrink * square.y0, shrink * square.side
    return frames, (x0, y0, x0 + side, y0 + side), fps or info.fps, boxes.steadied(points)


def run(params: Any, shard: int) -> None:
    """Stage ``crop``, one shard: ``data/clips/shard-K/{frames.npy, landmarks.npy, clips.csv}``."""
    if shard not in params.shards:
        raise UserError(f"there is no shard {shard}", allowed=", ".join(map(str, params.shards)))
    found = sources.videos(params)
    hands, stems = sources.deal(found, len(params.shards)), sources.stems(found)
    mine = hands[list(params.shards).index(shard)]
    size, length = params.data.image_size, params.data.clip_length
    records: list[ClipRecord] = []
    with (
        tracking.run(stage="crop", params=params, instance=f"shard-{shard}") as tracked,
        replacing_directory(Path("data/clips") / f"shard-{shard}") as folder,
    ):
        frames = NpyWriter(folder / "frames.npy", (length, size, size, 3), np.uint8)
        points = NpyWriter(folder / "landmarks.npy", (length, 68, 2), np.float32)
        with tqdm(desc=f"crop {shard}", unit="clip", disable=None) as bar:
            for one in mine:
                for record, clip, landmarks in video_clips(
                    one, stems[one.source, one.name], shard, frames.rows, params
                ):
                    if clip is not None and landmarks is not None:
                        frames.append(clip)
                        points.append(landmarks)
                    records.append(record)
                    bar.update()
        frames.close()
        points.close()
        write_records(folder / "clips.csv", records)
        used = sum(record.row >= 0 for record in records)
        tracked.metrics({"videos": len(mine), "clips": used, "clips_left_out": len(records) - used}, step=0)


def video_clips(one: sources.Video, stem: str, shard: int, row: int, params: Any):
    """The clips of one video: ``(record, frames or None, landmarks or None)``; whatever is wrong costs only itself.

    ``stem`` begins their ids (:func:`head3d.data.sources.stems`), ``row`` is the row that the first usable one will
    have.
    """
    data = params.data
    base = {"shard": shard, "source": one.source, "video": one.name, "person": one.person}
    nothing = {"row": -1, "x0": 0.0, "y0": 0.0, "x1": 0.0, "y1": 0.0, "split": "unused", "pixels_sha256": ""}

    def left_out(start: int, fps: float, reason: str):
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
        tracker = GivenTracker(data.crop.min_face, one.box.within(info.width, info.height))
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
            row=row,
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
        row += 1
        yield record, clip, landmarks


def _within(one: sources.Video, info: video.VideoInfo, fps: float, n_frames: int) -> tuple[int, int]:
    """First frame and number of frames that clips may be taken of."""
    if one.span is None and one.box is None:
        return 0, n_frames
    # What was cut out of a longer video holds stored frames before its begin that are never shown, so that its duration
    # counts, not they; and where it ends, frames that others were needed for are missing between those that are there.
    n_frames = min(n_frames, max(0, int((info.duration - _RAGGED_S) * fps)))
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
