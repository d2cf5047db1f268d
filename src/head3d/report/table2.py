"""Table 2: whose video people prefer, from the votes of the rater study, with the paper's percentages beside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head3d.report import captions, columns, formats, names, paper
from head3d.study import statistics, votes
from head3d.study.plan import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd

    from head3d.params import Params

CRITERIA = ("overall", "realism", "motion", "identity")  # the order in which they stand in the table
STRENGTHS = ("dataset", "criterion", "method", "strength", "strength_low", "strength_high", "votes")
TITLE = "Table 2. Cross-identity transfer: whose video people prefer."
NO_VOTES = "No votes yet: no rater study has been held (docs/study.md says how)."
CAPTION = (
    "win_percent is the share of votes for Head3D over the method in `against`; wilson is the 95 % Wilson interval, "
    "which takes votes for independent; bootstrap is the 95 % interval from drawing raters and pairs of videos. "
    "agreement is the share of pairs of votes on one comparison that agree, alpha is Krippendorff's. Raters who failed "
    f"more than {100 * votes.MOST_FAILED:g} % of their attention checks do not count."
)
PAPER = (
    "paper_win_percent and paper_lose_percent are the paper's printed numbers on its own data (named in "
    "paper_dataset), from one question to 10 raters: for orientation, not for comparison."
)


def write(params: Params, cast: pd.DataFrame, folder: Path, data: str = "") -> None:
    """``table2.csv``, ``.md`` and ``.tex`` and ``table2_strengths.csv`` of a report.

    Args:
        cast: what :func:`head3d.study.votes.read` returns; without lines the table says that there are no votes.
        data: what ends the caption.
    """
    resamples, seed = params.evaluate.bootstrap, params.seed
    rows = [(dataset, "overall", method) for dataset in params.test_sets for method in params.baselines]
    table = build_table(cast, resamples, seed, rows)
    caption = captions.with_smoke(params, caption_of(cast)) + data
    shown = for_people(table)
    formats.write_text(folder / "table2.csv", formats.to_csv(table))
    formats.write_text(folder / "table2.md", formats.to_markdown(shown, TITLE, caption))
    title = f"{TITLE.partition('. ')[2]} {caption}"
    formats.write_text(folder / "table2.tex", formats.to_latex(shown, title, "tab:table2", tex_names(table)))
    formats.write_text(folder / "table2_strengths.csv", formats.to_csv(strengths(cast, resamples, seed)))


def build_table(
    cast: pd.DataFrame, resamples: int, seed: int, rows: Sequence[tuple[str, str, str]] = ()
) -> pd.DataFrame:
    """Table 2, ``columns.PREFERENCES``: a row for each data set, criterion and method that Head3D is compared with.

    Args:
        cast: all votes.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        rows: (data set, criterion, method) that have a row even without votes; their order is kept.
    """
    import pandas as pd

    compared, raters = votes.sort_out(cast)
    ours = compared[compared["first"] == OURS]
    failed = raters.set_index("rater")
    found = sorted(set(ours[["dataset", "criterion", "second"]].itertuples(index=False, name=None)))
    datasets, _, methods = (list(dict.fromkeys(column)) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    lines = []
    for dataset, criterion, method in sorted(
        dict.fromkeys([*rows, *found]),
        key=lambda row: (_place(row[0], datasets), _place(row[1], CRITERIA), _place(row[2], methods)),
    ):
        of = ours[(ours["dataset"] == dataset) & (ours["criterion"] == criterion) & (ours["second"] == method)]
        line: dict[str, Any] = {"dataset": dataset, "criterion": criterion, "method": "Head3D", "against": name(method)}
        line |= _tally(of, resamples, seed)
        in_set = failed.loc[failed.index.isin((cast["study"] + "/" + cast["rater"])[cast["dataset"] == dataset])]
        line |= {
            "checks": int(in_set["checks"].sum()),
            "checks_failed": int(in_set["failed"].sum()),
            "raters_left_out": int((~in_set["counts"].astype(bool)).sum()),
        }
        there = paper.paper_dataset(dataset)
        printed = paper.TABLE2.get(there, {}).get(method) if criterion == "overall" else None
        line |= {
            "paper_dataset": there if printed else "",
            "paper_win_percent": printed or math.nan,
            "paper_lose_percent": 100 - printed if printed else math.nan,
        }
        lines.append(line)
    return pd.DataFrame(lines, columns=list(columns.PREFERENCES))


def strengths(cast: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Bradley-Terry strengths of all methods (Head3D: 0) in each data set and criterion, columns ``STRENGTHS``.

    A strength is empty where the votes allow none: a method that always or never won against the others.
    """
    import numpy as np
    import pandas as pd

    compared, _ = votes.sort_out(cast)
    lines = []
    for (dataset, criterion), group in compared.groupby(["dataset", "criterion"], sort=True):
        methods = sorted({*group["first"], *group["second"]}, key=lambda one: (one != OURS, one))
        place = {method: number for number, method in enumerate(methods)}
        raters, pairs = (sorted(set(group[key])) for key in ("rater", "pair"))
        wins = np.zeros((len(raters), len(pairs), len(methods), len(methods)))
        for row in group.to_dict("records"):
            won, lost = (row["first"], row["second"]) if row["win"] else (row["second"], row["first"])
            wins[raters.index(row["rater"]), pairs.index(row["pair"]), place[won], place[lost]] += 1
        found = statistics.bradley_terry(wins.sum(axis=(0, 1)))
        low, high = statistics.bradley_terry_interval(wins, resamples, seed)
        total = wins.sum(axis=(0, 1, 2)) + wins.sum(axis=(0, 1, 3))
        for number, method in enumerate(methods):
            lines.append(
                (dataset, criterion, name(method), found[number], low[number], high[number], int(total[number]))
            )
    return pd.DataFrame(lines, columns=list(STRENGTHS))


