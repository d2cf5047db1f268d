"""The list of stages itself: what dvc.yaml says against the code, the parameters and Snakemake's rules."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from head3d.baselines import NAMES as BASELINES
from head3d.cli import STAGES, build_parser
from head3d.errors import UserError
from head3d.params import read_yaml
from head3d.training.session import OWN, SHARED

from .imports import needs
from .scratch import ROOT, Stage, load_stages

# Code that changes no result (reading parameters, messages, tracking), and assets: what these bring is digested in
# data/assets.json, so a new source of a file must not make everything again. Only `fetch` itself depends on them.
NO_DEPS = {f"src/head3d/{name}.py" for name in ("cli", "errors", "files", "params", "scales", "signals")} | {
    path.relative_to(ROOT).as_posix()
    for part in ("sections", "tracking")
    for path in (ROOT / "src/head3d" / part).glob("*.py")
}
ASSETS = {f"src/head3d/assets/{name}.py" for name in ("cache", "catalogue", "download", "lock")}


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return load_stages(ROOT)


def entry_of(stage: Stage) -> str:
    """Module of the function that a stage's command runs."""
    words = [word for word in stage.command.split()[1:3] if not word.startswith("-")]
    return STAGES[" ".join(words)][0].partition(":")[0]


def modules_of(stage: Stage, baseline: str | None = None) -> set[str]:
    """Files that a stage uses: those that its entry imports, and those of the baseline that it imports by name.

    ``baseline`` asks for another one than the stage's own.
    """
    used, words = needs(entry_of(stage)), stage.command.split()
    of_stage = BASELINES if stage.name == "figures" else [name for name in BASELINES if name in words]
    for name in [baseline] if baseline else of_stage:
        for part in ("method", "training") if "train" in words else ("method",):
            used = used | needs(f"head3d.baselines.{name}.{part}")
    return used


def is_only_a_docstring(path: str) -> bool:
    return len(ast.parse((ROOT / path).read_text()).body) <= 1 or path == "src/head3d/__init__.py"


def test_every_stage_makes_something(stages: list[Stage]) -> None:
    assert [stage.name for stage in stages if not stage.outs] == []


def test_every_stage_names_the_code_it_uses(stages: list[Stage]) -> None:
    for stage in stages:
        used = {path for path in modules_of(stage) if not (path.endswith("__init__.py") and is_only_a_docstring(path))}
        unnamed = used - NO_DEPS - (ASSETS if stage.name != "fetch" else set()) - set(stage.deps)
        assert not unnamed, f"{stage.name} imports what is no dep of it in dvc.yaml: {sorted(unnamed)}"


def test_no_stage_names_code_it_does_not_use(stages: list[Stage]) -> None:
    for stage in stages:
        code = {dep for dep in stage.deps if dep.startswith("src/")}
        used = modules_of(stage)
        if stage.name in ("figures", "tables", "report"):  # whatever methods there are: the folder of them all
            used |= {path for path in code if path.startswith("src/head3d/baselines/")}
        if "baseline" in stage.name:  # one list for all methods, and their folders whole
            folders = {f"src/head3d/baselines/{name}" for name in BASELINES}
            used |= {path for path in code if path.rpartition("/")[0] in folders}
            used |= set().union(*(modules_of(stage, other) for other in BASELINES))
        idle = {dep for dep in code - used if not dep.endswith("__init__.py")}
        assert not idle, f"{stage.name} has deps in dvc.yaml that it does not import: {sorted(idle)}"


