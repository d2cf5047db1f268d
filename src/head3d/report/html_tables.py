"""The tables of ``reports/tables/`` for people: fewer columns than the CSV, the interval beside its mean.

Each stands in the section that has the name of its file, and is named by that section's heading (:func:`heading_id`).
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from head3d.report import captions, columns, cross, names
from head3d.report.formats import cell, read_csv

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from head3d.params import Params

MEANING_TITLE = "What the numbers mean, and what they don't"  # the section that lists deviations
METRIC_NAMES = {"mse_01": "mean squared error", "lpips_alex": "LPIPS (AlexNet)"}
MEASURES = {
    "n_clips": "clips",
    "n_frames": "frames",
    "n_pose_frames": "frames whose landmarks fit a rigid head",
    "head_mse_mean_reference": "masked head error, mean of the references",
    "head_mse_stage1": "masked head error, mean canonical head (stage 1)",
    "head_mse_stage2": "masked head error, recurrent canonical head (stage 2)",
    "ratio_stage1": "stage 1 / mean of the references",
    "ratio_stage2": "stage 2 / mean of the references",
    "yaw_correlation": "yaw, correlation with landmark poses",
    "pitch_correlation": "pitch, correlation with landmark poses",
    "roll_correlation": "roll, correlation with landmark poses",
    "iou_mean": "intersection over union, mean",
    "iou_5_percent": "intersection over union, 5 % quantile",
    "iou_worst": "intersection over union, worst frame",
    "area_ratio": "area of all heads / the face parser's",
    "yaw_mae_deg": "yaw, mean absolute difference (degrees)",
    "pitch_mae_deg": "pitch, mean absolute difference (degrees)",
    "roll_mae_deg": "roll, mean absolute difference (degrees)",
    "yaw_spread_deg": "yaw, standard deviation of the landmark poses (degrees)",
    "pitch_spread_deg": "pitch, standard deviation of the landmark poses (degrees)",
    "roll_spread_deg": "roll, standard deviation of the landmark poses (degrees)",
}


def reconstruction(path: Path, params: Params) -> str:
    """Table 1 or 3."""
    table = read_csv(path, columns.RECONSTRUCTION)
    ours = names.plain("head3d", params.model.references)
    heads = ["method", "MSE, RGB in [0, 1]", "LPIPS (AlexNet)", "clips", "frames", "paper: L2", "paper: LPIPS"]
    bodies = []
    for dataset, group in table.groupby("dataset", sort=False):
        rows = []
        for row in group.to_dict("records"):
            cells = [
                _interval(row["mse_01"], row["mse_01_low"], row["mse_01_high"], 5),
                _interval(row["lpips_alex"], row["lpips_alex_low"], row["lpips_alex_high"], 4),
                *(escape(cell(row[name])) for name in ("n_clips", "n_frames", "paper_l2", "paper_lpips")),
            ]
            rows.append(_row(method(str(row["method"])), cells, ours=row["method"] == ours))
        there = group["paper_dataset"].dropna()
        beside = f" (paper's columns: {escape(str(there.iloc[0]))})" if len(there) else ""
        bodies.append(_group(f"{escape(str(dataset))}{beside}", rows, len(heads)))
    counts = {str(name): int(group["n_clips"].max()) for name, group in table.groupby("dataset", sort=False)}
    caption = f"Lower is better. Brackets: 95 % bootstrap interval over clips. {captions.clips_sentence(counts)} "
    said = captions.scale_pointer(params, MEANING_TITLE)
    if path.stem == "table3":
        said = " ".join([*captions.row_notes(params), said])
    elif params.baselines:
        said += f" {captions.baselines_sentence(params)}"
    return _table(path, heads, bodies, caption + captions.with_smoke(params, said))


def preferences(path: Path, params: Params) -> str:
    """Table 2: votes of the rater study, or that there are none, with the paper's percentages."""
    table = read_csv(path, columns.PREFERENCES)
    heads = ["against", "Head3D / other (%)", "paper (%)", "Wilson", "over raters and pairs", "votes", "raters"]
    heads += ["agreement", "alpha", "checks failed"]
    bodies = []
    for (dataset, criterion), group in table.groupby(["dataset", "criterion"], sort=False):
        rows = []
        for row in group.to_dict("records"):
            cells = [
                _shares(row["win_percent"]) if row["votes"] else "no votes",
                _shares(row["paper_win_percent"], 0),
                *(_range(row[f"{kind}_low"], row[f"{kind}_high"]) for kind in ("wilson", "bootstrap")),
                *(str(int(row[name])) for name in ("votes", "raters")),
                *(escape(cell(float(row[name]), 2)) for name in ("agreement", "alpha")),
                f"{int(row['checks_failed'])} of {int(row['checks'])}" if row["checks"] else "–",
            ]
            rows.append(_row(method(str(row["against"])), cells))
        there = group["paper_dataset"].dropna()
        beside = f" (paper's column: {escape(str(there.iloc[0]))})" if len(there) else ""
        bodies.append(_group(f"{escape(str(dataset))}, {escape(str(criterion))}{beside}", rows, len(heads)))
    caption = (
        "Share of votes for the video of Head3D and for the other method's, of the same subject and driving videos, "
        "with two 95 % intervals: Wilson's takes votes for independent, the other one draws raters and pairs of "
        "videos. Agreement: share of pairs of votes on one comparison that agree; alpha: Krippendorff's. Checks: "
        "attention checks of the raters of a data set. The paper's column is other data: no comparison."
    )
    if not table["votes"].sum():
        caption = f"No votes yet: no rater study has been held. {caption}"
    return _table(path, heads, bodies, captions.with_smoke(params, caption))