def name(method: str) -> str:
    """Name of a method by its id in params.yaml: Head3D without its number of references, variants by their own."""
    if method == OURS:
        return "Head3D"
    variant = f"head3d_{method}"
    return names.plain(variant if variant in names.ABLATIONS else method, 0)


def tex_names(table: pd.DataFrame) -> dict[str, str]:
    """LaTeX of the methods that Head3D was compared with, by their plain names: some hold more than ASCII."""
    known = {names.plain(key, 0): names.tex(key, 0) for key in names.ABLATIONS}
    return {plain: known[plain] for plain in table["against"] if plain in known}


def caption_of(cast: pd.DataFrame) -> str:
    """What the numbers are, and whose votes."""
    if cast.empty:
        return f"{NO_VOTES} {PAPER}"
    studies = ", ".join(sorted(set(cast["study"])))
    return f"{CAPTION} Votes on the videos of study {studies}, as they were when it was built. {PAPER}"


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2 with fewer columns, intervals in one cell, and words where there are no votes."""
    import pandas as pd

    def interval(row: Mapping[Any, Any], kind: str) -> str:
        low, high = row[f"{kind}_low"], row[f"{kind}_high"]
        return f"{low:.1f} to {high:.1f}" if low == low else "–"

    lines = [
        {
            "dataset": row["dataset"],
            "criterion": row["criterion"],
            "against": row["against"],
            "Head3D / other (%)": f"{row['win_percent']:.1f} / {100 - row['win_percent']:.1f}"
            if row["votes"]
            else "no votes",
            "wilson": interval(row, "wilson"),
            "bootstrap": interval(row, "bootstrap"),
            "votes": row["votes"],
            "raters": row["raters"],
            "agreement": formats.cell(row["agreement"], 2),
            "alpha": formats.cell(row["alpha"], 2),
            "checks failed": f"{row['checks_failed']} of {row['checks']}" if row["checks"] else "–",
            "left out": row["raters_left_out"],
            "paper (%)": paper_cell(row),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(lines, columns=list(lines[0]) if lines else ["dataset", "criterion", "against"])


def paper_cell(row: Mapping[Any, Any]) -> str:
    """The paper's percentages as it prints them, with its data set."""
    win, lose = row["paper_win_percent"], row["paper_lose_percent"]
    return f"{win:.0f} / {lose:.0f} ({row['paper_dataset']})" if win == win else "–"


def _place(key: str, order: Sequence[str]) -> tuple[int, str]:
    """Where a key stands: in the order given, the unknown ones after it by name."""
    return (list(order).index(key) if key in order else len(order), key)


def _tally(of: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Numbers of one row from its votes."""
    count, wins = len(of), int(of["win"].sum())
    each = of.groupby(["rater", "pair"])["win"]
    won, judged = (found.unstack("pair", fill_value=0) for found in (each.sum(), each.count()))
    by_pair = of.groupby("pair")["win"].agg(["sum", "count"])
    sides: np.ndarray = by_pair.assign(other=by_pair["count"] - by_pair["sum"])[["sum", "other"]].to_numpy(float)
    low, high = statistics.wilson(wins, count)
    boot = statistics.clustered(won.to_numpy(float), judged.to_numpy(float), resamples, seed)
    share, alpha = statistics.agreement(sides.reshape(-1, 2))
    return {
        "votes": count,
        "wins": wins,
        "win_percent": 100 * wins / count if count else math.nan,
        "wilson_low": 100 * low,
        "wilson_high": 100 * high,
        "bootstrap_low": 100 * boot[0],
        "bootstrap_high": 100 * boot[1],
        "raters": len(judged),
        "pairs": len(by_pair),
        "agreement": share,
        "alpha": alpha,
    }
