"""Every figure and video of the report, with captions that say how the shown clips were chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.report.captions import with_smoke
from head3d.report.formats import write_text

if TYPE_CHECKING:
    from head3d.params import Params


def run(
    params: Params,
    data_dir: str | Path = "data",
    models_dir: str | Path = "models",
    metrics_dir: str | Path = "metrics",
    reports_dir: str | Path = "reports",
) -> None:
    """Draw the figures (PNG and PDF), the videos (mp4) and ``captions.json`` into ``reports/figures/``."""
    import torch

    from head3d.api import Head3D
    from head3d.data.store import ClipStore
    from head3d.report.figures import people

    folder = Path(reports_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    store = ClipStore(data_dir)
    captions: list[dict[str, str]] = []
    draw_data(params, store, Path(metrics_dir), folder, captions)
    with torch.no_grad():
        model = Head3D.load(models_dir, params=params, variant="full", device=params.device)
        shown, rule = people.examples(model, store, params)
        draw_heads(params, model, shown, rule, folder, captions)
        draw_videos(params, model, shown, rule, folder, captions)
    order = ("figure1", "figure4_self", "figure4_cross", "figure5_rotation", "figure5_translation", "figure6")
    captions.sort(key=lambda entry: order.index(entry["name"]) if entry["name"] in order else len(order))
    write_text(folder / "captions.json", json.dumps(captions, indent=1, ensure_ascii=False) + "\n")


def draw_data(params: Params, store, metrics: Path, folder: Path, captions: list[dict[str, str]]) -> None:
    """Data sheet and loss curves: what needs no model."""
    import pandas as pd

    from head3d.report.figures import curves, datasheet
    from head3d.report.figures.sheet import save_figure

    # The splits' own order: what was trained on first.
    splits = ["train", *params.test_sets]
    datasheet.crops_sheet(store, splits).save(folder / "data_crops")
    manifest = pd.DataFrame([vars(record) for record in store.all_records])
    table = datasheet.fates(manifest)
    save_figure(datasheet.fates_figure(table), folder / "data_clips")
    save_figure(
        curves.curves_figure(curves.read_curves(curves.curve_files(metrics / "curves", params))), folder / "curves"
    )
    left_out = int((manifest["status"] != "ok").sum())
    _add(
        captions,
        params,
        "data_crops",
        "Data sheet: crops",
        f"The first clip of every video (at most {datasheet.MOST}) at four moments with the outline of its head mask, "
        "the landmarks of the first frame, and head images x (everything but face and hair masked).",
        "Rows of face crops with an orange outline around each head, then heads on black.",
    )
    _add(
        captions,
        params,
        "data_clips",
        "Data sheet: clips",
        f"What became of each video's clips: {len(manifest) - left_out} kept, by split, and {left_out} left out, by reason.",
        f"Bar chart of clips by video. {_bars_in_words(table)}",
    )
    _add(
        captions,
        params,
        "curves",
        "Training losses",
        "Every loss of the three stages by optimiser step: raw values thin, a running median thick. Variants of stage 3 "
        "are those of Table 3.",
        "Small line plots, one for each loss.",
    )


def draw_heads(params: Params, model, shown, rule: str, folder: Path, captions: list[dict[str, str]]) -> None:
    """Figures 1, 4, 5 and 6."""
    from head3d.report.figures import heads, motion

    names = ", ".join(example.person for example in shown)
    across = params.animate.motion
    sheets: list[tuple[str, str, Callable, str, str]] = [
        (
            "figure1",
            "Figure 1. Canonical heads",
            lambda: heads.canonical_sheet(model, shown, params),
            "From the first half of a clip: a reference frame, the mean canonical head x̄ᶜ of "
            f"{params.model.references} reference frames, the recurrent network's canonical head x̂ᶜ, its depth, the same "
            "depth as a grey surface under one lamp, and the canonical head turned by hand.",
            f"Canonical heads of {names} with depth maps and views from four yaw angles.",
        ),
        (
            "figure4_self",
            "Figure 4a. Self-reconstruction",
            lambda: motion.self_sheet(model, shown),
            "Subject frames, driving frames (the second half of the same clip, so also the truth), and Head3D's output.",
            f"For each of {names}: a row of subject frames, a row of driving frames, a row of outputs.",
        ),
        (
            "figure4_cross",
            "Figure 4b. Motion from another person",
            lambda: motion.cross_sheet(model, shown, across),
            f"As 4a, but each person is driven by the next one in the list, with {across} motion. Nobody knows the truth "
            "here: look whether identity is the subject's and pose is the driver's.",
            f"For each of {names}: a row of subject frames, a row of another person's frames, a row of outputs.",
        ),
        (
            "figure5_rotation",
            "Figure 5a. Head turned by hand",
            lambda: heads.rotation_sheet(model, shown),
            "Rendered canonical head (above) and Head3D's output (below) at poses given by hand, one angle at a time.",
            f"Heads of {names} turned left and right, up and down, and tilted.",
        ),
        (
            "figure5_translation",
            "Figure 5b. Head moved by hand",
            lambda: heads.translation_sheet(model, shown),
            "As 5a for translations from the head's place in the reference frame; positive t_z is away from the camera.",
            f"Heads of {names} moved sideways, up and down, nearer and farther.",
        ),
        (
            "figure6",
            "Figure 6. Attention",
            lambda: heads.attention_sheet(model, shown, across),
            "Deformed: the subject frame warped by the flow f(s_ref ← s_dri). Transformed: the canonical head at the "
            "driving pose. The three attention maps (red high, blue low; they sum to one at every pixel) weigh the "
            "transformed head, the deformed subject frame and the decoder's own feature. Last driving frame of the clip; "
            "each person is driven by the own clip, then by the next person.",
            f"For each of {names}: inputs of the fusion network, three attention maps, and the output.",
        ),
    ]
    for name, title, draw, caption, alt in sheets:
        draw().save(folder / name)
        _add(captions, params, name, title, f"{caption} {rule}", alt)


def draw_videos(params: Params, model, shown, rule: str, folder: Path, captions: list[dict[str, str]]) -> None:
    """Short videos for the page."""
    from head3d.report.figures import motion

    names = ", ".join(example.person for example in shown)
    motion.self_video(model, shown, folder / "video_self.mp4")
    _add(
        captions,
        params,
        "video_self",
        "Self-reconstruction",
        "Left to right: reference frame of the subject, driving frames (the truth), Head3D, the rendered canonical head "
        f"alone. {rule}",
        f"Video of {names}: output follows the driving frames.",
    )
    motion.cross_video(model, shown, params.animate.motion, folder / "video_cross.mp4")
    _add(
        captions,
        params,
        "video_cross",
        "Motion from another person",
        "Left to right: reference frame of the subject, driving frames, Head3D, the rendered canonical head alone. Each "
        f"person is driven by the next one, with {params.animate.motion} motion. {rule}",
        f"Video of {names}, each moved by another person.",
    )
    motion.sweep_video(model, shown, folder / "video_yaw.mp4")
    _add(
        captions,
        params,
        "video_yaw",
        "Yaw sweep",
        f"The head turned by hand through ±{motion.SWEEP_DEG:.0f}° of yaw: reference frame, rendered canonical head, "
        f"Head3D. {rule}",
        f"Video of {names} turning their heads left and right.",
    )


def _add(captions: list[dict[str, str]], params: Params, name: str, title: str, caption: str, alt: str) -> None:
    captions.append({"name": name, "title": title, "caption": with_smoke(params, caption), "alt": alt})


def _bars_in_words(table) -> str:
    sums = table.sum()
    return "; ".join(f"{name}: {int(count)}" for name, count in sums.items()) + "."
