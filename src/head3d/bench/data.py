"""From a video's file to a batch: decoding, clips, head masks, the clip store, and LPIPS."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from head3d.assets.cache import fetch
from head3d.bench.made_up import write_clips
from head3d.bench.rows import Row, compute_of, in_turns
from head3d.data import video
from head3d.data.crop import clips_of, crop_clip
from head3d.data.faces import FaceTracker
from head3d.data.footage import survey
from head3d.data.sources import Video
from head3d.data.store import ClipStore
from head3d.evaluation.metrics import Lpips
from head3d.parallel import threads_each
from head3d.params import Params
from head3d.training.batches import augment, load_clips
from head3d.training.seeds import step_generator

VIDEO = "video-cap12"  # 1,337 frames of 400x300
CLIPS = 200  # of the made-up store
FRAMES = 6  # of each clip of a batch
SECONDS = 2.0  # that the store and the batches are read for


def rate(frames_of: Callable[[], int], seconds: float = SECONDS) -> float:
    """Frames a second of work that says how many frames it did; the first, cold, piece of it does not count."""
    frames_of()
    start, frames = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not frames:
        frames += frames_of()
    return frames / spent


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Measure all of it."""
    yield from from_video(params)
    yield from from_store(params)
    yield lpips_row(params, rounds)


def from_video(params: Params) -> Iterator[Row]:
    """How near reading, following faces and cutting come to what ffmpeg alone decodes and scales."""
    path = fetch(VIDEO)
    info = video.probe(path)
    size, length = params.data.image_size, params.data.clip_length

    def alone() -> int:
        graph = f"scale={size}:{size},setsar=1"
        command = [video.ffmpeg_exe(), "-nostdin", "-i", path, "-vf", graph, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return info.n_frames

    decoded = rate(alone)
    beside = "ffmpeg decodes and scales"

    def read() -> int:
        return sum(1 for _ in video.stream(path, info))

    frames = list(video.stream(path, info, count=length))
    tracker = FaceTracker(params.data.crop.min_face)

    def clip() -> int:
        crop_clip(frames, tracker, params)
        return length

    def whole() -> int:
        return sum(1 for _ in survey(path, params).crops(params.data.image_size))

    threads = threads_each()
    videos = [Video("mini", f"{number}", "cap", path, unseen=False) for number in range(threads)]

    def stage() -> int:
        found = clips_of(videos, {(one.source, one.name): one.name for one in videos}, 0, params)
        return length * sum(frames is not None for _, frames, _ in found)

    for what, work in (("video into memory", read), ("a clip of frames in memory", clip), ("video to crops", whole)):
        yield Row("data", what, "", rate(work), "frames/s", beside, decoded, scale=params.scale)
    way = f"{threads} video{'s' * (threads > 1)} at a time"
    yield Row("data", "videos to clips", way, rate(stage), "frames/s", beside, decoded, scale=params.scale)


def from_store(params: Params) -> Iterator[Row]:
    """Reading what the stages before left, with the files in the operating system's memory."""
    size, length, batch = params.data.image_size, params.data.clip_length, params.fusion.batch_size
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), CLIPS, size, length)
        store = ClipStore(folder)
        records, draw = store.records("train"), np.random.default_rng(0)

        def some() -> int:
            for clip in draw.permutation(len(records)):
                store.frames(records[clip], draw.permutation(length)[:FRAMES])
            return FRAMES * len(records)

        def all_of_it() -> int:
            return sum(len(store.frames(record)) for record in records)

        for work in (some, all_of_it):  # once through all, so that nothing waits for the disk
            work()
        for way, work in ((f"{FRAMES} random frames a clip", some), ("whole clips", all_of_it)):
            yield Row("data", "clip store", way, rate(work), "frames/s", scale=params.scale)
        clips, step = load_clips(store, "train", params), 0

        def batches(augmented: bool) -> int:
            nonlocal step
            step += 1
            loaded = clips.load(*clips.sample_indices(params.seed, step, batch, FRAMES))
            if augmented:
                augment(loaded, params.augment, step_generator(params.seed, step), clips.k, clips.distance_m)
            return batch * FRAMES

        for way, augmented in (("as tensors", False), ("augmented too", True)):
            yield Row("data", f"training batches of {batch * FRAMES} frames", way,
                      rate(lambda augmented=augmented: batches(augmented)), "frames/s", scale=params.scale)  # fmt: skip


def lpips_row(params: Params, rounds: int) -> Row:
    """LPIPS of a clip's second half: the package frame by frame, ours on all frames at once."""
    size, count = params.data.image_size, params.data.clip_length // 2
    metric, compute = Lpips("alex"), compute_of(params)
    metric.to(compute.device)
    made, truth = torch.rand(2, count, 3, size, size, device=compute.device)
    known = metric.features(truth)  # kept: all methods are compared with the same frames

    @torch.inference_mode()
    def one_by_one() -> None:
        for a, b in zip(made, truth, strict=True):
            metric.metric(2 * a[None] - 1, 2 * b[None] - 1)

    def together() -> None:
        metric.distance(metric.features(made), known)

    plain, fast = in_turns(one_by_one, together, rounds)
    return Row("data", f"LPIPS (AlexNet), {count} frames", "together, truth's kept", fast, "ms",
               "the package, one by one", plain, scale=params.scale, on=compute)  # fmt: skip
