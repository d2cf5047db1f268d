"""What all tests share: shapes and types of tensor functions are checked at run time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from head3d.params import Params

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports them: every jaxtyping annotation in these packages is checked in every test.
install_import_hook(["head3d.geometry", "head3d.models", "head3d.losses", "head3d.baselines"], "beartype.beartype")

# Nothing that a test tracks goes to a store that the environment names, and nothing phones home. To make a store's
# tables takes seconds: only the tests of tracking and of whole pipelines have one.
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["HEAD3D_TRACKING"] = "files"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MPLBACKEND", "agg")

# Beside each other (make test) each has one core: threads of several processes on one core wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """A test's own empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def signals() -> Iterator[None]:
    """Signals do what they do by themselves, whatever who started pytest wants ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, was in before.items():
        signal.signal(number, was)


@pytest.fixture(scope="session")
def tiny() -> Params:
    """Parameters of networks small enough for a test."""
    from head3d import scales
    from head3d.params import check_params, load_params

    found = load_params(ROOT / "params.yaml")
    model = found.model
    return found.model_copy(
        update={
            "scale": "smoke",
            "device": "cpu",
            "precision": "float32",
            "test_sets": ("mini-seen", "mini-unseen"),
            "variants": ("full", "no_head"),
            "baselines": ("fomm", "mraa", "dagan", "facev2v"),  # whatever the committed parameters list
            "data": found.data.model_copy(update={"image_size": 64, "clip_length": 8}),
            "evaluate": found.evaluate.model_copy(update={"batch_size": 4}),
            "parse": found.parse.model_copy(update={"batch_size": 4}),
            "parser": found.parser.model_copy(update={"input_size": 64, "width": 8}),
            "baseline": check_params(scales.values("smoke", ROOT)).baseline,
            "model": model.model_copy(
                update={
                    "references": 2,
                    "depth": model.depth.model_copy(update={"encoder_width": 0.25, "decoder_width": 0.1}),
                    "pose": model.pose.model_copy(update={"backbone": "resnet18", "input_size": 64}),
                    "canonical": model.canonical.model_copy(update={"width": 8, "blocks": 1}),
                    "fusion": model.fusion.model_copy(
                        update={"width": 8, "blocks": 1, "flow_width": 8, "flow_max": 32, "flow_scale": 0.5}
                    ),
                }
            ),
        }
    )


@pytest.fixture(scope="session")
def models(tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained networks."""
    import torch

    from head3d.baselines import NAMES, build
    from head3d.models.small_parser import SmallParser
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry
    from head3d.training.weights import save_weights

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_weights(build_geometry(tiny), folder / "geometry.safetensors", {})
    save_weights(build_canonical(tiny), folder / "canonical.safetensors", {})
    save_weights(build_fusion(tiny, "full"), folder / "fusion-full.safetensors", {})
    save_weights(SmallParser(tiny.parser.input_size, tiny.parser.width), folder / "parser.safetensors", {})
    for name in NAMES:
        network = getattr(tiny.baseline, name).network.model_dump()
        save_weights(build(name, tiny.data.image_size, **network), folder / f"baseline-{name}.safetensors", {})
    return folder


@pytest.fixture
def heads_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No parser is fetched: the head is the middle of a frame of 64 pixels."""
    import torch

    from head3d.api import Head3D

    def masks(self: Head3D, frames: torch.Tensor, landmarks: object = None) -> torch.Tensor:
        found = torch.zeros(len(frames), 1, 64, 64)
        found[:, :, 12:52, 16:48] = 1
        return found

    monkeypatch.setattr(Head3D, "masks", masks)


@pytest.hookimpl(trylast=True)  # once those that were not asked for are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: `make test` deals each worker as many in a row, and no core shall wait at the end."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    names = ("test_smoke.py", "test_slurm.py")
    longest = sorted((item for item in items if item.path.name in names), key=lambda item: names.index(item.path.name))
    others = [item for item in items if item not in longest]
    starts = [round(len(others) * worker / workers) for worker in range(workers + 1)]
    items[:] = [item for k in range(workers) for item in (*longest[k::workers], *others[starts[k] : starts[k + 1]])]
