"""All tables and ``reports/metrics.json``, from ``metrics/`` and votes.

Tables 1 to 3, paired differences, transfer between people, geometry, the small parser.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.report import captions, columns, cross, formats, names, paper, stats, table2
from head3d.study import votes

if TYPE_CHECKING:
    import pandas as pd

    from head3d.params import Params

Tree = dict[str, dict[str, dict[str, float]]]  # data set -> method -> metric -> mean over clips
NEEDED = ("dataset", "method", "draw", "clip_id", "n_frames", "mse_01", "mse_pm1", "lpips_alex")
TITLES = {
    "table1": "Table 1. Self-reconstruction: Head3D, the methods that it is compared with, and floors that need no "
    "training of their own.",
    "table3": "Table 3. Ablation study under self-reconstruction.",
}
PAIRED_METRICS = ("mse_01", "lpips_alex")


def run(params: Params) -> None:
    """Stage ``tables``: :func:`make` with the pipeline's folders, tracked."""
    from head3d import tracking

    with tracking.run(stage="tables", params=params) as tracked:
        tree = make(params, "metrics", "reports", votes.read("study/votes.csv"))
        tracked.metrics(
            {f"{s}/{m}/{name}": value for s, ms in tree.items() for m, vs in ms.items() for name, value in vs.items()}
        )
        for path in sorted(Path("reports/tables").glob("*.md")):
            tracked.artifact(path, "tables")


def make(params: Params, metrics_dir: str | Path, reports_dir: str | Path, cast: pd.DataFrame | None = None) -> Tree:
    """Build every table of the report; returns what ``metrics.json`` holds.

    Reads ``metrics/reconstruction/<test set>-<method>.csv``, ``metrics/cross/<test set>.csv``,
    ``metrics/geometry-<test set>.json`` and ``metrics/parser-<test set>.json`` for the test sets and methods that
    params.yaml names, and writes
    ``reports/tables/`` and ``reports/metrics.json``. ``cast`` holds the votes of the rater study for Table 2; without
    it the table says that there are none. Every caption ends with the pretrained weights of stage 1 and the digest of
    the clips, if ``metrics/train_geometry.json`` is there and has them.
    """
    metrics, reports = Path(metrics_dir), Path(reports_dir)
    rows = read_rows(metrics / "reconstruction", list(params.test_sets), list(params.contenders))
    clips = stats.clip_means(rows)
    trained = metrics / "train_geometry.json"
    data = captions.origin_sentences(formats.read_json(trained, dict) if trained.is_file() else {})
    write_tables(params, clips, reports / "tables", data)
    formats.write_text(reports / "tables" / "paired.csv", formats.to_csv(paired_table(params, clips)))
    table2.write(params, votes.none() if cast is None else cast, reports / "tables", data)
    cross.write(params, metrics / "cross", reports / "tables", data)
    for kind, title, caption in (
        ("geometry", "Geometry.", geometry_caption(params)),
        ("parser", "The small parser.", captions.parser(params)),
    ):
        found = read_measures(kind, metrics, list(params.test_sets))
        write_measures(kind, found, reports / "tables", title, caption + data)
    tree = metrics_tree(clips)
    formats.write_text(reports / "metrics.json", json.dumps(tree, indent=1) + "\n")
    return tree


def read_rows(folder: Path, test_sets: list[str], methods: list[str]) -> pd.DataFrame:
    """All rows of the named files, checked; a file of another parameter set that lies beside them is not read."""
    import pandas as pd

    frames = []
    for test_set in test_sets:
        for method in methods:
            path = folder / f"{test_set}-{method}.csv"
            frame = formats.read_csv(path, NEEDED)
            if frame.empty:
                raise UserError(f"{path} has no rows", fix="give the test set at least one clip")
            others = frame.loc[frame["dataset"] != test_set, "dataset"]
            if len(others):
                raise UserError(f"{path} has rows of {others.iloc[0]}", allowed=test_set, fix=formats.AGAIN)
            for name in ("mse_01", "mse_pm1", "lpips_alex", "draw", "n_frames"):
                numbers = pd.to_numeric(frame[name], errors="coerce")
                bad = ~((numbers >= 0) & (numbers < float("inf")))
                if bad.any():
                    clip, value = frame.loc[bad, ["clip_id", name]].iloc[0]
                    what = f"{path}: {name} of clip {clip} is {value}, not a finite number of 0 or more"
                    raise UserError(what, fix="train again")
            frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    doubled = rows.duplicated(["dataset", "method", "draw", "clip_id"])
    if doubled.any():
        first = rows.loc[doubled].iloc[0]
        raise UserError(
            f"{folder}: clip {first['clip_id']}, method {first['method']}, draw {first['draw']} comes twice"
        )
    return rows


