"""Tables as CSV, Markdown and LaTeX, written whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.files import replacing
from head3d.report.names import escape_tex

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6  # significant digits of written numbers: more would differ from machine to machine


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
