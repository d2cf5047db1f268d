"""``head3d data download|status``: their options, and what each prints."""

from __future__ import annotations

import argparse
from typing import Any

from head3d.errors import UserError

DOWNLOADABLE = ("voxceleb",)


def add(commands: Any) -> None:
    """Add ``data`` to the command line."""
    group = commands.add_parser(
        "data", help="fetch the paper's videos, see how far that is", description="The paper's data; docs/data.md."
    )
    parts = group.add_subparsers(dest="part", required=True, metavar="PART")

    download = parts.add_parser("download", help="download what is missing of a source; goes on where it stopped")
    download.add_argument("--source", required=True, metavar="S", help="voxceleb")
    download.add_argument("--shard", type=int, metavar="K", help="one shard only (params.yaml: shards; default: all)")
    download.add_argument(
        "--again", action="store_true", help="also try what was found gone, private, region or broken before"
    )
    download.set_defaults(run=_download)

    parts.add_parser("status", help="how many videos each source has, and what became of the others").set_defaults(
        run=_status
    )


def _download(args: argparse.Namespace) -> None:
    from head3d.data import downloads
    from head3d.params import load_params
    from head3d.sections.together import check_voxceleb

    params = load_params()
    if args.source == "faceforensics":
        raise UserError(
            "--source faceforensics: its authors give the videos out themselves, after a request",
            fix="docs/data.md says how; then set data.faceforensics.videos",
        )
    if args.source not in DOWNLOADABLE:
        raise UserError(f"--source is '{args.source}'", allowed=", ".join(DOWNLOADABLE))
    if args.shard is not None and args.shard not in params.shards:
        raise UserError(
            f"--shard is {args.shard}", allowed=f"{', '.join(map(str, params.shards))} (params.yaml: shards)"
        )
    check_voxceleb(params)  # it may be downloaded before data.sources has it
    downloads.download(params, params.shards if args.shard is None else [args.shard], args.again)


def _status(args: argparse.Namespace) -> None:
    from head3d.data import overview
    from head3d.params import load_params

    print(overview.text(load_params()))