def build_table(params: Params, clips: pd.DataFrame, which: str) -> tuple[pd.DataFrame, list[str]]:
    """One table with exactly ``columns.RECONSTRUCTION`` and the plain keys of its methods, row by row.

    Args:
        clips: what :func:`head3d.report.stats.clip_means` returns.
        which: ``table1`` or ``table3``.
    """
    import pandas as pd

    printed = paper.TABLE1 if which == "table1" else paper.TABLE3
    n_default = params.model.references
    lines, keys = [], []
    for dataset in _ordered(clips["dataset"], params.test_sets):
        of_set = clips[clips["dataset"] == dataset]
        theirs = printed.get(paper.paper_dataset(dataset), {})
        present = sorted(of_set["method"].unique())
        first = which == "table1"
        for method in names.table1_methods(present, params.baselines) if first else names.table3_methods(present):
            mine = of_set[of_set["method"] == method].sort_values("clip_id")
            line: dict[str, object] = {"dataset": dataset, "method": names.plain(method, n_default)}
            for metric in PAIRED_METRICS:
                values = mine[metric].to_numpy()
                low, high = stats.mean_interval(values, params.evaluate.bootstrap, params.seed)
                line |= {metric: values.mean(), f"{metric}_low": low, f"{metric}_high": high}
            line |= {"mse_pm1": mine["mse_pm1"].mean(), "n_clips": len(mine), "n_frames": int(mine["n_frames"].sum())}
            l2, lpips = theirs.get(_paper_method(method, n_default), (float("nan"), float("nan")))
            known = paper.paper_dataset(dataset) if l2 == l2 else ""
            lines.append(line | {"paper_dataset": known, "paper_l2": l2, "paper_lpips": lpips})
            keys.append(method)
    return pd.DataFrame(lines, columns=list(columns.RECONSTRUCTION)), keys


def write_tables(params: Params, clips: pd.DataFrame, folder: Path, data: str = "") -> None:
    """Tables 1 and 3 as CSV, Markdown and LaTeX, each with the clips it was averaged from."""
    n_default = params.model.references
    for which, title in TITLES.items():
        table, keys = build_table(params, clips, which)
        counts = {name: int(group["n_clips"].max()) for name, group in table.groupby("dataset", sort=False)}
        named = {str(name): count for name, count in counts.items()}
        caption = captions.table_caption(params, named, which) + data
        tex_names = {names.plain(key, n_default): names.tex(key, n_default) for key in keys}
        formats.write_text(folder / f"{which}.csv", formats.to_csv(table))
        formats.write_text(folder / f"{which}.md", formats.to_markdown(table, title, caption))
        latex = formats.to_latex(table, f"{title.partition('. ')[2]} {caption}", f"tab:{which}", tex_names)
        formats.write_text(folder / f"{which}.tex", latex)
        of_table = clips[clips["method"].isin(set(keys))]
        formats.write_text(folder / f"{which}_clips.csv", formats.to_csv(of_table))


