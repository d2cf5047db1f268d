"""The numbers that README.md repeats are those of the committed table."""

import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_repeats_the_committed_table() -> None:
    """Committed, or about to be: not that of a run of one's own, which reports/ holds afterwards."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not in a git checkout")
    committed = subprocess.run([git, "show", ":reports/tables/table1.csv"], cwd=ROOT, capture_output=True, check=True)
    table = pd.read_csv(io.BytesIO(committed.stdout))
    lines = (ROOT / "README.md").read_text().split("| method | seen:")[1].split("\n\n")[0].splitlines()[2:]
    repeated = 0
    for name, *numbers in ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines):
        for test_set, (mse, lpips) in (("mini-seen", numbers[:2]), ("mini-unseen", numbers[2:])):
            (row,) = table[(table["dataset"] == test_set) & (table["method"] == name)].to_dict("records")
            assert float(mse) == pytest.approx(row["mse_01"], abs=5.1e-6), (name, test_set)
            assert float(lpips) == pytest.approx(row["lpips_alex"], abs=5.1e-5), (name, test_set)
            repeated += 1
    assert repeated == len(table) == 16
