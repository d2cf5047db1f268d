"""The table of transfer between people, from ``metrics/cross/``: measures that need no truth, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.evaluation.compared import ABOUT
from head3d.report import captions, columns, formats, names, stats

if TYPE_CHECKING:
    import pandas as pd

    from head3d.params import Params

TITLE = "Transfer between people: measures that need no truth."
OURS, DRIVING = "head3d", "driving"
NO_FACE_COLUMN = "no_face_"  # how its name begins; its end is the model that measured


def read(folder: Path, test_sets: list[str], methods: list[str]) -> pd.DataFrame:
    """All rows of ``metrics/cross/SET.csv``, checked: every method was measured on every pair.

    A test set whose clips are all of one person has no pair, and no row.
    """
    import pandas as pd

    frames = []
    for test_set in test_sets:
        path = folder / f"{test_set}.csv"
        frame = formats.read_csv(path, ABOUT)
        if len(frame.columns) == len(ABOUT):
            raise UserError(f"{path} has no column of a measure", fix=formats.AGAIN)
        if len(frame):
            if text := [name for name in measures_of(frame) if frame[name].dtype.kind not in "iuf"]:
                raise UserError(f"{path}: column {text[0]} holds what is no number", fix=formats.AGAIN)
            pairs = sorted(frame["pair"].unique())
            for method in methods:
                if sorted(frame.loc[frame["method"] == method, "pair"]) != pairs:
                    raise UserError(f"{path}: {method} was not measured once on every pair", fix=formats.AGAIN)
            frames.append(frame[frame["method"].isin(methods)])
        known = list(frame.columns)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=known)


def measures_of(rows: pd.DataFrame) -> list[str]:
    """Columns that hold measures; their names end with the model that measured."""
    return [name for name in rows.columns if name not in ABOUT]


def build(params: Params, rows: pd.DataFrame, methods: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """A row for each test set and method, and the plain keys of its methods.

    Each measure is averaged over pairs, with the bounds of its 95 % bootstrap interval over pairs; a pair in which
    nothing could be measured is left out of that measure, and its frames are in ``no_face``. ``MEASURE_pairs`` counts
    those that are not: methods whose counts differ are not compared on the same pairs.
    """
    import pandas as pd

    lines, keys = [], []
    measures = measures_of(rows)
    for test_set in params.test_sets:
        of_set = rows[rows["dataset"] == test_set]
        for method in methods if len(of_set) else []:
            own = of_set[of_set["method"] == method].sort_values("pair")
            line: dict[str, object] = {"dataset": test_set, "method": names.plain(method, params.model.references)}
            line |= {"n_pairs": len(own), "n_frames": int(own["n_frames"].sum())}
            for name in measures:
                values = own[name].dropna().to_numpy(dtype=float)
                low, high = stats.mean_interval(values, params.evaluate.bootstrap, params.seed)
                mean = values.mean() if len(values) else float("nan")
                line |= dict(zip(columns_of(name), (mean, low, high, len(values)), strict=True))
            lines.append(line)
            keys.append(method)
    found = [column for name in measures for column in columns_of(name)]
    return pd.DataFrame(lines, columns=["dataset", "method", "n_pairs", "n_frames", *found]), keys


def paired_table(params: Params, rows: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Head3D minus every other method over the pairs in which both were measured, ``columns.CROSS_PAIRED``.

    The driving video itself is left out, for it is no method, and so are measures that one of the two has on no pair.
    ``n_lower`` of ``n_pairs`` are those on which Head3D's is lower: better for errors, worse for identity.
    """
    import pandas as pd

    lines = []
    for test_set in params.test_sets:
        of_set = rows[rows["dataset"] == test_set].set_index(["method", "pair"])
        for against in methods if len(of_set) else []:
            if against in (OURS, DRIVING):
                continue
            mine, other = of_set.loc[OURS].align(of_set.loc[against], join="inner", axis=0)
            for name in measures_of(rows):
                known = mine[name].notna() & other[name].notna()
                if not known.any():
                    continue
                ours, theirs = (side.loc[known, name].to_numpy(dtype=float) for side in (mine, other))
                result = stats.paired(ours, theirs, params.evaluate.bootstrap, params.seed)
                line = {"dataset": test_set, "method": OURS, "against": against, "measure": name}
                line |= {"n_pairs": len(ours), **{key: result[key] for key in columns.CROSS_PAIRED_RESULTS}}
                lines.append(line)
    return pd.DataFrame(lines, columns=list(columns.CROSS_PAIRED))


def columns_of(measure: str) -> tuple[str, str, str, str]:
    """What the table holds of a measure: its mean, the bounds of the interval, the pairs that are in it."""
    return measure, f"{measure}_low", f"{measure}_high", f"{measure}_pairs"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The same for people: each interval beside its mean, and no absolute angles."""
    import pandas as pd

    narrow = table[["dataset", "method", "n_pairs"]].copy()
    for name in table.columns:
        if f"{name}_low" in table.columns and "_absolute_" not in name:
            known = zip(*(table[column] for column in columns_of(name)), table["n_pairs"], strict=True)
            narrow[name] = [
                format_interval(mean, low, high, digits(name)) + missing(k, n) for mean, low, high, k, n in known
            ]
    return pd.DataFrame(narrow)


def missing(known: int, pairs: int) -> str:
    """How many pairs are in a mean, where some are not; nothing where all are or none."""
    return f" ({known} of {pairs})" if 0 < known < pairs else ""


def digits(name: str) -> int:
    """Decimals of a measure that people are shown."""
    return 3 if name.startswith(("identity", NO_FACE_COLUMN)) else 2


def format_interval(mean: float, low: float, high: float, places: int) -> str:
    """A mean with its interval."""
    if mean != mean:
        return "–"
    return f"{mean:.{places}f}" + (f" [{low:.{places}f}, {high:.{places}f}]" if low == low else "")


def write(params: Params, folder: Path, tables: Path, data: str = "") -> None:
    """Write cross_identity.csv, .md and .tex, paired differences and the rows of all pairs, from ``metrics/cross``."""
    methods = names.cross_methods(params.baselines)
    rows = read(folder, list(params.test_sets), methods)
    table, keys = build(params, rows, methods)
    pairs = {str(name): int(group["n_pairs"].max()) for name, group in table.groupby("dataset", sort=False)}
    caption = captions.cross_caption(params, pairs) + data
    n_default = params.model.references
    tex_names = {names.plain(key, n_default): names.tex(key, n_default) for key in keys}
    people = shown(table)
    formats.write_text(tables / "cross_identity.csv", formats.to_csv(table))
    formats.write_text(tables / "cross_identity.md", formats.to_markdown(people, TITLE, caption))
    formats.write_text(
        tables / "cross_identity.tex", formats.to_latex(people, f"{TITLE} {caption}", "tab:cross_identity", tex_names)
    )
    formats.write_text(tables / "cross_identity_pairs.csv", formats.to_csv(rows))
    formats.write_text(tables / "cross_paired.csv", formats.to_csv(paired_table(params, rows, methods)))