def paired_table(params: Params, clips: pd.DataFrame) -> pd.DataFrame:
    """Head3D against every other method on the same clips: difference and ratio of means with 95 % intervals.

    ``n_lower`` clips of ``n_clips`` are those on which it is better.
    """
    import pandas as pd

    lines = []
    for dataset in _ordered(clips["dataset"], params.test_sets):
        of_set = clips[clips["dataset"] == dataset]
        present = list(of_set["method"].unique())
        if "head3d" not in present:
            continue
        mine = of_set[of_set["method"] == "head3d"].set_index("clip_id")
        for against in [*names.table1_methods(present, params.baselines), *names.table3_methods(present)]:
            if against == "head3d":
                continue
            other = of_set[of_set["method"] == against].set_index("clip_id")
            shared = sorted(set(mine.index) & set(other.index))
            if len(shared) != len(mine) or len(shared) != len(other):
                raise UserError(
                    f"{dataset}: head3d and {against} were not scored on the same clips",
                    fix=f"delete both and {formats.REPRO}",
                )
            for metric in PAIRED_METRICS:
                ours, theirs = mine.loc[shared, metric].to_numpy(), other.loc[shared, metric].to_numpy()
                result = stats.paired(ours, theirs, params.evaluate.bootstrap, params.seed)
                lines.append(
                    {
                        "dataset": dataset,
                        "method": "head3d",
                        "against": against,
                        "metric": metric,
                        "n_clips": len(shared),
                        "mean": ours.mean(),
                        "mean_against": theirs.mean(),
                        **{name: result[name] for name in ("n_lower", *columns.PAIRED_RESULTS)},
                    }
                )
    return pd.DataFrame(lines, columns=list(columns.PAIRED))


def metrics_tree(clips: pd.DataFrame) -> Tree:
    """{data set: {method: {metric: mean over clips}}}, for ``dvc metrics``."""
    tree: Tree = {}
    present = [name for name in stats.METRICS if name in clips.columns]
    for (dataset, method), group in clips.groupby(["dataset", "method"], sort=True):
        values = {name: formats.rounded(group[name].mean()) for name in present if group[name].notna().all()}
        tree.setdefault(str(dataset), {})[str(method)] = values
    return tree


def read_measures(kind: str, folder: Path, test_sets: list[str]) -> pd.DataFrame:
    """One row per test set from ``metrics/<kind>-<test set>.json``; columns are the numbers found there."""
    import pandas as pd

    lines = []
    for test_set in test_sets:
        path = folder / f"{kind}-{test_set}.json"
        found = formats.read_json(path, dict)
        numbers = {k: v for k, v in found.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        if wrong := [name for name, value in numbers.items() if math.isinf(value)]:
            raise UserError(f"{path}: {wrong[0]} is {numbers[wrong[0]]}, not a finite number", fix=formats.AGAIN)
        lines.append({"dataset": test_set, **numbers})
    return pd.DataFrame(lines)


def write_measures(kind: str, found: pd.DataFrame, folder: Path, title: str, caption: str) -> None:
    """What was measured on each test set, as CSV and, turned on its side, as Markdown and LaTeX."""
    import pandas as pd

    measures = [name for name in found.columns if name != "dataset"]
    turned = pd.DataFrame({"measure": measures})
    for row in found.to_dict("records"):
        turned[str(row["dataset"])] = [_tidy(name, row[name]) for name in measures]
    formats.write_text(folder / f"{kind}.csv", formats.to_csv(found))
    formats.write_text(folder / f"{kind}.md", formats.to_markdown(turned, title, caption))
    formats.write_text(folder / f"{kind}.tex", formats.to_latex(turned, caption, f"tab:{kind}", {}))


def geometry_caption(params: Params) -> str:
    """What the geometry table holds."""
    text = (
        "Correlation of predicted yaw, pitch and roll with poses fitted to landmarks, mean absolute differences in "
        "degrees (n_pose_frames: frames whose landmarks fit a rigid head), and mean squared error of head images (RGB "
        "in [0, 1], whole frame, black outside the head): the unmoved mean of the references, the mean canonical head "
        "(stage 1) and the recurrent canonical head (stage 2), both rendered at the driving pose."
    )
    return captions.with_smoke(params, f"{text} {captions.scale_sentence(params, stages=(1, 2))}")


def _tidy(name: str, value: object) -> str:
    if isinstance(value, float) and value == value:
        digits = 5 if "mse" in name else 3
        return str(int(value)) if name.startswith("n_") else f"{value:.{digits}f}"
    return formats.cell(value)


def _paper_method(method: str, n_default: int) -> str:
    """The paper's key of a method: its ``head3d`` has N = 5, whatever ours has by default."""
    n = names.references(method, n_default)
    return method if n is None else "head3d" if n == 5 else f"head3d_n{n}"


def _ordered(found: pd.Series, order: tuple[str, ...] | list[str]) -> list[str]:
    """Data sets in the order of params.yaml; others after them."""
    present = list(dict.fromkeys(found))
    return [name for name in order if name in present] + sorted(name for name in present if name not in order)
