"""``head3d bench [PART...]``: measure, print, and keep in ``reports/bench.csv``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from head3d.baselines import NAMES
from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.bench.rows import Row
    from head3d.params import Params

STAGES = ("geometry", "canonical", "fusion", *NAMES)  # trainings whose steps are measured
PARTS = ("networks", "data", "engines", "loop", "steps", "growth")
USUAL = ("networks", "data", "engines")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=f"of {', '.join(PARTS)} (default: {', '.join(USUAL)})")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="times each of a pair is run (default: 7)")
    steps = parser.add_argument_group("steps")
    steps.add_argument("--scale", default="paper", help="whose networks are trained (default: paper)")
    steps.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    steps.add_argument("--sizes", nargs="+", type=int, default=(128, 256), help="of frames (default: 128 256)")
    steps.add_argument("--batches", nargs="+", type=int, default=(1, 2), help="clips a step (default: 1 2)")
    steps.add_argument("--steps", type=int, default=2, help="timed; 0 counts arithmetic and memory only (default: 2)")


def run(args: argparse.Namespace) -> None:
    """Measure the parts that are asked for; each row is kept as soon as it is there."""
    import torch

    from head3d.bench.rows import TABLE, compute_of, keep, machine, read_table
    from head3d.compute import Compute
    from head3d.params import load_params

    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        raise UserError(f"bench: there is no part {unknown[0]!r}", allowed=", ".join(PARTS))
    least = {"rounds": 1, "steps": 0, "sizes": 32, "batches": 1}
    for name, value in least.items():
        given = getattr(args, name)
        if min(given if isinstance(given, tuple | list) else [given]) < value:
            raise UserError(f"bench: --{name} is {given}", allowed=f"{value} or more")
    params = load_params()
    read_table()  # a table that cannot be written to is told now, not after minutes of measuring
    torch.manual_seed(0)
    for on in dict.fromkeys((compute_of(params), Compute.resolve("cpu"))):
        print(", ".join(f"{name} {value}" for name, value in machine(on).items()))
    for part in args.parts or USUAL:
        for row in rows_of(part, params, args):
            print(row.line(), flush=True)
            keep([row])
    print(f"kept in {TABLE}")


def rows_of(part: str, params: Params, args: argparse.Namespace) -> Iterable[Row]:
    """The rows of a part."""
    if part == "steps":
        from head3d.bench import steps

        return steps.rows(args.scale, tuple(args.stages), tuple(args.sizes), tuple(args.batches), args.steps)
    measure: Callable[[Params, int], Iterable[Row]] = import_module(f"head3d.bench.{part}").rows
    return measure(params, args.rounds)
