"""Tables as CSV, Markdown and LaTeX, written whole or not at all, and what is read of tables and of JSON, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from head3d.errors import UserError
from head3d.files import replacing
from head3d.report.names import escape_tex

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
REPRO = "run `dvc repro` first"
AGAIN = f"delete it and {REPRO}"
DIGITS = 6  # significant digits of written numbers: more would differ from machine to machine


def read_csv(path: Path, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A table of the pipeline.

    Args:
        path: of the file.
        needed: columns that it must have.

    Raises:
        UserError: it is missing, or no table with these columns.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path} is missing", fix=REPRO)
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' own errors are such, and one of the encoding is
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is no table that can be read ({reason})", fix=AGAIN) from error
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}", fix=AGAIN)
    return table


def read_json(path: Path, kind: type[T]) -> T:
    """What a JSON file of the pipeline holds.

    Args:
        path: of the file.
        kind: ``dict`` or ``list``, what it must be.

    Raises:
        UserError: it is missing, or something else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing", fix=REPRO)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # the encoding's errors, too
        raise UserError(f"{path} is not JSON ({getattr(error, 'msg', error)})", fix=AGAIN) from error
    if not isinstance(found, kind):
        raise UserError(f"{path} holds a {type(found).__name__}", allowed=f"a {kind.__name__}", fix=AGAIN)
    return found


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` so that no reader ever sees half a file."""
    with replacing(path) as file:
        file.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def rounded(value: float, digits: int = DIGITS) -> float:
    """``value`` to a few significant digits."""
    return float(f"{value:.{digits}g}")


def decimals(column: str) -> int:
    """Decimals that people are shown: one more for our mean squared errors, which ablations move in the fifth."""
    return 5 if column.startswith("mse") else 4


def cell(value: object, digits: int = 4) -> str:
    """A value for people: numbers to ``digits`` decimals, whole numbers whole, what is missing as a dash.

    Rounded from what the CSV has of it, so that the Markdown and the page, which reads the CSV, say the same.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
        return "–"
    if isinstance(value, float):
        return f"{rounded(value):.{digits}f}"
    return str(value)


def to_csv(table: pd.DataFrame) -> str:
    """CSV with ``DIGITS`` significant digits; missing cells are empty."""
    return table.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


def to_markdown(table: pd.DataFrame, title: str, caption: str) -> str:
    """A GitHub table under its title and caption; numbers to the right."""
    columns = list(table.columns)
    numeric = [_is_numeric(table[name]) for name in columns]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
    ]
    for row in table.itertuples(index=False):
        cells = [cell(value, decimals(name)).replace("|", r"\|") for name, value in zip(columns, row, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return f"**{title}** {caption}\n\n" + "\n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, caption: str, label: str, names: dict[str, str]) -> str:
    r"""A ``table*`` with booktabs rules, shrunk to the text width.

    Args:
        names: LaTeX of cells whose plain text is a key (names of methods).
    """
    columns = list(table.columns)
    align = "".join("r" if _is_numeric(table[name]) else "l" for name in columns)
    body = []
    for row in table.itertuples(index=False):
        shown = [(str(value), cell(value, decimals(name))) for name, value in zip(columns, row, strict=True)]
        cells = [names.get(key) or escape_tex(text).replace("–", "--") for key, text in shown]
        body.append(" & ".join(cells) + r" \\")
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{{label}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(escape_tex(name) for name in columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """A caption in LaTeX: special characters and the few letters that plain LaTeX has no sign for."""
    out = escape_tex(text)
    for raw, safe in (("Φ", r"$\Phi$"), ("x̄^c", r"$\bar{x}^c$"), ("x̂_dri", r"$\hat{x}_{\mathrm{dri}}$"), ("–", "--")):
        out = out.replace(escape_tex(raw), safe)
    return out


def _is_numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iuf"
