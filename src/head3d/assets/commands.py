"""``head3d assets``: what there is, and files that a user has got by hand or wants to trust."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head3d.errors import UserError
from head3d.files import replacing

if TYPE_CHECKING:
    from tqdm import tqdm

    from head3d.assets.catalogue import Asset


def add(commands: Any) -> None:
    """Add ``assets`` to the command line."""
    group = commands.add_parser(
        "assets",
        help="list weights and sample videos; put in or trust a file",
        description="Weights and sample videos: docs/weights.md. Without PART: list them.",
    )
    group.set_defaults(run=lambda _: print(listing()))
    parts = group.add_subparsers(dest="part", metavar="PART")
    put = parts.add_parser("add", help="put in a file that you downloaded by hand, once it is seen to load")
    put.add_argument("name", metavar="NAME", help="of the asset")
    put.add_argument("file", metavar="FILE", help="the file; it is copied")
    put.set_defaults(run=lambda args: print(put_in(args.name, Path(args.file))))
    new = parts.add_parser("trust", help="take another file than the recorded one from now on")
    new.add_argument("name", metavar="NAME", help="of the asset")
    new.add_argument("--file", metavar="FILE", help="the file (default: what its address gives today)")
    new.set_defaults(run=_trust)


def _trust(args: argparse.Namespace) -> None:
    print(trust(args.name, Path(args.file) if args.file else None))


def listing() -> str:
    """A line an asset, with the marks of ``head3d doctor``: present or not, name, digest, licence, where from."""
    from head3d.assets import cache

    found = cache.status()
    width = max(len(asset.name) for asset, _ in found)
    lines = [f"weights and sample videos in {cache.cache_dir() / 'assets'}"]
    for asset, present in found:
        where = str(asset.sources[0]) if asset.sources else f"by hand: {asset.page}"
        mark = "ok" if present else "--"
        lines.append(f"  {mark}  {asset.name:<{width}}  {_digest(asset):<24}  {asset.licence}  [{where}]")
    lines.append("ok: in the cache   --: not fetched   docs/weights.md: how to put a file in by hand")
    return "\n".join(lines)


def _digest(asset: Asset) -> str:
    """What is known of an asset's digest, and its beginning."""
    from head3d.assets import lock

    for what, digest in (
        ("known", asset.sha256),
        ("trusted", lock.digest(asset.name)),
        ("reported", asset.reported),
    ):
        if digest:
            return f"{what} {digest[:12]}"
    return "unknown (first use)"


def put_in(name: str, file: Path) -> str:
    """Put a file that the user has got by hand into the cache.

    Returns:
        A line that says what was accepted.

    Raises:
        UserError: it is not the file that is expected, or does not load.
    """
    from head3d.assets import cache

    return _accept(cache.find_asset(name), file, again=False)


def trust(name: str, file: Path | None = None) -> str:
    """Take another file than the recorded one from now on: ``file``, or what the asset's sources give today.

    Returns:
        A line that says what was accepted.

    Raises:
        UserError: the asset's publisher states a digest, so there is nothing to decide; or see :func:`put_in`.
    """
    from tqdm import tqdm

    from head3d.assets import cache, download

    asset = cache.find_asset(name)
    if asset.sha256:
        raise UserError(
            f"asset '{name}': its publisher states its SHA-256, {asset.sha256}", fix=cache.manual_fetch_fix(asset)
        )
    if file is not None:
        return _accept(asset, file, again=True)
    problems = []
    for source in asset.sources:
        with _workplace() as folder, tqdm(unit="B", unit_scale=True, desc=name, disable=None) as bar:
            part = Path(folder) / asset.file
            try:
                cache.fetch_from(source, asset, part, Path(folder), {}, partial(_show, bar))
            except download.SourceError as error:
                problems.append(str(error))
                continue
            return _accept(asset, part, again=True, source=str(source))
    raise UserError(
        f"asset '{name}' could not be fetched: {'; '.join(problems) or 'it has no address'}",
        fix=cache.manual_fetch_fix(asset),
    )


def _show(bar: tqdm, new: int, _total: int) -> None:
    bar.update(new)


def _workplace() -> tempfile.TemporaryDirectory[str]:
    from head3d.assets.cache import cache_dir

    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=cache_dir())
    except OSError as error:
        raise UserError(f"{cache_dir()}: cannot be written ({error})", fix="set HEAD3D_CACHE") from error


def _accept(asset: Asset, file: Path, *, again: bool, source: str = "by hand") -> str:
    """A file into the cache and its digest into the lock; ``again`` allows another digest than the expected one."""
    from head3d.assets import cache, download, lock

    if not file.is_file():
        raise UserError(f"{file}: no such file", fix=cache.manual_fetch_fix(asset))
    got = download.sha256(file)
    if not got.startswith(asset.sha256 if again else cache.digest_of(asset)):
        raise UserError(
            f"{file}: its SHA-256 is {got}, expected {cache.expected_digest(asset)}",
            fix=cache.digest_mismatch_fix(asset, file),
        )
    cache.check(asset, file)
    target = cache.cached_path(asset, asset.sha256 or got)
    try:
        with replacing(target) as unfinished:
            shutil.copyfile(file, unfinished)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error})", fix="set HEAD3D_CACHE") from error
    if len(asset.sha256) == cache.DIGITS:
        return f"{target}: {asset.name}, with the published SHA-256"
    lock.record(asset.name, got, target.stat().st_size, source, again=again)
    return f"{target}: {asset.name}, SHA-256 {got} recorded in {lock.path()}"
