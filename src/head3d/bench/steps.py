"""A step of each training: seconds, arithmetic and memory, by size of the frames and of the batch.

Each is the real stage on made-up clips: ``python -m head3d.bench.steps STAGE STEPS SIZExBATCH...`` trains a few steps
in temporary directories and prints a line of JSON for each. What comes before in the pipeline is untrained, and so are
the networks of the perceptual loss: neither changes what a step costs.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary
from tqdm import tqdm

from head3d import baselines, scales
from head3d.bench.commands import STAGES
from head3d.bench.made_up import write_clips
from head3d.bench.rows import Row, compute_of, peak_gflops
from head3d.errors import UserError
from head3d.params import Params, check_params

LENGTH = 12  # frames in a made-up clip: no step asks for more


def rows(
    scale: str, stages: tuple[str, ...], sizes: tuple[int, ...], batches: tuple[int, ...], steps: int
) -> Iterator[Row]:
    """Measure the steps of a scale's trainings, each stage in a process of its own.

    Args:
        scale: whose networks and losses.
        stages: of :data:`~head3d.bench.commands.STAGES`.
        sizes: of the frames, pixels.
        batches: clips (pairs of frames of a baseline) a step.
        steps: timed, after two that are not; 0 only counts arithmetic and memory.

    Raises:
        UserError: a stage failed, for example for want of memory.
    """
    compute = compute_of(check_params(scales.values(scale)))  # as the stages find it
    peak = peak_gflops(compute) if steps else None
    wanted = [f"{size}x{batch}" for size in sizes for batch in batches]
    for stage in tqdm(stages, desc="training steps", unit="stage", disable=None, leave=False):
        command = [sys.executable, "-m", "head3d.bench.steps", stage, str(steps), *wanted, "--scale", scale]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for at, one in zip(wanted, found, strict=False):
            size, batch = at.split("x")
            what, way = f"train {stage}, {size}x{size}", f"batch of {batch}"
            memory = one["memory_mb"]
            if peak is None:
                yield Row("steps", what, way, one["gflop"], "GFLOP", memory_mb=memory, scale=scale, on=compute)
            else:
                share = one["gflop"] / one["seconds"] / peak
                yield Row("steps", what, way, one["seconds"], "s/step",
                          gflop=one["gflop"], share=share, memory_mb=memory, scale=scale, on=compute)  # fmt: skip
        if done.returncode != 0:
            raise UserError(
                f"bench: the training of {stage} ended with {done.returncode} after {len(found)} of {wanted}",
                fix="smaller sizes or batches, or more memory",
            )


def params_of(scale: str, root: Path, size: int, batch: int, steps: int) -> Params:
    """A scale's parameters for so many steps on frames of a size."""
    values = scales.values(scale, root)
    values["data"] |= {"image_size": size, "clip_length": 2 * max(LENGTH, *values["evaluate"]["references"])}
    # The official weights of the depth and pose networks may not be here; their size is what counts.
    values["geometry"] |= {"warm_start": "none", "epochs": steps, "batch_size": batch}
    values["canonical"] |= {"epochs": steps, "batch_size": batch}
    values["fusion"] |= {"epochs": steps, "batch_size": batch, "reference_draws": 0}
    values["baseline"]["training"]["repeats"] = 1
    for name in baselines.NAMES:
        values["baseline"][name] |= {"epochs": steps, "batch_size": batch}
    # Once each, and not counted: what comes before or after the method's own training.
    values["baseline"]["dagan"] |= {"depth_steps": 1}
    values["baseline"]["facev2v"] |= {"pose_steps": 1}
    values["baseline"]["mraa"] |= {"avd_epochs": 1, "avd_repeats": 1, "avd_batch_size": 2}
    values["train"] |= {"checkpoint_every": 10**6, "log_every": 1}
    return check_params(values)


def prepare(params: Params, batch: int) -> None:
    """Clips and untrained networks in the current directory."""
    from head3d.models.matching import Matcher
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.geometry import build_geometry
    from head3d.training.weights import save_weights

    write_clips(Path("data"), batch, params.data.image_size, params.data.clip_length)
    save_weights(build_geometry(params), Path("models/geometry.safetensors"), {})
    save_weights(build_canonical(params), Path("models/canonical.safetensors"), {})
    save_weights(Matcher(), Path("models/matching.safetensors"), {})


