"""Every stage by two processes: it ends where one process does, and both stop, and go on, as one.

All of it in float32. Two processes add the same numbers up in another order, so they differ by rounding, and that
grows: Adam moves a weight whose gradient is nothing but rounding (a bias before batch normalisation) as far as any
other, and untrained networks on frames of 64 pixels magnify it. One process whose frames are changed by 1e-7 differs
from itself as much (F_D's first gradient: 3.7 %, two processes 3.6 %; a term of FaceV2V at the second step: 12 %, two
15 %). So there are bounds for losses of the first step, which no optimiser has touched, for those of later ones after
small steps, which tell that gradients are the whole batch's, and for what is left between the weights at the end, as
a share of the way that they have gone.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_stages import STAGES, furnish, weights

# Each begins with networks as they were drawn, so what reads another's comes before that one writes.
OURS = ("fusion", "canonical", "matching", "parser", "geometry")
BASELINES = tuple(stage for stage in STAGES if stage.startswith("baseline-"))
FIRST, LATER, APART = 1e-4, 1e-2, 0.05
FIRST_OF = {"geometry": 1e-3, "baseline-facev2v": 1e-2}
LATER_OF = {"baseline-facev2v": 1e-1}
APART_OF = {"geometry": 0.25, "canonical": 0.25, "baseline-fomm": 0.3, "baseline-mraa": 0.25, "baseline-facev2v": 0.8}
SCRIPT = """
import json, sys
from importlib import import_module
import torch
from head3d.params import load_params
from head3d.ranks import group

torch.set_num_threads(1)
params = load_params()
with group(params.device):
    for module, names in json.loads(sys.argv[1]):
        import_module(module).run(params, *names)
"""


def short(place: Path, **more: object) -> None:
    """A few steps of everything, every loss logged."""
    from ruamel.yaml import YAML

    place.mkdir()
    furnish(place)
    values = YAML(typ="safe").load((place / "params.yaml").read_text())
    values["precision"] = "float32"  # whatever the processor has: bfloat16 rounds a split batch otherwise, and far more
    # Small steps: an untrained F_D on frames of 64 pixels makes rounding four orders of magnitude larger.
    values["geometry"] |= {"warm_steps": 3, "warm_batch": 12, "epochs": 3}
    values["geometry"] |= {"warm_lr": 1e-5, "depth_lr": 1e-5, "pose_lr": 1e-5}
    values["canonical"] |= {"epochs": 4}
    values["matching"] |= {"steps": 4}
    values["parser"] |= {"steps": 4, "lr": 1e-5, "coarse_lr": 1e-5}
    values["fusion"] |= {"epochs": 4}
    for stage in BASELINES:
        values["baseline"][stage.partition("-")[2]] |= {"epochs": 2, "lr": 1e-5}
    values["baseline"]["dagan"] |= {"depth_steps": 2, "depth_lr": 1e-5}
    values["baseline"]["facev2v"] |= {"pose_steps": 0, "pose_lr": 1e-5}  # magnifies as it is; the part has its own test
    values["baseline"]["mraa"] |= {"avd_epochs": 1, "avd_milestones": [], "avd_repeats": 8, "avd_lr": 1e-5}
    values["train"] |= {"log_every": 1}
    for section, changes in more.items():
        values[section] |= changes
    with (place / "params.yaml").open("w") as file:
        YAML().dump(values, file)


def change(place: Path, *section: str, **values: object) -> None:
    """Other parameters in a section of a section."""
    from ruamel.yaml import YAML

    path = place / "params.yaml"
    found = whole = YAML(typ="safe").load(path.read_text())
    for name in section:
        found = found[name]
    found |= values
    with path.open("w") as file:
        YAML().dump(whole, file)


def train(place: Path, stages: tuple[str, ...], processes: int) -> None:
    (place / "stages.py").write_text(SCRIPT)
    words = [(STAGES[s][0], [s.partition("-")[2]] if "-" in s else []) for s in stages]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *start, "stages.py", json.dumps(words)],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def losses(place: Path, stage: str) -> dict[tuple[str, int, str], float]:
    """(part, step, name) -> every loss that a stage has logged, of its parts too."""
    (run,) = (place / "runs" / name_of(stage)).iterdir()
    parts = {path.stem: torch.load(path, weights_only=True)["history"] for path in run.glob("*.pt")}
    return {(part, step, name): value for part, rows in parts.items() for step, name, value in rows}


def name_of(stage: str) -> str:
    return "train_fusion-full" if stage == "fusion" else f"train_{stage}"


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Between two sets of weights, as one long vector without statistics."""
    learnt = [name for name in a if not name.rpartition(".")[2].startswith(("running_", "num_batches"))]
    return float(np.sqrt(sum(np.square(a[k].astype(np.float64) - b[k]).sum() for k in learnt)))


