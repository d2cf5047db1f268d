"""Lines of the benchmark's table, ``reports/bench.csv``, and how they are timed."""

import csv
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path

import torch

from head3d.compute import Compute, cpu_instructions, of_cpu
from head3d.data.store import write_rows
from head3d.errors import UserError
from head3d.params import Params

TABLE = Path("reports/bench.csv")
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One thing that was measured.

    Attributes:
        part: of the benchmark.
        what: was done.
        way: how, for a ratio the fast way.
        value: of it, in ``unit``.
        unit: ``ms``, ``frames/s``, ``s`` ...
        plain: the way that it is held against, and its value; empty where there is none.
        plain_value: likewise.
        gflop: arithmetic of it, 10^9 operations.
        share: of the machine's measured peak of matrix products in the data type used.
        memory_mb: largest growth of the memory in use.
        scale: of params.yaml, where it decides what was done; empty where it does not.
        on: where it ran and in which type, both ways of a ratio; the processor unless networks did it.
    """

    part: str
    what: str
    way: str
    value: float
    unit: str
    plain: str = ""
    plain_value: float | None = None
    gflop: float | None = None
    share: float | None = None
    memory_mb: float | None = None
    scale: str = ""
    on: Compute = field(default_factory=lambda: Compute.resolve("cpu"))

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the plain way."""
        if self.plain_value is None:
            return None
        return self.value / self.plain_value if self.unit.endswith("/s") else self.plain_value / self.value

    def line(self) -> str:
        """As it is printed."""
        text = f"{self.what:44} {self.way:>28} {self.value:>10.4g} {self.unit:<9}"
        if self.plain_value is not None:
            text += f" {self.ratio:5.2f}x {self.plain}, {self.plain_value:.4g}"
        notes = {"GFLOP": self.gflop, "of the peak": self.share and 100 * self.share, "MB": self.memory_mb}
        units = {"of the peak": "% "}
        return text + "".join(f"  {v:.4g} {units.get(k, '')}{k}" for k, v in notes.items() if v is not None)


def timed(work: Work) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def in_turns(first: Work, second: Work, rounds: int) -> tuple[float, float]:
    """Median milliseconds of each: in turns, so that a machine that slows down slows both."""
    first()
    second()
    times = [(timed(first), timed(second)) for _ in range(rounds)]
    a, b = (statistics.median(t) for t in zip(*times, strict=True))
    return a, b


def peak_gflops(compute: Compute, side: int = 2048, rounds: int = 5) -> float:
    """What matrix products reach, 10^9 operations a second, on a device and in a type."""
    a, b = torch.rand(2, side, side, device=compute.device).to(compute.dtype)
    return 2e-6 * side**3 / min(timed(lambda: a @ b) for _ in range(rounds))


def compute_of(params: Params) -> Compute:
    """Where networks are measured: what params.yaml asks for, in the layout that is fast."""
    return Compute.resolve(params.device, params.precision)


def machine(on: Compute) -> dict[str, str]:
    """What numbers were measured on, by the name of the device that they ran on."""
    if on.device.type == "cuda":
        name = torch.cuda.get_device_name(on.device)
    else:  # makers give one name to processors of several generations
        name = of_cpu("model name") or platform.processor() or platform.machine()
        name = f"{name}, {cpu_instructions()}"
    return {
        "machine": name,
        "threads": str(torch.get_num_threads()),
        "type": str(on.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


MEASURED = [*(f.name for f in fields(Row) if f.name != "on"), "ratio"]
COLUMNS = [*MEASURED, "machine", "threads", "type", "torch", "date"]
KEY = ("machine", "threads", "type", "part", "scale", "what", "way")  # rows that have all of it alike are one


def read_table(path: Path = TABLE) -> list[dict[str, str]]:
    """What the table holds; nothing where there is none.

    Raises:
        UserError: it can't be read, or its columns are another version's: to write a new one would lose what other
            machines measured.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns, found = reader.fieldnames, list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: no table that can be read ({error})", fix="move it away, and a new one is begun"
        ) from error
    if columns != COLUMNS:
        raise UserError(
            f"{path}: its columns are not those of this version",
            allowed=", ".join(COLUMNS),
            fix="move the file away, and a new one is begun",
        )
    return found


def keep(rows: Iterable[Row], path: Path = TABLE) -> None:
    """Write rows into the table; those of the same machine, type and scale that measured the same thing give way.

    Raises:
        UserError: the table that is there is another version's.
    """
    kept = {tuple(row[name] for name in KEY): row for row in (*read_table(path), *map(_cells, rows))}
    write_rows(path, COLUMNS, (kept[key] for key in sorted(kept)))


def _cells(row: Row) -> dict[str, str]:
    """A row as the table has it: numbers to four digits."""
    values = {name: getattr(row, name) for name in MEASURED}
    shown = {k: "" if v is None else v if isinstance(v, str) else f"{v:.4g}" for k, v in values.items()}
    return shown | machine(row.on)
