"""What one clone has made and pushed, another one pulls: docs/sharing.md, with stand-ins for the commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .scratch import Scratch

AUTHOR = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


def clone(first: Scratch, root: Path) -> Scratch:
    """A second clone of what the first one has committed."""
    first.run("git", "clone", "--quiet", str(first.root), str(root))
    return Scratch(root, stand_in=True)


@pytest.mark.slow
def test_a_second_clone_pulls_and_trains_nothing(tmp_path: Path) -> None:
    first = Scratch(tmp_path / "first", stand_in=True)
    first.copy()
    first.scale("smoke")
    for name, few in {"baselines": ["fomm"], "test_sets": ["mini-seen"], "variants": ["full"], "shards": [0]}.items():
        first.put(name, few)  # more of them are more stages of the same shape
    first.dvc("remote", "add", "--default", "lab", str(tmp_path / "remote"))
    first.dvc("repro")
    stages = first.stages()
    assert len(first.ran()) == len(stages)
    first.dvc("push")
    first.run("git", "add", "--all")
    first.run("git", *AUTHOR, "commit", "--quiet", "-m", "a run")
    shutil.rmtree(first.root / ".dvc" / "cache")  # nothing but the remote can give it back

    second = clone(first, tmp_path / "second")
    assert not (second.root / "models").exists()
    assert (second.root / "reports/index.html").exists(), "results are in git"
    second.dvc("pull")
    for stage in stages:
        for out in stage.outs:
            assert (second.root / out).exists(), f"{out} of {stage.name} was not brought"
    second.dvc("repro")
    assert second.ran() == []

    # Tables and figures are made again, from metrics, models and data alone.
    names = [stage.name for stage in stages]
    assert f"{len(names)} of {len(names)} stages are up to date" in second.sync()
    second.dvc("repro", "--force", "--single-item", "tables", "figures", "report")
    assert second.ran() == ["tables", "figures", "report"]
    assert second.run("git", "status", "--porcelain", "reports", "metrics", "dvc.lock") == ""
