"""Both engines on the real list of stages, with stand-ins for the commands: seconds instead of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from head3d.params import read_yaml

from .scratch import Scratch, below


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    made = Scratch(tmp_path / "copy", stand_in=True)
    made.copy()
    made.scale("smoke")
    made.put("baselines", ["fomm"])  # each further method is three more stages of the same shape
    return made


# parameter -> another value, and the stages that use it themselves (those below them follow)
CHANGES = {
    "evaluate.bootstrap": (201, {"tables"}),
    "camera.fov_deg": (11.0, {"train_geometry"}),
    "fusion.lr": (1.25e-4, {"train_fusion@full", "train_fusion@no_skip", "tables", "report"}),
    "canonical.epochs": (3, {"train_canonical"}),
    "baseline.fomm.lr": (1.25e-4, {"train_baseline@fomm", "tables", "report"}),
    "parse.input_size": (288, {"parse@0", "parse@1"}),
    "device": ("cpu", set()),  # where it runs is not what it computes
    "train.checkpoint_every": (7, set()),
}


FEW = {
    name: CHANGES[name] for name in ("evaluate.bootstrap", "fusion.lr")
}  # the other engine's turn: the rest says nothing new


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dvc", "snakemake"])
def test_after_one_engine_the_other_has_nothing_to_do(scratch: Scratch, engine: str) -> None:
    names = {stage.name for stage in scratch.stages()}
    assert scratch.stale_dvc() == scratch.stale_snakemake() == names
    if engine == "dvc":
        scratch.dvc("repro")
    else:
        scratch.snakemake()
    ran = scratch.ran()
    assert sorted(ran) == sorted(names)
    assert f"{len(names)} of {len(names)} stages are up to date" in scratch.sync()
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()
    scratch.dvc("repro")
    scratch.snakemake()
    assert scratch.ran() == []

    for name, (value, users) in (CHANGES if engine == "dvc" else FEW).items():
        old = scratch.put(name, value)
        wanted = below(scratch.stages(), users)
        assert scratch.stale_dvc() == wanted, name
        assert scratch.stale_snakemake() == wanted, name
        scratch.put(name, old)
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()

    # Code: an edit of the report trains nothing.
    with (scratch.root / "src/head3d/report/tables.py").open("a") as file:
        file.write("# edited\n")
    assert scratch.stale_dvc() == scratch.stale_snakemake() == {"tables", "report"}


@pytest.mark.slow
def test_sync_waves_no_stale_stage_through(scratch: Scratch) -> None:
    scratch.dvc("repro")
    scratch.ran()
    # Snakemake has never seen this tree; by the times of its files alone it would take it for finished.
    scratch.put("fusion.lr", 1.25e-4)
    said = scratch.sync()
    assert "train_fusion@full" in said.partition("not up to date")[2]
    wanted = below(scratch.stages(), {"train_fusion@full", "train_fusion@no_skip", "tables", "report"})
    assert scratch.stale_dvc() == wanted
    # What was fresh in DVC has been told to Snakemake; the rest it makes itself.
    scratch.snakemake("--forcerun", "train_fusion_full", "train_fusion_no_skip", "--")
    assert set(scratch.ran()) == wanted
    scratch.sync()
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()


@pytest.mark.slow
def test_the_engines_may_take_turns(scratch: Scratch) -> None:
    scratch.snakemake("--until", "train_geometry")
    assert "train_geometry" in scratch.ran()
    scratch.sync()
    scratch.dvc("repro")
    ran = set(scratch.ran())
    assert "train_canonical" in ran
    assert not {"fetch", "crop@0", "manifest", "train_geometry"} & ran
    scratch.sync()
    old = scratch.put("fusion.lr", 1.25e-4)
    scratch.snakemake()
    scratch.sync()
    scratch.put("fusion.lr", old)  # back to what DVC made, which is no longer what lies there
    scratch.sync()
    assert "train_fusion@full" in scratch.stale_dvc() & scratch.stale_snakemake()


def test_one_training_at_a_time(scratch: Scratch) -> None:
    """`snakemake --cores 8` must not start every training at once on one GPU: profiles/default limits it."""
    plan = scratch.run("snakemake", "-n", "--cores", "8", "--quiet", "progress")
    assert "profiles/default" in plan
    assert read_yaml(scratch.root / "profiles/default/profile.yaml")["resources"] == {"gpu": 1}
    assert {stage.resources["gpu"] for stage in scratch.stages() if stage.name.startswith("train_")} == {1}


def test_wrong_parameters_stop_snakemake_with_one_line(scratch: Scratch) -> None:
    path = scratch.root / "params.yaml"
    path.write_text(path.read_text().replace("seed: 0 ", "seed: a "))
    said = scratch.run("snakemake", "-n", "--cores", "2", check=False)
    assert "snakemake: params.yaml: seed is 'a'; allowed: integer" in said
    assert "Traceback" not in said