def random_vgg(network: str) -> dict[str, Tensor]:
    """Untrained convolutions of ``vgg16`` or ``vgg19``."""
    from torchvision import models

    state = getattr(models, network)(weights=None).features.state_dict()
    return {f"features.{name}": value for name, value in state.items()}


class Shapes(TorchDispatchMode):
    """Convolutions give noise of the right shape in no time: what is counted depends on shapes alone.

    Noise and not zeros, as a method may invert a matrix of them.
    """

    SKIPPED = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self.SKIPPED:
            return func(*args, **kwargs or {})
        device = args[0].device
        shapes = tree_map_only(Tensor, lambda x: x.to("meta"), (args, kwargs or {}))
        return tree_map_only(Tensor, lambda x: torch.randn_like(x, device=device), func(*shapes[0], **shapes[1]))


class Memory(TorchDispatchMode):
    """The most bytes that tensors held at once, whatever device they are on: without what a library adds for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.live: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        tree_map_only(Tensor, self.see, out)
        return out

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is gone."""
        storage = tensor.untyped_storage()
        if tensor.device.type == "meta" or storage in self.live:
            return
        size = storage.nbytes()
        self.live[storage] = size
        weakref.finalize(storage, self.gone, size)
        self.now += size
        self.most = max(self.most, self.now)

    def gone(self, size: int) -> None:
        self.now -= size


class Watch:
    """Stands in a stage's loop: counts what its first step computes, and times the others."""

    def __init__(self, train: Callable[..., None], memory: Memory, watching: contextlib.ExitStack) -> None:
        self.train, self.memory, self.watching = train, memory, watching
        self.began, self.gflop, self.bytes = [], 0.0, 0
        self.counter = FlopCounterMode(display=False)

    def __call__(self, state: Any, path: Path, schedule: Any, loss_fn: Callable, **more: Any) -> None:
        if path.stem != "state":  # before or after the stage's own training
            with Shapes():
                return self.train(state, path, schedule, loss_fn, **more)
        self.memory.most = self.memory.now
        counted = contextlib.ExitStack()

        def watched(step: int) -> dict[str, Tensor]:
            self.mark(counted)
            if step == 0:
                counted.enter_context(Shapes())
                counted.enter_context(self.counter)
            return loss_fn(step)

        self.train(state, path, schedule, watched, **more)
        self.mark(counted)

    def mark(self, counted: contextlib.ExitStack) -> None:
        """A step begins, or the last one has ended."""
        if len(self.began) == 1:
            counted.close()
            self.gflop, self.bytes = self.counter.get_total_flops() / 1e9, self.memory.most
            self.watching.close()  # it looks at every operation, which takes its time
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.began.append(time.perf_counter())


def measure(scale: str, root: Path, stage: str, size: int, batch: int, steps: int) -> dict[str, float | None]:
    """Train in the current directory, which is empty."""
    # The first step is counted, the second warms up, the others are timed.
    params = params_of(scale, root, size, batch, steps + 2 if steps else 1)
    prepare(params, batch)
    method = (stage,) if stage in baselines.NAMES else ()
    module = import_module(f"head3d.training.{'baseline' if method else stage}")
    session = import_module("head3d.training.session")
    with contextlib.ExitStack() as watching:
        watch = Watch(session.train, watching.enter_context(Memory()), watching)
        with patch.object(session, "train", watch), patch("head3d.assets.cache.load_vgg", random_vgg):
            module.run(params, *method)
    seconds = (watch.began[-1] - watch.began[2]) / steps if steps else None
    return {"gflop": watch.gflop, "memory_mb": watch.bytes / 1e6, "seconds": seconds}


def main() -> None:
    """Train at each size and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("steps", type=int)
    parser.add_argument("at", nargs="+", metavar="SIZExBATCH")
    parser.add_argument("--scale", default="paper")
    args = parser.parse_args()
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as runs:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{runs}/mlflow.db"  # these are nobody's results
        for at in args.at:
            size, batch = map(int, at.split("x"))
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                print(json.dumps(measure(args.scale, root, args.stage, size, batch, args.steps)), flush=True)


if __name__ == "__main__":
    main()
