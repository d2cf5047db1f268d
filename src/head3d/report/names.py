"""What methods are called in tables, figures and on the page, in which order, and in which table they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from head3d.evaluation import compared
from head3d.sections.baselines import settings_class
from head3d.sections.choices import BASELINES

FLOOR_ROWS = ("copy", "copy_last", "paste")
ABLATIONS = (
    "head3d_nearest",
    "head3d_mean_canonical",
    "head3d_no_head",
    "head3d_no_skip",
    "head3d_no_matching",
)

_PLAIN = {
    "driving": "the driving video itself",
    "copy": "copy (random reference)",
    "copy_last": "copy-last",
    "paste": "rendered head pasted",
    **{name: settings_class(name).title for name in BASELINES},
    "head3d_nearest": "Head3D, s_ref nearest in pose",
    "head3d_mean_canonical": "Head3D w/ x̄^c",
    "head3d_no_head": "Head3D w/o x̂_dri",
    "head3d_no_skip": "Head3D w/o image skip",
    "head3d_no_matching": "Head3D w/o matching",
}
_TEX = {
    "head3d_mean_canonical": r"Head3D w/ $\bar{x}^c$",
    "head3d_no_head": r"Head3D w/o $\hat{x}_{\mathrm{dri}}$",
}
_TEX_SAFE = str.maketrans(
    {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {special: rf"\{special}" for special in "&%_#${}"}
)
_REFERENCES = re.compile(r"head3d_n(\d+)$")


def references(method: str, default: int) -> int | None:
    """Number N of reference frames that ``method`` says by its name, or None; ``head3d`` itself uses ``default``."""
    if method == "head3d":
        return default
    match = _REFERENCES.match(method)
    return int(match.group(1)) if match else None


def plain(method: str, default: int) -> str:
    """Name of a method in text, for example ``Head3D (N = 5)``; an unknown method keeps its own name."""
    n = references(method, default)
    return f"Head3D (N = {n})" if n is not None else _PLAIN.get(method, method)


def tex(method: str, default: int) -> str:
    """Name of a method in LaTeX."""
    n = references(method, default)
    if n is not None:
        return f"Head3D ($N = {n}$)"
    return _TEX.get(method, escape_tex(_PLAIN.get(method, method)))


def table1_methods(present: list[str], baselines: Sequence[str]) -> list[str]:
    """Methods of Table 1 among ``present``: floors, baselines in the order of params.yaml, Head3D."""
    return [method for method in (*FLOOR_ROWS, *baselines, "head3d") if method in present]


def cross_methods(baselines: Sequence[str]) -> list[str]:
    """What is measured across people: the driver as such, floors, baselines in the order of params.yaml, Head3D."""
    return ["driving", *compared.methods_of(baselines).values()]


def table3_methods(present: list[str]) -> list[str]:
    """Methods of Table 3 among ``present``: fewer and more references, what was taken out, Head3D, as in the paper."""
    counts = sorted((m for m in present if _REFERENCES.match(m)), key=lambda m: references(m, 0) or 0)
    return [*counts, *(m for m in ABLATIONS if m in present), *(["head3d"] if "head3d" in present else [])]


def escape_tex(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    return text.translate(_TEX_SAFE)
