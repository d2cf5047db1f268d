"""The pipeline on a real Slurm of two nodes (two_nodes.py): all stages, with stand-ins or for real; cut trainings.

Minutes, and skipped without Slurm: `make test-packages` installs it on Debian.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from head3d.data.store import ClipRecord, write_records

from . import two_nodes
from .scratch import Scratch
from .two_nodes import NODES, TwoNodes

PLUGIN = "snakemake_executor_plugin_slurm"
LACKING = two_nodes.missing() or (
    None if importlib.util.find_spec(PLUGIN) else f'{PLUGIN} is not installed: pip install -e ".[cluster]"'
)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
]

# The profile, and what a cluster without accounting needs; the waits are short so that the tests are.
PROFILE = (
    "--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10",
)  # fmt: skip

# Stands for `head3d`: the real one, with a pause in every step, so that there is a middle to be stopped in.
SLOW = """#!{python}
import time
import head3d.training.matching as stage

draw = stage.step_generator

def slow(seed, step):
    time.sleep({pause})
    return draw(seed, step)

stage.step_generator = slow
from head3d.cli import main
main()
"""
STEPS, CLIPS, LENGTH, SIZE = 60, 4, 16, 64


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    with TwoNodes(tmp_path_factory.mktemp("slurm")) as nodes:
        yield nodes


def in_slurm(scratch: Scratch, slurm: TwoNodes) -> Scratch:
    """What is run in this copy finds that Slurm."""
    scratch.environment["SLURM_CONF"] = slurm.environment["SLURM_CONF"]
    scratch.environment["PATH"] = f"{slurm.root / 'bin'}:{scratch.environment['PATH']}"
    return scratch


def jobs_of(slurm: TwoNodes, rule: str) -> list[dict[str, str]]:
    """The jobs that a rule has had, first the oldest."""
    found = [job for job in slurm.jobs() if job["Comment"] == f"rule_{rule}"]
    return sorted(found, key=lambda job: int(job["JobId"]))


def test_all_stages_over_both_nodes(tmp_path: Path, slurm: TwoNodes) -> None:
    scratch = in_slurm(Scratch(tmp_path / "copy", stand_in=True), slurm)
    scratch.copy()
    scratch.scale("smoke")
    # Two of each kind are enough for two nodes; each further one is a job of the same shape.
    for name, few in {"baselines": ["fomm"], "variants": ["full"]}.items():
        scratch.put(name, few)
    stages = scratch.stages()
    limit = 1000
    said = scratch.run(sys.executable, "-m", "snakemake", *PROFILE, "--config", f"max_runtime={limit}")
    assert f"{len(stages) + 1} of {len(stages) + 1} steps (100%) done" in said  # and the rule `all`
    assert sorted(scratch.ran()) == sorted(stage.name for stage in stages)

    # Each job asked for what dvc.yaml says of its stage, no longer than the limit, and only some for a GPU.
    used = set()
    for stage in stages:
        (job,) = jobs_of(slurm, stage.rule)
        wanted = stage.resources
        assert job["JobState"] == "COMPLETED"
        assert job.get("TresPerJob", "") == ("gres:gpu:1" if wanted["gpu"] else ""), stage.name
        assert f"cpu={stage.threads},mem={wanted['mem_mb']}M," in job["TRES"], stage.name
        hours, minutes = divmod(min(wanted["runtime"], limit), 60)
        assert job["TimeLimit"] == f"{hours:02}:{minutes:02}:00", stage.name
        used.add(job["NodeList"])
    assert used == set(NODES)

    # Both engines know of it.
    assert f"{len(stages)} of {len(stages)} stages are up to date" in scratch.sync()
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()
    again = scratch.run(sys.executable, "-m", "snakemake", *PROFILE)
    assert "Nothing to be done" in again
    assert scratch.ran() == []


@pytest.fixture
def training(tmp_path: Path) -> Scratch:
    """A copy with one stage, the real `train_matching` at the smoke scale, and made-up clips for it."""
    scratch = Scratch(tmp_path / "copy", stand_in=False)
    scratch.copy()
    scratch.scale("smoke")
    scratch.put("matching.steps", STEPS)
    scratch.put("device", "cpu")
    path = scratch.root / "dvc.yaml"
    yaml = YAML(typ="safe")
    stage = yaml.load(path)["stages"]["train_matching"]
    stage["meta"] |= {"threads": 1, "mem_mb": 4000}
    with path.open("w") as file:
        yaml.dump({"params": ["params.yaml"], "stages": {"train_matching": stage}}, file)
    make_clips(scratch.root / "data")
    return scratch


def make_clips(root: Path) -> None:
    """A few clips of noise behind a disc, which is the head."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = ((x - 32) ** 2 + (y - 32) ** 2 < 20**2).astype(np.uint8) * 255
    (root / "clips/shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    np.save(root / "clips/shard-0/frames.npy", draw.integers(0, 256, (CLIPS, LENGTH, SIZE, SIZE, 3), np.uint8))
    np.save(root / "clips/shard-0/landmarks.npy", draw.uniform(16, 48, (CLIPS, LENGTH, 68, 2)).astype(np.float32))
    np.save(root / "masks/shard-0.npy", np.broadcast_to(disc, (CLIPS, LENGTH, SIZE, SIZE)).copy())
    zeros = "0" * 64
    records = [
        ClipRecord(f"c{i}", 0, i, "made up", "v", "p", 0, 25.0, 0.0, 0.0, 1.0, 1.0, "ok", "train", zeros, zeros)
        for i in range(CLIPS)
    ]
    write_records(root / "manifest.csv", records)


def undisturbed(scratch: Scratch) -> dict[str, bytes]:
    """What the stage makes in one go on this machine; nothing of it stays."""
    scratch.snakemake()
    results = made(scratch)
    for folder in ("models", "metrics", "runs", ".snakemake"):
        (scratch.root / folder).rename(scratch.root.parent / f"undisturbed-{folder.strip('.')}")
    return results


def made(scratch: Scratch) -> dict[str, bytes]:
    """Weights and curves of the stage."""
    names = ("models/matching.safetensors", "metrics/curves/train_matching.csv")
    return {name: (scratch.root / name).read_bytes() for name in names}


def slow_down(scratch: Scratch, pause: float) -> None:
    """From now on every step takes at least that many seconds."""
    command = scratch.root / "bin/head3d"
    command.parent.mkdir()
    command.write_text(SLOW.format(python=sys.executable, pause=pause))
    command.chmod(0o755)


def until(happened: Callable[[], object], process: subprocess.Popen, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_node_dies_in_the_middle_of_a_training(training: Scratch, slurm: TwoNodes) -> None:
    scratch = in_slurm(training, slurm)
    scratch.put("train.checkpoint_every", 3)
    whole = undisturbed(scratch)
    slow_down(scratch, 0.3)
    output = scratch.root / "said.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *PROFILE],
            cwd=scratch.root, env=scratch.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        until(lambda: list(scratch.root.glob("runs/train_matching/*/state.pt")), process)
        (job,) = jobs_of(slurm, "train_matching")
        assert job["JobState"] == "RUNNING"
        slurm.kill_node(job["NodeList"])
        process.wait(600)
    finally:
        process.kill()
        process.wait()
    said = output.read_text()
    assert process.returncode == 0, said[-4000:]
    first, second = jobs_of(slurm, "train_matching")
    assert (first["JobState"], second["JobState"]) == ("NODE_FAIL", "COMPLETED")
    assert {first["NodeList"], second["NodeList"]} == set(NODES)
    assert "Trying to restart job" in said
    assert "goes on from runs/train_matching/" in (scratch.root / "logs/train_matching.log").read_text()
    assert made(scratch) == whole


@pytest.mark.long
def test_a_training_longer_than_the_time_limit_goes_on_in_the_next_job(training: Scratch, slurm: TwoNodes) -> None:
    scratch = in_slurm(training, slurm)
    scratch.put("train.checkpoint_every", 1000)  # the only state is the one that SIGTERM makes it save
    whole = undisturbed(scratch)
    slow_down(scratch, 2.5)  # 150 seconds; Slurm sends the signal 120 to 150 seconds before four minutes are over
    said = scratch.run(sys.executable, "-m", "snakemake", *PROFILE, "--config", "max_runtime=4")
    *stopped, last = jobs_of(slurm, "train_matching")  # more than two on a busy machine
    assert stopped and {job["JobState"] for job in stopped} == {"FAILED"}
    assert last["JobState"] == "COMPLETED"
    assert "Trying to restart job" in said
    # Snakemake waited until the training itself had ended, with the status that says that it has saved.
    logs = scratch.root / ".snakemake/slurm_logs/rule_train_matching"
    printed = [(logs / f"{job['JobId']}.log").read_text() for job in stopped]
    assert any("returned non-zero exit status 143" in text for text in printed)
    assert "goes on from runs/train_matching/" in (scratch.root / "logs/train_matching.log").read_text()
    assert made(scratch) == whole


@pytest.mark.long
@pytest.mark.network
def test_the_smoke_scale_for_real(tmp_path: Path, slurm: TwoNodes) -> None:
    scratch = in_slurm(Scratch(tmp_path / "copy", stand_in=False), slurm)
    scratch.copy()
    scratch.scale("smoke")
    count = len(scratch.stages())
    said = scratch.run(sys.executable, "-m", "snakemake", *PROFILE, "--config", "max_runtime=1000")
    assert f"{count + 1} of {count + 1} steps (100%) done" in said
    assert {job["JobState"] for job in slurm.jobs()} == {"COMPLETED"}
    assert {job["NodeList"] for job in slurm.jobs()} == set(NODES)
    page = (scratch.root / "reports/index.html").read_text()
    assert all(name in page for name in ("FOMM", "MRAA", "DaGAN", "FaceV2V"))
    assert f"{count} of {count} stages are up to date" in scratch.sync()
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()
