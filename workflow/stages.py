"""The adapter from dvc.yaml to Snakemake's rules: DVC's own expanded stages, told in plain Python.

Snakemake wants files where DVC takes directories: a dep on a code directory becomes its files (Snakemake looks at a
directory's own time, which an edit inside leaves as it is), a dep on a directory of outs becomes the outs in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError

from head3d.errors import UserError
from head3d.params import check_params, read_yaml

PARAMS = "params.yaml"
FIX = "work in a git clone of the project (`git init` in an unpacked archive); `dvc stage list` says more"


@dataclass(frozen=True)
class Stage:
    """One stage, expanded: a job of either engine.

    Attributes:
        name: DVC's name, such as ``train_fusion@full``.
        rule: the same as Snakemake takes it, ``train_fusion_full``.
        command: the shell command.
        deps: files and outs of other stages that it reads.
        outs: files and directories that it makes.
        params: the tracked parameters with their values.
        threads: most threads it can use.
        resources: ``gpu``, ``mem_mb`` and ``runtime`` (minutes).
    """

    name: str
    rule: str
    command: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: dict[str, Any]
    threads: int
    resources: dict[str, int]


def is_directory(out: str) -> bool:
    """Whether an out is a directory: those of this pipeline are the ones without a suffix."""
    return not Path(out).suffix


def load_stages(root: str | Path = ".", max_runtime: object = None) -> list[Stage]:
    """All stages of ``dvc.yaml`` under ``root``, expanded by DVC itself, in its order.

    Args:
        root: where dvc.yaml and params.yaml lie.
        max_runtime: the longest job that a cluster takes, in minutes; None for no limit. A training that is stopped
            there goes on in the next job.

    Raises:
        head3d.errors.UserError: params.yaml or ``max_runtime`` is wrong, or DVC does not work there.
    """
    root = Path(root).resolve()
    limit = _minutes(max_runtime)
    values = read_yaml(root / PARAMS)
    check_params(values)
    try:
        repo = Repo(str(root))
        found = [stage for stage in repo.index.stages if stage.is_data_source is False and stage.cmd]
    except (DvcException, SCMError) as error:
        raise UserError(f"{root}: DVC can't read its stages ({one_line(error)})", fix=FIX) from error
    with repo:
        all_outs = [_path(out) for stage in found for out in stage.outs]
        return [_stage(stage, root, all_outs, values, limit) for stage in found]


def one_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _minutes(given: object) -> int | None:
    """What ``--config max_runtime=…`` or a profile says, checked."""
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UserError(f"config: max_runtime is {given!r}", allowed="whole minutes, at least 1")
    return given


def _stage(stage: Any, root: Path, all_outs: list[str], values: dict[str, Any], limit: int | None) -> Stage:
    deps: list[str] = []
    keys: list[str] = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            keys += dep.params
        else:
            deps += _files(_path(dep), root, all_outs)
    meta = dict(stage.meta or {})
    if limit and "runtime" in meta:
        meta["runtime"] = min(meta["runtime"], limit)
    return Stage(
        name=stage.name,
        rule=re.sub(r"\W", "_", stage.name),
        command=stage.cmd,
        deps=tuple(deps),
        outs=tuple(_path(out) for out in stage.outs),
        params={key: _value(values, key) for key in keys},
        threads=meta.pop("threads", 1),
        resources=meta,
    )


def _path(item: Any) -> str:
    """Path of a dep or an out, relative to the root."""
    return Path(item.def_path).as_posix()


def _files(dep: str, root: Path, all_outs: list[str]) -> list[str]:
    inside = [out for out in all_outs if out == dep or out.startswith(f"{dep}/")]
    if inside:
        return inside
    if (root / dep).is_dir():
        return sorted(file.relative_to(root).as_posix() for file in (root / dep).rglob("*.py"))
    return [dep]


def _value(values: dict[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value