@pytest.mark.slow
@pytest.mark.parametrize("stages", [OURS, BASELINES], ids=["head3d", "baselines"])
def test_two_processes_end_where_one_does(tmp_path: Path, stages: tuple[str, ...]) -> None:
    one, two, start = (tmp_path / name for name in ("one", "two", "start"))
    for place in (one, two, start):
        short(place)
    train(one, stages, 1)
    train(two, stages, 2)
    wrong = []
    for stage in stages:
        alone, shared = losses(one, stage), losses(two, stage)
        assert alone.keys() == shared.keys()
        for (part, step, name), value in alone.items():
            # A part that comes after another begins with what that one has ended in.
            first = step == 1 and part in {"warm", "depth"} | ({"state"} - follows(stage))
            near = FIRST_OF.get(stage, FIRST) if first else LATER_OF.get(stage, LATER)
            if shared[part, step, name] != pytest.approx(value, rel=near, abs=near * 1e-2):
                wrong.append(f"{stage}: {name} of {part} at step {step} is {shared[part, step, name]}, not {value}")
        after = {place: weights(place / STAGES[stage][1]) for place in (one, two)}
        apart, gone = distance(after[one], after[two]), moved(after[one], start, stage)
        if apart > APART_OF.get(stage, APART) * gone:
            wrong.append(f"{stage}: weights are {apart:.3g} apart, after a way of {gone:.3g}")
    assert wrong == []
    # Rank 0 alone tracks.
    assert len(list((two / "runs/mlflow-offline").iterdir())) == len(stages)


@pytest.mark.slow
def test_head_poses_are_taught_by_two_as_by_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for place, processes in ((one, 1), (two, 2)):
        short(place)
        change(place, "baseline", "facev2v", pose_steps=4, epochs=1)
        train(place, ("baseline-facev2v",), processes)
    alone, shared = (
        {key: value for key, value in losses(place, "baseline-facev2v").items() if key[0] == "pose"}
        for place in (one, two)
    )
    assert [step for _, step, _ in alone] == [1, 2, 3, 4]
    for key, value in alone.items():
        assert shared[key] == pytest.approx(value, rel=FIRST if key[1] == 1 else LATER), key


def follows(stage: str) -> set[str]:
    """The part of a stage that begins with what another has taught."""
    return {"state"} if stage in ("geometry", "baseline-dagan") else set()


def moved(after: dict[str, np.ndarray], start: Path, stage: str) -> float:
    """How far a stage's weights have gone from those that it drew."""
    from head3d.models.fusion import FusionNet
    from head3d.models.head3d import HeadGeometry
    from head3d.models.matching import Matcher
    from head3d.models.parsing import load_parser
    from head3d.models.small_parser import SmallParser
    from head3d.params import load_params
    from head3d.training.baseline import make
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry
    from head3d.training.geometry import pretrained
    from head3d.training.weights import load_weights, seeded_init

    params = load_params(start / "params.yaml")
    if stage.startswith("baseline-"):
        network = seeded_init(params.seed, make, params, stage.partition("-")[2])
    elif stage == "matching":
        network = seeded_init(params.seed, Matcher)
    elif stage == "parser":
        network = seeded_init(params.seed, SmallParser, params.parser.input_size, params.parser.width)
        network.init_from_teacher(load_parser())
    else:
        build = {"geometry": build_geometry, "canonical": build_canonical, "fusion": build_fusion}[stage]
        network = seeded_init(params.seed, build, params)
    if isinstance(network, HeadGeometry):
        pretrained(network, params.geometry.warm_start, params.model.pose.backbone, {})
    if isinstance(network, FusionNet) and network.matcher is not None:
        load_weights(network.matcher, start / STAGES["matching"][1])
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return distance(after, {name: state[name] for name in after})


@pytest.mark.slow
def test_sigterm_to_one_rank_stops_both_and_one_process_goes_on(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for place in (whole, stopped):
        short(place, matching={"steps": 16}, train={"checkpoint_every": 3})
    train(whole, ("matching",), 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "head3d", "train", "matching"],
        cwd=stopped,
        env=os.environ | {"HEAD3D_PROCESSES": "2", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    state, deadline = stopped / "runs/train_matching", time.monotonic() + 200
    while not list(state.glob("*/state.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = (pid for pid in children if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(int(second), signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 143, output.decode()[-2000:]
    assert b"Traceback" not in output
    (file,) = state.glob("*/state.pt")
    assert 3 <= torch.load(file, weights_only=True)["step"] < 16
    train(stopped, ("matching",), 1)
    target = STAGES["matching"][1]
    alone, again = losses(whole, "matching"), losses(stopped, "matching")
    assert alone.keys() == again.keys()
    assert all(again[key] == pytest.approx(value, rel=1e-2) for key, value in alone.items())
    ended = weights(whole / target)
    assert distance(ended, weights(stopped / target)) < 0.05 * moved(ended, whole, "matching")
    rows = csv.DictReader((stopped / "metrics/curves/train_matching.csv").read_text().splitlines())
    assert [int(row["step"]) for row in rows if row["name"] == "loss"] == list(range(1, 17))
