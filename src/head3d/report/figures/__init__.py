"""Every figure and video of the report, with captions that say how the shown clips were chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.report.formats import write_text

if TYPE_CHECKING:
    from head3d.api import Head3D
    from head3d.data.store import ClipStore
    from head3d.params import Params
    from head3d.report.figures.people import Example
    from head3d.report.figures.words import Words


def run(params: Params) -> None:
    """Stage ``figures``: :func:`draw` with the pipeline's folders, tracked."""
    from head3d import tracking
    from head3d.data.store import ClipStore

    with tracking.run(stage="figures", params=params) as tracked:
        store = ClipStore()
        tracked.dataset("+".join(params.data.sources), store.digest, n=len(store.records()))
        draw(params, "data", "models", "metrics", "reports")
        for path in sorted(Path("reports/figures").iterdir()):
            if path.suffix in (".png", ".mp4"):
                tracked.artifact(path, "figures")


def draw(
    params: Params,
    data_dir: str | Path,
    models_dir: str | Path,
    metrics_dir: str | Path,
    reports_dir: str | Path,
) -> None:
    """Draw the figures (PNG and PDF), the videos (mp4) and ``captions.json`` into ``reports/figures/``."""
    from head3d.api import Head3D
    from head3d.data.store import ClipStore
    from head3d.report.figures import people, words

    folder = Path(reports_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    store = ClipStore(data_dir)
    said = draw_data(params, store, Path(metrics_dir), folder)
    model = Head3D.load(models_dir, params=params, variant="full")
    shown, rule = people.examples(model, store, params)
    draw_heads(params, model, shown, store, folder)
    if params.baselines:
        draw_comparison(params, model, Path(models_dir), shown, store, folder)
    draw_videos(params, model, shown, folder)
    said = words.of_model(params, [example.person for example in shown], rule) + said
    write_text(folder / "captions.json", json.dumps(words.entries(said, params), indent=1, ensure_ascii=False) + "\n")


def draw_data(params: Params, store: ClipStore, metrics: Path, folder: Path) -> list[Words]:
    """Data sheet and loss curves: what needs no model."""
    import pandas as pd

    from head3d.report.figures import curves, datasheet, words
    from head3d.report.figures.sheet import save_figure

    datasheet.crops_sheet(store, ["train", *params.test_sets]).save(folder / "data_crops")
    manifest = pd.DataFrame([vars(record) for record in store.all_records])
    table = datasheet.fates(manifest)
    save_figure(datasheet.fates_figure(table), folder / "data_clips")
    losses = curves.read_curves(curves.curve_files(metrics / "curves", params))
    save_figure(curves.curves_figure(losses), folder / "curves")
    kept = int((manifest["status"] == "ok").sum())
    fates = ", ".join(f"{name} {int(count)}" for name, count in table.sum().items())
    return words.of_data(kept, len(manifest) - kept, fates, datasheet.MOST)


def draw_heads(params: Params, model: Head3D, shown: list[Example], store: ClipStore, folder: Path) -> None:
    """Figures 1, 2, 4, 5, 6 and 7, and the head as a mesh."""
    from head3d.report.figures import failures, framework, heads, meshes, motion
    from head3d.report.figures.sheet import save_figure

    across = params.animate.motion
    save_figure(framework.framework_figure(model, shown[0], params), folder / "figure2")
    failures.failure_sheet(model, store, params).save(folder / "figure7")
    meshes.mesh_sheet(model, shown).save(folder / "mesh")
    heads.canonical_sheet(model, shown, params).save(folder / "figure1")
    motion.self_sheet(model, shown).save(folder / "figure4_self")
    if len(shown) > 1:  # one person alone has nobody to be driven by
        motion.cross_sheet(model, shown, across).save(folder / "figure4_cross")
    heads.rotation_sheet(model, shown).save(folder / "figure5_rotation")
    heads.translation_sheet(model, shown).save(folder / "figure5_translation")
    heads.attention_sheet(model, shown, across).save(folder / "figure6")


def draw_comparison(
    params: Params, model: Head3D, models: Path, shown: list[Example], store: ClipStore, folder: Path
) -> None:
    """Figure 3: Head3D beside the baselines."""
    from head3d.evaluation import baseline
    from head3d.evaluation.protocol import Reenactor
    from head3d.evaluation.reconstruction import Head3DMethod
    from head3d.report.figures import compare

    methods: dict[str, Reenactor] = {name: baseline.load(params, name, models) for name in params.baselines}
    methods["head3d"] = Head3DMethod(model, params.model.references)
    compare.comparison_sheet(methods, shown, store, params).save(folder / "figure3")


def draw_videos(params: Params, model: Head3D, shown: list[Example], folder: Path) -> None:
    """Short videos for the page."""
    from head3d.report.figures import motion

    motion.self_video(model, shown, folder / "video_self.mp4")
    if len(shown) > 1:
        motion.cross_video(model, shown, params.animate.motion, folder / "video_cross.mp4")
    motion.sweep_video(model, shown, folder / "video_yaw.mp4")