def paired(path: Path, params: Params) -> str:
    """Head3D minus every other method on the same clips."""
    table = read_csv(path, columns.PAIRED)
    n_default = params.model.references
    heads = ["against", "MSE difference", "MSE ratio", "LPIPS difference", "LPIPS ratio", "lower in"]
    bodies = []
    for dataset, of_set in table.groupby("dataset", sort=False):
        rows = []
        for against, group in of_set.groupby("against", sort=False):
            by_metric = {row["metric"]: row for row in group.to_dict("records")}
            cells = []
            for metric, digits in (("mse_01", 5), ("lpips_alex", 4)):
                row = by_metric[metric]
                cells.append(_interval(row["difference"], row["difference_low"], row["difference_high"], digits, "+"))
                cells.append(_interval(row["ratio"], row["ratio_low"], row["ratio_high"], 2))
            lower = ", ".join(str(int(by_metric[metric]["n_lower"])) for metric in ("mse_01", "lpips_alex"))
            cells.append(f"{lower} of {int(by_metric['mse_01']['n_clips'])}")
            rows.append(_row(method(names.plain(str(against), n_default)), cells))
        bodies.append(_group(escape(str(dataset)), rows, len(heads)))
    caption = (
        f"{names.plain('head3d', n_default)} minus the other method on the same clips, and ratio of the means, with "
        "95 % bootstrap intervals over clips. Below 0 and below 1 Head3D is better; an interval that holds 0 decides "
        "nothing. Lower in: clips on which its MSE and its LPIPS are better, for a mean can come from few of "
        "them."
    )
    return _table(path, heads, bodies, captions.with_smoke(params, caption))


CROSS_NAMES = {
    "identity": "identity",
    "yaw_error": "yaw error (°)",
    "pitch_error": "pitch error (°)",
    "roll_error": "roll error (°)",
    "expression_error": "expression error (%)",
    "jitter": "jitter (%)",
    "ghosts": "ghosts (%)",
    "no_face": "frames without a face",
}


