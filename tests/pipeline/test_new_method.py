"""A new method is a folder and its lines in params.yaml: the one that CONTRIBUTING.md prints, through the pipeline."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from head3d import scales

from .scratch import ROOT, Scratch

# Which names the printed code takes from where.
IMPORTS = """
from typing import ClassVar
import torch
from torch import Tensor, nn
from head3d.baselines.method import Method
from head3d.baselines.objective import Losses, Objective, Pairs, weighted_sum
from head3d.baselines.settings import BaselineSchedule
from head3d.sections.types import NonNegative, Section, Width
"""
NUMBERS = """\
  still:
    epochs: 18
    milestones: []
    batch_size: 10
    lr: 4.0e-4
    network:
      width: 8
    weights:
      perceptual: 10.0
"""
USE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_stages import make_data
from pathlib import Path
from head3d.evaluation import baseline
from head3d.references import reference_of
from head3d.params import load_params
from head3d.report import captions, names
from head3d.training.baseline import run

make_data(Path("data"))
params = load_params()
run(params, "still")
method = baseline.load(params, "still")
frames, masks = torch.rand(6, 3, 64, 64), torch.ones(6, 1, 64, 64)
state = method.prepare(frames, masks, seed=3)
assert torch.equal(state[0], frames[reference_of(6, 3)])
assert method.drive(state, frames, masks).shape == frames.shape
assert method.method.motion_across() == "absolute"
print(names.table1_methods(["head3d", "still", "copy"], params.baselines), names.plain("still", 5))
print(captions.baselines_sentence(params))
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    """A copy of the project with the method of CONTRIBUTING.md in it, small enough for a test."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(# method\.py.*?)```", text, re.S)
    (lines,) = re.findall(r"```yaml\n(baselines:.*?)```", text, re.S)
    scratch = Scratch(tmp_path / "copy", stand_in=False)
    scratch.copy()
    folder = scratch.root / "src/head3d/baselines/still"
    folder.mkdir()
    (folder / "__init__.py").touch()
    files = re.findall(r"^# (\w+)\.py:[^\n]*\n(.*?)(?=^# \w+\.py:|\Z)", code, re.S | re.M)
    assert [name for name, _ in files] == ["method", "training", "settings"]
    for name, body in files:
        own = "from head3d.baselines.still.method import Still\n" if name == "training" else ""
        (folder / f"{name}.py").write_text(IMPORTS + own + body)
    values, added = scales.values("smoke", ROOT), YAML(typ="safe").load(lines)
    values["baselines"] = added["baselines"]
    values["baseline"]["still"] = added["baseline"]["still"] | {"epochs": 3, "batch_size": 4}
    values["device"], values["data"]["clip_length"], values["model"]["references"] = "cpu", 8, 2
    with (scratch.root / "params.yaml").open("w") as file:
        YAML().dump(values, file)
    return scratch


@pytest.mark.slow
def test_the_method_that_contributing_prints(scratch: Scratch) -> None:
    shutil.copytree(ROOT / "tests/training", scratch.root / "tests/training")
    shutil.copy(ROOT / "tests/forked.py", scratch.root / "tests/training")
    said = scratch.run(sys.executable, "-c", USE, str(scratch.root / "tests/training"))
    assert "['copy', 'still', 'head3d'] Still" in said
    assert "Still 3 (4)" in said  # its budget differs from stage 3's
    assert (scratch.root / "metrics/curves/train_baseline-still.csv").is_file()


@pytest.mark.slow
def test_what_the_project_says_of_all_methods_holds_with_it(scratch: Scratch) -> None:
    """Its numbers are the demo's; tests about methods in general then take one more."""
    demo = (ROOT / "params.yaml").read_text()
    for before, after in (("facev2v]\n", "facev2v, still]\n"), ("\naugment:", f"{NUMBERS}\naugment:")):
        assert demo.count(before) == 1
        demo = demo.replace(before, after)
    (scratch.root / "params.yaml").write_text(demo)
    scratch.run("head3d", "scale", "--save", "demo")
    shutil.copytree(ROOT / "tests", scratch.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", scratch.root)
    about = (
        "test_params.py",
        "baselines/test_load_official.py",
        "evaluation/test_baseline.py",
        "report/test_captions.py",
    )
    files = [f"tests/{name}" for name in about]
    said = scratch.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *files)
    assert " passed" in said


@pytest.mark.slow
def test_both_engines_have_its_stages(scratch: Scratch) -> None:
    listed = set(scratch.dvc("stage", "list", "--name-only").split())
    assert {
        "train_baseline@still",
        "evaluate_baseline@mini-seen-still",
        "transfer_baseline@mini-seen-still",
    } <= listed
    assert "train_baseline_still" in scratch.snakemake("-n", "--quiet", "progress", "host")