def test_an_archive_without_git_is_told_in_one_line(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    with pytest.raises(UserError, match=r"DVC can.t read its stages .*; work in a git clone"):
        load_stages(tmp_path)


def test_commands_are_understood(stages: list[Stage]) -> None:
    for stage in stages:
        program, *words = stage.command.split()
        assert program == "head3d"
        build_parser().parse_args(words)


def test_deps_that_are_no_outs_exist(stages: list[Stage]) -> None:
    outs = {out for stage in stages for out in stage.outs}
    missing = {dep for stage in stages for dep in stage.deps if dep not in outs and not (ROOT / dep).is_file()}
    assert not missing


def test_outs_do_not_overlap(stages: list[Stage]) -> None:
    outs = [Path(out) for stage in stages for out in stage.outs]
    assert len(set(outs)) == len(outs)
    for out in outs:
        assert not set(out.parents) & set(outs), f"{out} lies inside another out"


def test_an_evaluated_method_depends_on_its_own_model_only(stages: list[Stage]) -> None:
    for stage in stages:
        if stage.name.startswith("evaluate"):
            own = {f"models/fusion-{stage.name.rpartition('-')[2]}.safetensors"} if "@" in stage.name else set()
            fusion = {dep for dep in stage.deps if dep.startswith("models/fusion")}
            assert fusion == (own if stage.name.startswith("evaluate@") else set()), stage.name
            method = stage.name.rpartition("-")[2]
            theirs = {f"models/baseline-{method}.safetensors"} if stage.name.startswith("evaluate_baseline") else set()
            assert {dep for dep in stage.deps if dep.startswith("models/baseline")} == theirs, stage.name


def test_resources_are_stated(stages: list[Stage]) -> None:
    for stage in stages:
        assert set(stage.resources) == {"gpu", "mem_mb", "runtime"}, stage.name
        assert stage.threads >= 1


def test_no_job_is_longer_than_a_cluster_takes(stages: list[Stage]) -> None:
    shorter = load_stages(ROOT, max_runtime=100)
    for before, after in zip(stages, shorter, strict=True):
        assert after.resources == before.resources | {"runtime": min(before.resources["runtime"], 100)}
        assert (after.name, after.params) == (before.name, before.params)


@pytest.mark.parametrize("given", ["1440", "24h", 0, -1, 1.5, True])
def test_a_wrong_limit_is_one_line(given: object) -> None:
    with pytest.raises(UserError, match=r"config: max_runtime is .*; allowed: whole minutes, at least 1$"):
        load_stages(ROOT, max_runtime=given)


def test_what_depends_on_a_stage_through_others_is_below_it(stages: list[Stage]) -> None:
    from sync import below

    chain = (("c", "b"), ("b", "a"), ("a", "x"), ("d", "x"))
    made = [replace(stages[0], name=name, deps=(dep,), outs=(name,)) for name, dep in chain]
    assert below(made, {"a"}) == {"a", "b", "c"}


def test_rules_equal_stages(stages: list[Stage]) -> None:
    """The jobs that Snakemake plans against DVC's stages (their parameters: test_engines.py)."""
    plan = _snakemake("-n", "--forceall", "--printshellcmds", "--quiet", "progress", "host")
    jobs = {}
    for block in re.split(r"\n(?=rule )", plan):
        name, _, text = block.partition("\n")
        told = dict(re.findall(r"^    (input|output|threads|resources): (.*)$", text, re.M))
        command = re.search(r"^(?:Shell command: )?(exec head3d .*)$", text, re.M)
        jobs[name.removeprefix("rule ").rstrip(":")] = told | {"command": command[1] if command else ""}
    assert set(jobs) - {"all", ""} >= {stage.rule for stage in stages}
    for stage in stages:
        job = jobs[stage.rule]
        assert tuple(job.get("input", "").split(", ")) == stage.deps
        assert tuple(job["output"].split(", ")) == stage.outs
        assert job["command"] == f"exec {stage.command} >> logs/{stage.rule}.log 2>&1"
        assert int(job.get("threads", 1)) == stage.threads
        resources = dict(part.split("=") for part in job["resources"].split(", "))
        assert {key: int(resources[key]) for key in stage.resources} == stage.resources


def test_lint_finds_nothing_that_matters() -> None:
    titles = {line.strip(" *:") for line in _snakemake("--lint", check=False).splitlines() if line.startswith("    * ")}
    # One virtual environment from one lock runs everything; software of a rule's own would be a second truth.
    assert titles <= {"Specify a conda environment or container for each rule."}


def _snakemake(*words: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "64", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=check).stdout


def test_all_readers_agree_on_numbers(tmp_path: Path) -> None:
    """1e-4 is a string to YAML 1.1 readers: what DVC tracks must be what the code computes with."""
    from dvc.utils.serialize import load_yaml

    path = tmp_path / "params.yaml"
    path.write_text("a: 1.0e-4\nb: 1e-4\nc: 2.0e-05\nd: yes\ne: 0o10\nf: null\n")
    ours, theirs = read_yaml(path), load_yaml(str(path))
    assert ours == theirs
    assert [type(value) for value in ours.values()] == [type(value) for value in theirs.values()]
    assert ours["a"] == ours["b"] == 1e-4
    import yaml

    for file in [ROOT / "params.yaml", *sorted((ROOT / "workflow/scales").glob("*.yaml"))]:
        assert yaml.safe_load(file.read_text()) == read_yaml(file), f"{file.name}: write 1.0e-4, not 1e-4"


# What fetches, reads and tracks, and constants of other stages, whose results a training's settings name by digest.
APART = (
    *("assets", "asset_", "download", "errors", "files", "signals"),
    *("data/", "sections/", "tracking/", "__init__"),
)
EMPTY = {f"{folder}/__init__.py" for folder in ("models", "training", "training/build")}
CONSTANTS = {"fusion": {f"training/{name}.py" for name in ("canonical", "matching", "expression")}}


@pytest.mark.parametrize("stage", OWN)
def test_a_run_is_continued_by_the_same_code_only(stage: str) -> None:
    """The digest of a run covers the code that its training imports, and no network of another stage."""
    used = {path.removeprefix("src/head3d/") for path in needs(f"head3d.training.{stage}")}
    used = {path for path in used - EMPTY - CONSTANTS.get(stage, set()) if not path.startswith(APART)}
    left = [path for path in used if not any(path.startswith(part) for part in (*SHARED, *OWN[stage]))]
    # A baseline adds the digest of its own method's files.
    assert [path for path in left if not (stage == "baseline" and path.startswith("baselines/"))] == []
    assert "training/loop.py" in used
    assert set(OWN[stage]) <= used
