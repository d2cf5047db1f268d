"""``head3d study build|serve|results``: their options, and what each prints."""

from __future__ import annotations

import argparse
from typing import Any

from head3d.errors import UserError


def add(commands: Any) -> None:
    """Add ``study`` to the command line."""
    group = commands.add_parser(
        "study", help="ask people which videos are better (Table 2)", description="The rater study; docs/study.md."
    )
    parts = group.add_subparsers(dest="part", required=True, metavar="PART")

    build = parts.add_parser("build", help="make a study folder from transferred videos")
    build.add_argument("folders", nargs="+", metavar="DIR", help="a test set's videos, such as data/transfer/mini-seen")
    build.add_argument("--out", required=True, metavar="STUDY", help="folder to make")
    build.add_argument(
        "--raters", type=int, default=10, metavar="R", help="number of links (default: 10, as the paper)"
    )
    build.add_argument("--per-rater", type=int, metavar="K", help="comparisons that a rater sees (default: all)")
    build.add_argument(
        "--checks",
        type=int,
        metavar="N",
        help="attention checks a rater (default: 1 in 10, but 5 or more)",
    )
    build.add_argument(
        "--criteria",
        nargs="+",
        default=["overall"],
        metavar="C",
        help="questions on each comparison: overall (default, as the paper), realism, motion, identity",
    )
    build.add_argument(
        "--against", nargs="+", default=[], metavar="M", help="methods to compare with (default: baselines)"
    )
    build.add_argument("--every-pair", action="store_true", help="compare those methods among themselves too")
    build.add_argument(
        "--seed", type=int, metavar="S", help="of sides, orders and choices (default: drawn anew, and kept)"
    )
    build.set_defaults(run=_build)

    serve = parts.add_parser("serve", help="show a study to its raters; prints their links")
    serve.add_argument("study", metavar="STUDY", help="folder that `head3d study build` made")
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to listen at (default: this machine only)"
    )
    serve.add_argument("--port", type=int, default=8000, metavar="P", help="default: 8000; 0 takes a free one")
    serve.set_defaults(run=_serve)

    results = parts.add_parser("results", help="votes, win rates and intervals as table2.csv")
    results.add_argument("studies", nargs="+", metavar="STUDY", help="one or several study folders")
    results.add_argument("--out", metavar="FILE.csv", help="table to write (default: print it only)")
    results.add_argument("--votes", metavar="FILE.csv", help="votes to write, as study/votes.csv for the report")
    results.set_defaults(run=_results)


def _build(args: argparse.Namespace) -> None:
    from head3d.study.build import build

    made = build(
        args.folders,
        args.out,
        raters=args.raters,
        per_rater=args.per_rater,
        checks=args.checks,
        criteria=list(dict.fromkeys(args.criteria)),
        against=args.against,
        every_pair=args.every_pair,
        seed=args.seed,
    )
    from head3d.study.store import Study

    counts = {total for _, _, total in Study(made).progress()}
    asked = " or ".join(map(str, sorted(counts)))
    print(f"{made}: {args.raters} raters, {asked} questions each; next: head3d study serve {made}")


def _serve(args: argparse.Namespace) -> None:
    from head3d import web
    from head3d.study.server import serve
    from head3d.study.store import Study

    web.check_port(args.port)
    serve(Study(args.study), args.host, args.port)


def _results(args: argparse.Namespace) -> None:
    from pathlib import Path

    from head3d.report import formats, table2
    from head3d.study import votes
    from head3d.study.store import Study

    for option in ("out", "votes"):
        path = getattr(args, option)
        if path and Path(path).suffix != ".csv":
            raise UserError(f"--{option} {path}: no csv file", fix=f"name it {Path(path).stem or option}.csv")
    studies = [Study(folder) for folder in dict.fromkeys(args.studies)]
    cast = votes.parse([study.votes_csv() for study in studies], ", ".join(args.studies))
    table = table2.build_table(cast, RESAMPLES, SEED, [row for study in studies for row in study.rows()])
    for study in studies:
        for rater, done, total in study.progress():
            print(f"{study.folder}: rater {rater.number}, {done} of {total} answered")
    print(formats.to_markdown(table2.for_people(table), table2.TITLE, table2.caption_of(cast)), end="")
    try:
        if args.out:
            out = Path(args.out)
            formats.write_text(out, formats.to_csv(table))
            beside = out.with_name(f"{out.stem}_strengths.csv")
            formats.write_text(beside, formats.to_csv(table2.strengths(cast, RESAMPLES, SEED)))
            print(f"written: {out}, {beside}")
        if args.votes:
            formats.write_text(Path(args.votes), cast[list(votes.COLUMNS)].to_csv(index=False, lineterminator="\n"))
            print(f"written: {args.votes}")
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror or error})") from error


RESAMPLES, SEED = 2000, 0  # of the bootstrap here; the report's are evaluate.bootstrap and seed of params.yaml
