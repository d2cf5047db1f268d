"""What one waits for before anything is computed: commands that start, and engines with nothing to do."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from head3d.bench.rows import Row, timed
from head3d.errors import UserError
from head3d.params import Params

COMMANDS = {
    "head3d --help": ("head3d", "--help"),
    "head3d doctor": ("head3d", "doctor"),
    "dvc status": ("dvc", "status"),  # what `dvc repro` does first; that one fails where nothing has been made yet
    "snakemake -n": ("snakemake", "-n"),
}
ENGINES = ("dvc", "snakemake")  # they look at as many stages as params.yaml's lists make


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Time the commands in the project's directory; what they would do is not done.

    Raises:
        UserError: one of them fails.
    """
    for what, (tool, *rest) in COMMANDS.items():
        command = [str(Path(sys.executable).with_name(tool)), *rest]  # of the same environment

        def work(what: str = what, command: list[str] = command) -> None:
            run(what, command)

        seconds = statistics.median(timed(work) for _ in range(min(rounds, 3))) / 1000
        scale = params.scale if tool in ENGINES else ""
        yield Row("engines", what, "", seconds, "s", scale=scale)


def run(what: str, command: list[str]) -> None:
    """Run a command to its end.

    Raises:
        UserError: it fails; the last that it said of it is told.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        raise UserError(f"bench: `{what}` ended with {done.returncode}: {said.splitlines()[-1]}")