def across(path: Path, params: Params) -> str:
    """Transfer between people; under each head the model that measured."""
    table = read_csv(path, ("dataset", "method", "n_pairs"))
    ours = names.plain("head3d", params.model.references)
    known = {name: head for name in table.columns for start, head in CROSS_NAMES.items() if _is_measure(name, start)}
    heads = ["method", *(f"{head}, {name.rpartition('_')[2]}" for name, head in known.items()), "pairs"]
    bodies = []
    for dataset, group in table.groupby("dataset", sort=False):
        rows = []
        for row in group.to_dict("records"):
            cells = [
                _interval(mean, low, high, cross.digits(name)) + cross.missing(pairs, row["n_pairs"])
                for name in known
                for mean, low, high, pairs in [[row[column] for column in cross.columns_of(name)]]
            ]
            rows.append(_row(method(str(row["method"])), [*cells, str(row["n_pairs"])], ours=row["method"] == ours))
        bodies.append(_group(escape(str(dataset)), rows, len(heads)))
    counts = {str(name): int(group["n_pairs"].max()) for name, group in table.groupby("dataset", sort=False)}
    caption = captions.cross_caption(params, counts, captions.scale_pointer(params, MEANING_TITLE))
    return _table(path, heads, bodies, caption)


def _is_measure(column: str, start: str) -> bool:
    return column.startswith(f"{start}_") and not column.endswith(("_low", "_high", "_pairs"))


def geometry(path: Path, params: Params) -> str:
    """Pose and head errors, a column for each test set."""
    caption = (
        "Predicted poses against poses fitted to landmarks, and the head alone: mean squared error (RGB in [0, 1], "
        "whole frame, black outside the head) against the true head image."
    )
    return _measures(path, captions.with_smoke(params, caption))


def parser(path: Path, params: Params) -> str:
    """The small parser against the face parser, a column for each test set."""
    return _measures(path, captions.parser(params))


def _measures(path: Path, caption: str) -> str:
    table = read_csv(path, ("dataset",))
    sets = [str(name) for name in table["dataset"]]
    rows = []
    for name in [column for column in table.columns if column != "dataset"]:
        digits = 5 if "mse" in name else 3
        whole = name.startswith("n_")
        values = [escape(str(int(v)) if whole and v == v else cell(float(v), digits)) for v in table[name]]
        rows.append(_row(escape(MEASURES.get(name, name.replace("_", " "))), values))
    return _table(path, ["measure", *sets], [f"<tbody>{''.join(rows)}</tbody>"], caption)


def sentences(path: Path, params: Params) -> list[str]:
    """What ``paired.csv`` says of Head3D against copying and against the best baseline, in words, good or bad."""
    table = read_csv(path, columns.PAIRED)
    n_default = params.model.references
    found = []
    for (dataset, against), group in table.groupby(["dataset", "against"], sort=False):
        if against not in ("copy", "copy_last", _best(table[table["dataset"] == dataset], params.baselines)):
            continue
        verdicts = [
            f"{cell(float(row['ratio']), 2)} of its {METRIC_NAMES[row['metric']]} (<b>{_verdict(row)}</b>)"
            for row in group.to_dict("records")
        ]
        clips, other = int(group["n_clips"].iloc[0]), method(names.plain(str(against), n_default))
        few = f" Fewer than {captions.FEW} clips are a hint, not a proof." * (clips < captions.FEW)
        best = ", the baseline of the lowest MSE" * (against in params.baselines)
        found.append(
            f"<code>{escape(str(dataset))}</code>, {clips} clips, against {other}{best}: Head3D has "
            f"{' and '.join(verdicts)}.{few}"
        )
    return found


def _best(paired: pd.DataFrame, baselines: tuple[str, ...]) -> str | None:
    """The baseline that Head3D's MSE is the largest part of, in one test set."""
    ratios = paired[(paired["metric"] == "mse_01") & paired["against"].isin(baselines)].set_index("against")["ratio"]
    return str(ratios.idxmax()) if len(ratios) else None


