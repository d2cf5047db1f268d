"""``head3d doctor``: one screen on what this machine has, lacks, and can run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.parallel import cores

if TYPE_CHECKING:
    from head3d.assets.catalogue import Package, Source
    from head3d.params import Params

GIB = 1024**3
# Clips, masks, models, saved states, DVC's cache and MLflow's store, with room to spare: the demo's measured, the
# paper's reckoned (docs/paper-run.md), without the videos.
NEEDED_DISK_GIB = {"smoke": 2.0, "demo": 4.0, "paper": 55.0, "paper256": 175.0}
NEEDED_CACHE_GIB = 2.0  # weights and sample videos
NEEDED_MEMORY_GIB = 5.0  # a whole demo took 3.5 in bfloat16, stage 3 took 3.6 in float32; the rest is room to spare
REACH_S = 8.0  # seconds that a source may take to answer
# Minutes on two CPU cores, measured; elsewhere they are scaled by cores, which flatters many cores. Without AMX the
# demo's are reckoned: in bfloat16 (an EPYC of Zen 4, 2026-11-30) and in float32 (a processor without AVX-512,
# 2026-11-28) from the seconds of some steps and stages, which were started by hand.
MINUTES_WITH_AMX = {"smoke": 5.0, "demo": 75.0}
MINUTES_IN_BFLOAT16 = {"smoke": 6.0, "demo": 135.0}
MINUTES_IN_FLOAT32 = {"smoke": 9.0, "demo": 300.0}


def screen() -> str:
    """All findings as one text: a mark (ok, !! or --), a name, and what was found."""
    checks: list[tuple[str, Callable[[], tuple[bool | None, str]]]] = [
        ("Python", python),
        ("PyTorch", pytorch),
        ("bfloat16", bfloat16),
        ("ffmpeg", ffmpeg),
        ("git", git),
        ("parameters", parameters),
        ("memory", memory),
        ("disk", disk),
        ("videos", videos),
        ("assets", assets),
        ("tracking", tracking),
        ("time", scales),
    ]
    lines = [f"Head3D on {platform.node() or 'this machine'} ({platform.system()} {platform.machine()})"]
    for name, check in checks:
        try:
            good, text = check()
        except Exception as error:  # noqa: BLE001 - the doctor tells what is broken, it does not break
            good, text = False, f"{type(error).__name__}: {error}"
        mark = {True: "ok", False: "!!", None: "--"}[good]
        first, *more = text.splitlines() or [""]
        lines.append(f"  {mark}  {name:<11}{first}")
        lines += [f"      {'':<11}{line}" for line in more]
    lines.append("ok: fine   !!: mend this   --: good to know")
    return "\n".join(lines)


def python() -> tuple[bool, str]:
    """Version and environment."""
    good = sys.version_info >= (3, 11)
    where = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return good, f"{platform.python_version()}, {where}" + ("" if good else "; 3.11 or newer is needed")


def pytorch() -> tuple[bool, str]:
    """Version, device and threads."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device = f"cuda: {torch.cuda.device_count()} x {properties.name}, {properties.total_memory / GIB:.0f} GiB"
    else:
        device = f"cpu: {cores()} cores, {torch.get_num_threads()} threads"
    return True, f"{torch.__version__}, {device}"


def bfloat16() -> tuple[bool | None, str]:
    """Whether convolutions run in bfloat16 by default."""
    import torch

    from head3d.compute import Compute

    chosen = Compute.resolve()
    if chosen.dtype is torch.bfloat16:
        return True, "convolutions use it (precision: auto)"
    return None, "slower than float32 on this processor: convolutions use float32 (precision: auto)"


def ffmpeg() -> tuple[bool, str]:
    """The pinned ffmpeg of imageio-ffmpeg's wheel, or the one that ``IMAGEIO_FFMPEG_EXE`` names."""
    import imageio_ffmpeg

    from head3d.data.video import ffmpeg_exe

    program = ffmpeg_exe()
    version = imageio_ffmpeg.get_ffmpeg_version()
    if not version:
        return False, f"{program} is no ffmpeg: it tells no version"
    return True, f"{version} ({'IMAGEIO_FFMPEG_EXE' if os.environ.get('IMAGEIO_FFMPEG_EXE') else 'imageio-ffmpeg'})"


def git() -> tuple[bool | None, str]:
    """Commit of this checkout; runs are labelled with it."""
    from head3d.tracking import git_commit

    commit = git_commit()
    if commit == "unknown":
        return None, "no git checkout here: runs carry no commit"
    changed = " with changes that are not committed" if commit.endswith("-dirty") else ""
    return True, f"commit {commit[:12]}{changed}"


def parameters() -> tuple[bool, str]:
    """params.yaml and its scale."""
    from head3d.errors import UserError
    from head3d.params import load_params

    try:
        params = load_params()
    except UserError as error:
        return False, str(error)
    return True, f"params.yaml is valid, scale {params.scale}"


def memory() -> tuple[bool, str]:
    """Memory that is free for a stage."""
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page / GIB
        free = _available_memory() or os.sysconf("SC_AVPHYS_PAGES") * page / GIB
        text = f"{free:.1f} of {total:.1f} GiB free"
        if free >= NEEDED_MEMORY_GIB:
            return True, text
        return False, f"{text}; a stage may need up to {NEEDED_MEMORY_GIB:g}"
    return True, "unknown on this system"


