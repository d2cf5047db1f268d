"""The whole pipeline for real, tiny, through each engine. Minutes; `pytest -m "not slow"` leaves it out."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from head3d.baselines import NAMES as BASELINES

from .scratch import ROOT, Scratch, below

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("engine", ["dvc", "snakemake"])
def test_smoke(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    scratch = Scratch(copy, stand_in=False)
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "workflow/smoke.sh", str(copy), engine],
        cwd=ROOT, env=scratch.environment, text=True, check=False, timeout=1500,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    with capsys.disabled():
        print(f"\nsmoke through {engine}: {time.monotonic() - started:.0f} s")
    assert done.stdout.rstrip().endswith(f"report: {copy}/reports/index.html")

    # Results: every table and figure, one run of every stage, a page that stands alone.
    page = (copy / "reports/index.html").read_text()
    assert "smoke" in page
    assert (copy / "reports/tables/table1.csv").stat().st_size > 100
    assert (copy / "reports/tables/table3.csv").stat().st_size > 100
    assert (copy / "reports/tables/cross_identity.csv").stat().st_size > 100
    json.loads((copy / "reports/metrics.json").read_text())
    import sqlite3

    with sqlite3.connect(copy / "mlflow.db") as database:
        runs = dict(database.execute("select name, status from runs").fetchall())
    assert set(runs.values()) == {"FINISHED"}
    trained = {"train_geometry", "train_canonical", "train_matching", "train_fusion-full"}
    trained |= {f"train_baseline-{n}" for n in BASELINES}
    evaluated = {f"{stage}-mini-seen-{name}" for stage in ("evaluate", "transfer") for name in BASELINES}
    assert {"crop-shard-0", "parse-shard-1"} | trained | evaluated <= set(runs)
    assert (copy / "reports/figures/figure3.png").is_file()

    # After either engine, the other has nothing to do; a changed parameter runs the right stages in both.
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()
    assert "up to date" in scratch.dvc("repro")
    assert "Nothing to be done" in scratch.snakemake()
    scratch.put("evaluate.bootstrap", 201)
    assert scratch.stale_dvc() == scratch.stale_snakemake() == {"tables", "report"}
    if engine == "dvc":  # the other engine than the one that made the rest
        scratch.snakemake()
    else:
        scratch.dvc("repro")
    scratch.sync()
    assert scratch.stale_dvc() == scratch.stale_snakemake() == set()
    scratch.put("camera.fov_deg", 11.0)
    wanted = below(scratch.stages(), {"train_geometry"})
    assert scratch.stale_dvc() == scratch.stale_snakemake() == wanted
