"""Lines of the benchmark's table, ``reports/bench.csv``, and how they are timed."""

import csv
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

import torch

from head3d.compute import Compute
from head3d.data.store import write_rows

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


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    compute = Compute.resolve()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if compute.device.type == "cuda":
        name = torch.cuda.get_device_name(compute.device)
    elif cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return {
        "machine": name,
        "threads": str(torch.get_num_threads()),
        "type": str(compute.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


COLUMNS = [*(f.name for f in fields(Row)), "ratio", "machine", "threads", "type", "torch", "date"]


def read_table(path: Path = TABLE) -> list[dict[str, str]]:
    """What the table holds; nothing where there is none, or one of an older version."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if reader.fieldnames == COLUMNS else []


def keep(rows: Iterable[Row], path: Path = TABLE) -> None:
    """Write rows into the table; those of the same machine and type that measured the same thing give way."""
    about = machine()

    def key(row: Mapping[str, object]) -> tuple[object, ...]:
        return tuple(row[name] for name in ("machine", "threads", "type", "part", "what", "way"))

    kept: dict[tuple[object, ...], Mapping[str, object]] = {key(row): row for row in read_table(path)}
    for row in rows:
        numbers = {k: f"{v:.4g}" for k, v in {**asdict(row), "ratio": row.ratio}.items() if isinstance(v, float)}
        texts = {k: v for k, v in asdict(row).items() if isinstance(v, str)}
        line = dict.fromkeys(COLUMNS, "") | texts | numbers | about
        kept[key(line)] = line
    write_rows(path, COLUMNS, (kept[k] for k in sorted(kept, key=str)))
