"""``head3d app``: its options, and the start of the server."""

from __future__ import annotations

import argparse
from typing import Any

from head3d.errors import UserError
from head3d.sections.choices import PARSERS


def add(commands: Any) -> None:
    """Add ``app`` to the command line."""
    app = commands.add_parser(
        "app",
        help="animate videos and turn heads by hand, on a local web page",
        description="A web page on this machine for what `head3d animate` and `head3d view` do. Stop it with Ctrl-C.",
    )
    app.add_argument("--models", default="models", metavar="DIR", help="trained models (default: models)")
    app.add_argument("--variant", default="full", metavar="V", help="which fusion model (default: full)")
    add_parser(app)
    app.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N (default: device of params.yaml)")
    app.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to listen at (default: this machine only)"
    )
    app.add_argument("--port", type=int, default=8001, metavar="P", help="default: 8001; 0 takes a free one")
    app.add_argument(
        "--most-mb", type=int, default=1000, metavar="MB", help="largest video that is taken, megabytes (default: 1000)"
    )
    app.set_defaults(run=_run)


def add_parser(command: argparse.ArgumentParser) -> None:
    """Add ``--parser``, which ``animate`` has too."""
    command.add_argument(
        "--parser",
        choices=PARSERS,
        default="full",
        help="what finds the head in driving frames: small is two to three times as fast (default: full)",
    )


def _run(args: argparse.Namespace) -> None:
    from head3d import web

    web.check_port(args.port)
    if args.most_mb < 1:
        raise UserError(f"--most-mb is {args.most_mb}", allowed="1 or more megabytes")
    from head3d import use
    from head3d.app.server import serve
    from head3d.assets.cache import fetch_all
    from head3d.options import Options

    model = use.load(Options(models=args.models, variant=args.variant, device=args.device, parser=args.parser))
    fetch_all(["face-parsing", "landmarks-68"])  # before the first video needs them
    serve(model, args.host, args.port, args.most_mb * 1_000_000)
