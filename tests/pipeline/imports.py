"""Which source files a module needs, found by reading the imports of the files (those for type checkers left out)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def needs(module: str) -> set[str]:
    """Files, relative to the root, of all head3d modules that a module imports, at its top or inside its functions."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        name = ahead.pop()
        path = _file(name)
        if path is None or path.as_posix() in found:
            continue
        found.add(path.as_posix())
        ahead += _imports(name)
    return {f"src/{path}" for path in found}


def _file(module: str) -> Path | None:
    base = Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (SOURCE / path).exists():
            return path
    return None


@cache
def _imports(module: str) -> list[str]:
    path = _file(module)
    assert path is not None
    tree = ast.parse((SOURCE / path).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: list[str] = []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (start, node.module or "") if part)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    # importing a.b.c runs the __init__ of a and of a.b too
    found += [name.rsplit(".", cut)[0] for name in found for cut in range(1, name.count(".") + 1)]
    return [name for name in dict.fromkeys(found) if name.split(".")[0] == "head3d"]
