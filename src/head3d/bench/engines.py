"""What one waits for before anything is computed: commands that start, and engines with nothing to do."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from head3d.bench.rows import Row, timed
from head3d.params import Params

COMMANDS = {
    "head3d --help": ("head3d", "--help"),
    "head3d doctor": ("head3d", "doctor"),
    "dvc status": ("dvc", "status"),  # what `dvc repro` does first; that one fails where nothing has been made yet
    "snakemake -n": ("snakemake", "-n"),
}


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Time the commands in the project's directory; what they would do is not done."""
    for what, (tool, *rest) in COMMANDS.items():
        command = [str(Path(sys.executable).with_name(tool)), *rest]  # of the same environment

        def work(command: list[str] = command) -> None:
            subprocess.run(command, check=True, capture_output=True)

        seconds = statistics.median(timed(work) for _ in range(min(rounds, 3))) / 1000
        yield Row("engines", what, "", seconds, "s")