def across_sentences(folder: Path, params: Params) -> list[str]:
    """What the tables of transfer say of Head3D against a held frame of the subject, in words, good or bad."""
    table = read_csv(folder / "cross_identity.csv", ("dataset", "method", "n_pairs"))
    differences = read_csv(folder / "cross_paired.csv", columns.CROSS_PAIRED)
    against_held = {
        (row["dataset"], row["measure"]): f" (lower in {row['n_lower']} of {row['n_pairs']} pairs)"
        for row in differences[differences["against"] == "copy"].to_dict("records")
    }
    ours, held = (names.plain(name, params.model.references) for name in ("head3d", "copy"))
    expression, identity = (
        next((c for c in table.columns if _is_measure(c, start)), None) for start in ("expression_error", "identity")
    )
    found = []
    for dataset, group in table.groupby("dataset", sort=False):
        rows = {row["method"]: row for row in group.to_dict("records")}
        if expression is None or identity is None or not {ours, held} <= rows.keys():
            continue
        errors = [cell(float(rows[name][expression]), cross.digits(expression)) for name in (ours, held)]
        lower = against_held.get((dataset, expression), "")
        found.append(
            f"<code>{escape(str(dataset))}</code>, {int(rows[ours]['n_pairs'])} pairs of people: expressions are off "
            f"by {errors[0]} % of the eyes' distance, those of a held frame by {errors[1]} %{lower}; identity "
            f"{cell(float(rows[ours][identity]), cross.digits(identity))} of 1."
        )
    return found


def _verdict(row: Mapping[Any, Any]) -> str:
    """What a row of ``paired.csv`` says: its 95 % interval of ours minus theirs, or, of few clips, on how many.

    Of few clips a bootstrap interval says no more than their signs: where all agree it cannot hold 0.
    """
    if row["n_clips"] < captions.FEW:
        return f"lower in {int(row['n_lower'])} of {int(row['n_clips'])} clips"
    if row["difference_high"] < 0:
        return "better"
    return "worse" if row["difference_low"] > 0 else "not told apart"


def pairs(entries: list[tuple[str, str]], section: str) -> str:
    """A table of two columns."""
    rows = "".join(f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in entries)
    named = f'aria-labelledby="{heading_id(section)}"'
    return f'<div class="wide"><table class="pairs" {named}><tbody>{rows}</tbody></table></div>'


def heading_id(section: str) -> str:
    """The id of a section's heading."""
    return f"{section}-title"


def method(name: str) -> str:
    """A method's name with its mathematics set properly."""
    text = escape(name)
    return text.replace("x̄^c", "x̄<sup>c</sup>").replace("x̂_dri", "x̂<sub>dri</sub>")


def _table(path: Path, heads: list[str], bodies: list[str], caption: str) -> str:
    first, *others = heads
    head = f'<th scope="col">{escape(first)}</th>' + "".join(
        f'<th scope="col" class="n">{escape(other)}</th>' for other in others
    )
    named = f'aria-labelledby="{heading_id(path.stem)}"'
    return (
        f'<p class="caption">{escape(caption)}</p><div class="wide" tabindex="0" role="region" {named}>'
        f"<table {named}><thead><tr>{head}</tr></thead>{''.join(bodies)}</table></div>"
    )


def _group(text: str, rows: list[str], columns: int) -> str:
    """Rows under a head of their own: the scope of such a head is the ``tbody`` that it stands in."""
    head = f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{text}</th></tr>'
    return f"<tbody>{head}{''.join(rows)}</tbody>"


def _row(first: str, cells: list[str], ours: bool = False) -> str:
    kind = ' class="ours"' if ours else ""
    return f'<tr{kind}><th scope="row">{first}</th>' + "".join(f'<td class="n">{one}</td>' for one in cells) + "</tr>"


def _shares(percent: Any, digits: int = 1) -> str:
    return f"{percent:.{digits}f} / {100 - percent:.{digits}f}" if percent == percent else "–"


def _range(low: Any, high: Any) -> str:
    return f"{low:.1f} to {high:.1f}" if low == low else "–"


def _interval(mean: Any, low: Any, high: Any, digits: int, sign: str = "") -> str:
    if mean != mean:
        return "–"

    def show(value: Any) -> str:
        return f"{float(value):{sign}.{digits}f}".replace("-", "−") if value == value else "–"

    return f'{show(mean)} <span class="ci">[{show(low)}, {show(high)}]</span>'
