"""The driving loop from a video's file to a video's file, by the trained networks in ``models/``, and its parts."""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from head3d import use
from head3d.assets.cache import fetch
from head3d.bench.data import VIDEO, rate
from head3d.bench.rows import Row, Work, timed
from head3d.compute import Compute
from head3d.data import video
from head3d.data.footage import survey
from head3d.images import to_frames, to_tensor
from head3d.options import Options
from head3d.params import Params

FRAMES = 120  # of the driving video


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Frames a second with either parser, and milliseconds a frame of each part with the small one.

    Raises:
        UserError: the networks are not trained.
    """
    models = {parser: use.load(Options(params=params, parser=parser)) for parser in ("full", "small")}
    with tempfile.TemporaryDirectory() as name:
        given, out = Path(name) / "in.mp4", Path(name) / "out.mp4"
        path = fetch(VIDEO)
        info = video.probe(path)
        video.write_video(given, islice(video.stream(path, info), FRAMES), fps=info.fps)
        person = use.prepare_person(models["full"], given, Options())

        def whole(parser: str) -> int:
            use.transfer(models[parser], person, given, out)
            return FRAMES

        full, small = (rate(lambda parser=parser: whole(parser)) for parser in ("full", "small"))
        compute, processor = models["small"].compute, Compute.resolve("cpu")
        yield Row("loop", "driving, from file to file", "small parser", small, "frames/s", "face parser", full,
                  scale=params.scale, on=compute)  # fmt: skip

        model, footage = models["small"], survey(given, params, name="driving")
        crops = list(footage.crops(params.data.image_size))
        count = len(crops)
        frames = to_tensor(np.stack(crops))
        points = footage.landmarks(range(count), params.data.image_size)
        masks = model.driving_masks(frames, points)
        poses = model.pose(frames, masks)
        made = to_frames(model.animate(person.subject, frames, masks, pose=poses).frames)
        parts: dict[str, tuple[Work, Compute]] = {
            "the face followed": (lambda: survey(given, params, name="driving"), processor),
            "read and cropped": (lambda: list(footage.crops(params.data.image_size)), processor),
            "the head found, small parser": (lambda: model.driving_masks(frames, points), compute),
            "the head found, face parser": (lambda: models["full"].driving_masks(frames, points), compute),
            "the pose": (lambda: model.pose(frames, masks), compute),
            "rendered and fused": (lambda: model.animate(person.subject, frames, masks, pose=poses), compute),
            "written": (lambda: video.write_video(out, iter(made), fps=info.fps), processor),
        }
        for what, (work, on) in parts.items():
            each = min(timed(work) for _ in range(rounds)) / count
            yield Row("loop", f"a frame: {what}", "", each, "ms", scale=params.scale, on=on)