def _available_memory() -> float | None:
    """GiB that Linux would hand out, caches included."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    found = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 / GIB if found else None


def disk() -> tuple[bool, str]:
    """Room here and in the cache of assets."""
    from head3d.assets.cache import cache_dir

    cache = cache_dir()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    here, there = shutil.disk_usage(".").free / GIB, shutil.disk_usage(existing).free / GIB
    text = f"{here:.0f} GiB free here, {there:.0f} in the cache {_short(cache)}"
    params = _params()
    scale = params.scale if params and params.scale in NEEDED_DISK_GIB else "demo"
    needed = NEEDED_DISK_GIB[scale]
    good = here >= needed and there >= NEEDED_CACHE_GIB
    beside = ", and its videos, which docs/paper-run.md reckons" if scale.startswith("paper") else ""
    needs = f"the scale {scale} needs {needed:g} here{beside}, {NEEDED_CACHE_GIB:g} in the cache"
    return good, text if good and not beside else f"{text}; {needs}"


def videos() -> tuple[bool | None, str]:
    """What each source of ``data.sources`` has, and what fetches the rest."""
    from head3d.data import overview
    from head3d.data.ytdlp import find
    from head3d.errors import UserError

    params = _params()
    if params is None:
        return None, "params.yaml can't be read"
    text = overview.text(params)
    if "voxceleb" in params.data.sources:
        try:
            find()
        except UserError as error:
            text += f"\nhead3d data download: {error}"
    return "!! " not in text, text


def assets() -> tuple[bool | None, str]:
    """Which weights and sample videos that the parameters need are in the cache, and whether the others can be had."""
    from head3d.assets.cache import status

    found, wanted = status(), _wanted()
    missing = [asset for asset, present in found if not present]
    lacking = [asset for asset in missing if asset.name in wanted]
    lines = [f"{len(wanted) - len(lacking)} of the {len(wanted)} that params.yaml needs are in the cache"]
    with ThreadPoolExecutor(8) as pool:
        sources = [source for asset in lacking for source in asset.sources]
        answers = dict(zip(map(str, sources), pool.map(reachable, sources), strict=True))
    by = {asset.name: next((str(s) for s in asset.sources if answers[str(s)]), "") for asset in lacking}
    lines += [f"{name}: {f'reachable ({where})' if where else 'not reachable from here'}" for name, where in by.items()]
    if not all(by.values()):
        lines.append("`head3d assets add NAME FILE` puts a file in its place (docs/weights.md)")
    if spare := len(missing) - len(lacking):
        lines.append(f"{spare} others that other parameters and commands use: `head3d assets` lists them")
    return (True if not lacking else None if all(by.values()) else False), "\n".join(lines)


def _wanted() -> set[str]:
    """Names of the assets that params.yaml needs, or that every scale needs if it can't be read."""
    from head3d.assets.cache import ASSETS, required_assets

    params = _params()
    if params is None:
        return {asset.name for asset in ASSETS.values() if not asset.optional}
    recorded, unrecorded = required_assets(params)
    return {*recorded, *unrecorded}


def _params() -> Params | None:
    """What params.yaml says; None if it can't be read, which the line on parameters tells."""
    from head3d.errors import UserError
    from head3d.params import load_params

    try:
        return load_params()
    except UserError:
        return None


def reachable(source: Source) -> bool:
    """Whether a source answers; nothing is downloaded."""
    from head3d.assets.catalogue import Package

    if isinstance(source, Package):
        return _package_is_known(source)
    request = urllib.request.Request(source.url, method="HEAD", headers={"User-Agent": "head3d"})
    try:
        with urllib.request.urlopen(request, timeout=REACH_S) as answer:
            return answer.status < 400
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _package_is_known(source: Package) -> bool:
    if source.client == "npm":
        npm = shutil.which("npm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        command = [npm or "npm", "view", source.requirement, "version"]
    else:
        command = [sys.executable, "-m", "pip", "index", "versions", source.requirement.partition("==")[0]]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=2 * REACH_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def tracking() -> tuple[bool | None, str]:
    """Where MLflow runs go."""
    from head3d.tracking import DEFAULT_URI, OFFLINE, files_only, tracking_uri

    if files_only():
        return True, f"files in {OFFLINE} (HEAD3D_TRACKING); `head3d runs import` brings them into a store"
    uri = tracking_uri()
    if uri != DEFAULT_URI:
        return True, f"{uri} (MLFLOW_TRACKING_URI)"
    state = "exists" if Path("mlflow.db").exists() else "made by the first run"
    return True, f"{uri} ({state}); look with `make ui`"


def scales() -> tuple[None, str]:
    """What each scale would take here."""
    import torch

    from head3d.compute import cpu_gains_by_bfloat16, cpu_has_amx

    count = cores()
    known = MINUTES_IN_BFLOAT16 if cpu_gains_by_bfloat16() else MINUTES_IN_FLOAT32
    known = MINUTES_WITH_AMX if cpu_has_amx() else known
    times = {name: max(minutes * min(1.0, 2 / count) ** 0.6, 2) for name, minutes in known.items()}
    lines = [
        f"{name}: about {f'{time:.0f} minutes' if time < 100 else f'{time / 60:.0f} hours'} on {count} cores"
        for name, time in times.items()
    ]
    gpu = "on this GPU, not measured" if torch.cuda.is_available() else "on a GPU, and this machine has none"
    return None, "\n".join([*lines, f"paper: days {gpu}"])


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
