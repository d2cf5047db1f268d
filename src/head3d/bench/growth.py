"""How cost grows: time and memory against references, size of frames, length of a video, and number of clips.

Each point is a process of its own, ``python -m head3d.bench.growth WHAT X``. Networks have random weights; the work is
the same. Their memory is what tensors hold at the fullest moment. Where files are read it is the most that the process
held beyond what it had before, with what libraries keep for themselves.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from head3d.bench.made_up import write_clips
from head3d.bench.rows import TABLE, Row, compute_of, machine, read_table, timed
from head3d.bench.steps import Memory
from head3d.compute import Compute
from head3d.errors import UserError
from head3d.params import Params, load_params

PICTURE = TABLE.with_name("bench-growth.png")
VIDEO = "video-cap12"  # of one talking person
STATUS = Path("/proc/self/status")
Measured = tuple[float, float]  # seconds, and MB


@dataclass(frozen=True)
class Curve:
    """What is measured at several places.

    Attributes:
        measure: does it once for some x, with parameters and a number of times.
        what: the work.
        against: what grows, in the plural.
        at: its values.
        order: the power of it that the work itself grows with.
        memory: what its megabytes are of.
        networks: whether they do it: only then does it hang on the scale and the device of params.yaml.
    """

    measure: Callable[[Params, int, int], Measured]
    what: str
    against: str
    at: tuple[int, ...]
    order: int
    memory: str
    networks: bool = True

    def scale(self, params: Params) -> str:
        """The scale of its rows."""
        return params.scale if self.networks else ""

    def on(self, params: Params) -> Compute:
        """Where it runs."""
        return compute_of(params) if self.networks else Compute.resolve("cpu")


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Measure every curve, then draw them.

    Raises:
        UserError: this is no Linux, or a point failed.
    """
    if not STATUS.exists():
        raise UserError(f"bench: growth reads memory from {STATUS}, which is not here", allowed="Linux")
    points = [(name, x) for name, curve in CURVES.items() for x in curve.at]
    for name, x in tqdm(points, desc="growth", unit="point", disable=None, leave=False):
        curve = CURVES[name]
        command = [sys.executable, "-m", "head3d.bench.growth", name, str(x), "--rounds", str(rounds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise UserError(f"bench: {curve.what} with {x} {curve.against} ended with {done.returncode}")
        seconds, memory = json.loads(done.stdout.splitlines()[-1])
        yield Row("growth", curve.what, f"{x} {curve.against}", seconds, "s", memory_mb=memory,
                  scale=curve.scale(params), on=curve.on(params))  # fmt: skip
    draw(params)


def resident_mb(most: bool = False) -> float:
    """Memory that this process holds, or the most that it held since :func:`forget`."""
    key = "VmHWM:" if most else "VmRSS:"
    found = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(found.split()[1]) / 1000


def forget() -> None:
    """Begin the count of the most anew."""
    STATUS.with_name("clear_refs").write_text("5")


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several times."""
    return min(timed(work) for _ in range(rounds)) / 1000


def of_process(work: Callable[[], object], rounds: int) -> Measured:
    """With the memory that the process held beyond what there was."""
    before = resident_mb()
    forget()
    return best(work, rounds), max(0.0, resident_mb(most=True) - before)


def of_tensors(work: Callable[[], object], rounds: int) -> Measured:
    """With the memory of the tensors that it makes."""
    with Memory() as memory:
        work()
    return best(work, rounds), memory.most / 1e6


def networks(params: Params) -> tuple[Any, Any, Any, Compute]:
    """Geometry, recurrent network and fusion, untrained, where they run fastest."""
    from head3d.models.fast import prepare_for_inference
    from head3d.models.head3d import freeze
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry, place_geometry

    compute = compute_of(params)
    geometry = place_geometry(freeze(build_geometry(params)), compute)
    recurrent = compute.place(freeze(build_canonical(params)))
    fusion = compute.place(prepare_for_inference(freeze(build_fusion(params))))
    return geometry, recurrent, fusion, compute


def people(params: Params, count: int, compute: Compute) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of noise, with heads in their middles."""
    size = params.data.image_size
    masks = torch.zeros(count, 1, size, size, device=compute.device)
    masks[..., size // 4 : -size // 4, size // 3 : -size // 3] = 1
    return torch.rand(count, 3, size, size, device=compute.device), masks


@torch.inference_mode()
def references(params: Params, x: int, rounds: int) -> Measured:
    """A canonical head from so many frames."""
    from head3d.models.head3d import recurrent_canonical

    geometry, recurrent, _, compute = networks(params)
    frames, masks = people(params, x, compute)

    def head() -> None:
        recurrent_canonical(geometry, recurrent, frames * masks, masks, geometry.predict(frames * masks), x)

    return of_tensors(head, rounds)


@torch.inference_mode()
def size(params: Params, x: int, rounds: int) -> Measured:
    """One driving frame of so many pixels a side: its pose, the head rendered there, and the fusion."""
    from head3d.geometry import outside_flow
    from head3d.models.head3d import recurrent_canonical, rigid_flow

    params = params.model_copy(update={"data": params.data.model_copy(update={"image_size": x})})
    geometry, recurrent, fusion, compute = networks(params)
    frames, masks = people(params, 2, compute)
    prediction = geometry.predict(frames * masks)
    head = recurrent_canonical(geometry, recurrent, frames * masks, masks, prediction, 2)[0]
    background = outside_flow(masks[:1])

    def drive() -> None:
        at = geometry.pose(frames[:1] * masks[:1])
        rendered = geometry.render(head, at)
        flow = rigid_flow(geometry, head, rendered, at, background)
        fusion(rendered.image, frames[:1], frames[1:], flow, rendered.mask)

    return of_tensors(drive, rounds)


def length(params: Params, x: int, rounds: int) -> Measured:
    """``animate`` with a video of so many frames as subject and driver: find, parse, make, write."""
    from head3d import use
    from head3d.assets.cache import fetch
    from head3d.data import video
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry
    from head3d.training.weights import save_weights

    frames = list(islice(video.stream(path := fetch(VIDEO), info := video.probe(path)), x))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makes = {"geometry": build_geometry, "canonical": build_canonical, "fusion-full": build_fusion}
        for file, make in makes.items():
            save_weights(make(params), folder / f"{file}.safetensors", {})
        video.write_video(folder / "in.mp4", iter(frames), fps=info.fps)
        frames.clear()
        out = folder / "out.mp4"
        return of_process(
            lambda: use.animate(folder / "in.mp4", folder / "in.mp4", out, models=folder, params=params), 1
        )


def clips(params: Params, x: int, rounds: int) -> Measured:
    """The stage manifest over so many clips, whose frames are so small that reading them does not count."""
    from head3d.data.manifest import join_shards

    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        write_clips(Path("data"), x, size=8, length=4)
        Path("data/manifest.csv").rename("data/clips/shard-0/clips.csv")
        data = params.data.model_copy(update={"image_size": 8, "clip_length": 4})
        one_shard = params.model_copy(update={"shards": (0,), "data": data, "test_sets": ()})
        return of_process(lambda: join_shards(one_shard), rounds)


CURVES = {
    "references": Curve(references, "a canonical head", "references", (2, 4, 8, 16, 32), 1, "tensors"),
    "size": Curve(size, "a driving frame, without parsing", "pixels a side", (64, 128, 256, 512), 2, "tensors"),
    "length": Curve(length, "animate, from file to file", "frames of video", (50, 100, 200, 400), 1, "the process"),
    "clips": Curve(
        clips,
        "the manifest, and its digests",
        "clips of the data",
        (1000, 4000, 16000),
        1,
        "the process",
        networks=False,
    ),
}


def steepness(xs: list[float], ys: list[float]) -> float:
    """The power with which y grows between the two largest x."""
    return float(np.log(ys[-1] / ys[-2]) / np.log(xs[-1] / xs[-2]))


def points_of(curve: Curve, params: Params, table: list[dict[str, str]]) -> list[tuple[float, dict[str, str]]]:
    """(x, row) of a curve in their order, of this machine and of the scale of params.yaml alone."""
    about = machine(curve.on(params))
    mine = {"part": "growth", "what": curve.what, "scale": curve.scale(params)}
    mine |= {name: about[name] for name in ("machine", "threads", "type")}
    found = [(float(row["way"].split()[0]), row) for row in table if mine.items() <= row.items()]
    return sorted(found, key=lambda point: point[0])


def draw(params: Params, table: Path = TABLE, picture: Path = PICTURE) -> None:
    """A picture of what the table says of this machine at this scale: a row of panels for time, one for memory."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    from head3d.report.figures.sheet import png_bytes, write_bytes

    measured, here = read_table(table), machine(compute_of(params))
    figure = Figure(figsize=(3 * len(CURVES), 5.6), layout="constrained")
    panels = figure.subplots(2, len(CURVES), squeeze=False)
    for column, curve in enumerate(CURVES.values()):
        mine = points_of(curve, params, measured)
        for line, (key, unit) in enumerate((("value", "seconds"), ("memory_mb", f"MB of {curve.memory}"))):
            axes = panels[line][column]
            xs, ys = [x for x, _ in mine], [max(float(row[key]), 1e-3) for _, row in mine]
            if len(xs) > 1:
                axes.loglog(xs, ys, "o-", color="tab:blue")
                ideal = [ys[-1] * (x / xs[-1]) ** curve.order for x in xs]
                axes.loglog(xs, ideal, ":", color="grey", label=f"∝ x{'²' if curve.order == 2 else ''}")
                axes.set_xticks(xs, [f"{x:g}" for x in xs])
                axes.set_xticks([], minor=True)
                axes.set_title(f"{curve.what}\n" * (line == 0) + f"x to the {steepness(xs, ys):.2f} at the end",
                               fontsize=8)  # fmt: skip
                axes.legend(fontsize=7)
            axes.set_xlabel(curve.against, fontsize=8)
            axes.set_ylabel(unit, fontsize=8)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelsize=7)
    title = f"{here['machine']}, {here['threads']} threads, {here['type']}, scale {params.scale}"
    figure.suptitle(title, fontsize=9)
    write_bytes(picture, png_bytes(figure))


def main() -> None:
    """Measure one point and print its seconds and MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=CURVES)
    parser.add_argument("x", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(CURVES[args.what].measure(load_params(), args.x, args.rounds)))


if __name__ == "__main__":
    main()
