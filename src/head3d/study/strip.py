"""Copies of videos that tell no more than their pictures do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from head3d.data.video import existing_file, node, pictures, run_graph
from head3d.errors import UserError
from head3d.files import replacing

MADE = 1_000_000_000  # seconds since 1970: one time of change for all copies, or it would tell which was made first


@dataclass(frozen=True)
class Copied:
    """Length of a copied video: frames, and frames a second."""

    frames: int
    fps: float

    def __str__(self) -> str:
        return f"{self.frames} frames at {self.fps:g} a second"


def copy_stripped(path: str | os.PathLike, out: str | os.PathLike) -> Copied:
    """Copy the pictures of a video as they are, without sound and without a word on where they come from.

    Titles, comments, the encoder's settings and times of making are left out. The file appears when complete.

    Args:
        path: H.264 in 4:2:0, as :func:`head3d.data.video.write_video` makes it: what every browser plays.
        out: the mp4 to write.

    Raises:
        UserError: no video, or one in another coding.
    """
    path, out = existing_file(path), Path(out)
    source = pictures(path)
    log = run_graph(source.output("-", format="null", vcodec="copy"), path)
    stream = re.search(r"Stream #0:\d+.*?: Video: (.*)", log)
    frames = re.findall(r"frame=\s*(\d+)", log)
    if not stream or not frames or int(frames[-1]) == 0:
        raise UserError(f"{path}: holds no frames", fix="make the video again")
    rate = re.search(r"([\d.]+) fps", stream[1])
    if not re.match(r"h264\b.*\byuv420p\b", stream[1]) or rate is None:
        coding = ", ".join(word.split(" ")[0].partition("(")[0] for word in stream[1].split(", ")[:2])
        raise UserError(
            f"{path}: coded as {coding}",
            allowed="h264, yuv420p, which every browser plays",
            fix="convert it with ffmpeg",
        )
    with replacing(out) as unfinished:
        graph = source.output(
            node(unfinished),
            vcodec="copy",
            map_metadata=-1,
            fflags="+bitexact",
            bsf="filter_units=remove_types=6",  # the encoder's own message (SEI) in the stream
            movflags="+faststart",
        )
        run_graph(graph, out, "cannot be written")
        os.utime(unfinished, (MADE, MADE))
    return Copied(int(frames[-1]), float(rate[1]))
