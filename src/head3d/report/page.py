"""``reports/index.html``: one file that shows everything, needs nothing beside it and asks no server for anything."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.report import captions, html_tables
from head3d.report.formats import AGAIN, REPRO, read_json, write_text
from head3d.report.html_style import CSS

if TYPE_CHECKING:
    from head3d.params import Params

WEBP_QUALITY = 88
FIGURES = (
    "figure1",
    "figure2",
    "figure3",
    "figure4_cross",
    "figure5_rotation",
    "figure5_translation",
    "figure6",
    "figure7",
    "mesh",
)
SUMMARY = ("figure4_self",)  # what one wants to see first
VIDEOS = ("video_self", "video_cross", "video_yaw")
LATER = ("curves", "data_crops", "data_clips")


def run(params: Params) -> None:
    """Stage ``report``: join tables, figures and videos of ``reports/`` into ``reports/index.html``."""
    from head3d import tracking

    with tracking.run(stage="report", params=params) as tracked:
        target = Path("reports/index.html")
        write_text(target, build(params, provenance(params, Path("data")), target.parent))
        tracked.artifact(target)
    print(f"the report is {target}")


def build(params: Params, made_by: list[tuple[str, str]], reports: Path) -> str:
    """The page as text.

    Args:
        made_by: (what, value) of the provenance table.
        reports: folder with ``tables/`` and ``figures/``.
    """
    figures = {entry["name"]: entry for entry in read_captions(reports / "figures" / "captions.json")}
    tables = reports / "tables"
    sections = [
        ("summary", "In short", summary(params, tables) + _pictures(figures, SUMMARY, reports, picture)),
        ("table1", "Table 1: self-reconstruction", html_tables.reconstruction(tables / "table1.csv", params)),
        ("table2", "Table 2: whose video people prefer", html_tables.preferences(tables / "table2.csv", params)),
        ("table3", "Table 3: ablations", html_tables.reconstruction(tables / "table3.csv", params)),
        ("cross_identity", "Transfer between people", html_tables.across(tables / "cross_identity.csv", params)),
        ("paired", "Head3D against the others, clip by clip", html_tables.paired(tables / "paired.csv", params)),
        ("geometry", "Geometry", html_tables.geometry(tables / "geometry.csv", params)),
        ("parser", "The small parser", html_tables.parser(tables / "parser.csv", params)),
        ("videos", "Videos", _pictures(figures, VIDEOS, reports, video)),
        ("figures", "Figures", _pictures(figures, FIGURES, reports, picture)),
        ("training", "Training and data", _pictures(figures, LATER, reports, picture)),
        ("meaning", html_tables.MEANING_TITLE, meaning(params)),
        ("made", "What made this page", html_tables.pairs(made_by, "made")),
    ]
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}"><h2 id="{html_tables.heading_id(key)}">{escape(title)}</h2>{text}</section>'
        for key, title, text in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Head3D report ({escape(params.scale)})</title><style>{CSS}</style></head><body>"
        '<a class="skip" href="#main">Skip to the content</a>'
        f"<header><h1>Head3D</h1><p>3D-aware talking-head video motion transfer, from data to tables. "
        f'<span class="scale">scale: {escape(params.scale)}</span></p></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main">{_warning(params)}{body}</main>'
        "</body></html>\n"
    )


def read_captions(path: Path) -> list[dict[str, str]]:
    """What the figures stage says of its figures."""
    found = read_json(path, list)
    if not all(isinstance(one, dict) and {"name", "title", "caption", "alt"} <= one.keys() for one in found):
        raise UserError(f"{path}: not every figure has a name, a title, a caption and a text for the blind", fix=AGAIN)
    return found


def picture(path: Path, alt: str) -> str:
    """A PNG as WebP inside the page."""
    from PIL import Image

    packed = io.BytesIO()
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.convert("RGB").save(packed, format="webp", quality=WEBP_QUALITY, method=4)
    except OSError as error:  # missing, broken off, or no picture
        raise UserError(f"{path} is no picture that can be read", fix=AGAIN) from error
    source = _data_uri("image/webp", packed.getvalue())
    return f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}" loading="lazy">'


def video(path: Path, alt: str) -> str:
    """An mp4 inside the page; it plays on demand and starts over at its end."""
    source = _data_uri("video/mp4", path.read_bytes())
    return (
        f'<video src="{source}" aria-label="{escape(alt)}" controls loop muted playsinline preload="metadata"></video>'
    )


def summary(params: Params, tables: Path) -> str:
    """Head3D against floors and baselines in sentences that are made from the tables."""
    lines = html_tables.sentences(tables / "paired.csv", params)
    lines += html_tables.across_sentences(tables, params)
    note = (
        "Better or worse: the 95 % interval of the difference on the same clips does not hold 0. Lower in: on how many "
        f"clips, where they are fewer than {captions.FEW}."
    )
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + f"</ul><p>{note}</p>"


FEW_PEOPLE = "The test sets are small: few people, and several clips of the same video. "


def meaning(params: Params) -> str:
    """What a reader must know before quoting a number."""
    found = captions.deviations(params)
    items = [
        escape(captions.MEANING),
        escape(captions.PROTOCOL),
        FEW_PEOPLE
        * (params.data.clips_per_video > 1)
        + "An interval says how the mean would move with other clips of these people, not with other people. Sets that "
        "end in <code>-seen</code> hold later parts of videos whose earlier parts were trained on; sets that end in "
        "<code>-unseen</code> hold people never trained on.",
        "One training run with one seed is behind each number; another seed moves it.",
        "Neither error sees identity, expression or steadiness over time. Look at the videos too.",
        escape(captions.PAPER),
    ]
    if found:
        items.append("This scale departs from the paper: " + escape("; ".join(found)) + ".")
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def provenance(params: Params, data: Path) -> list[tuple[str, str]]:
    """Commit, scale, data digest, where it was trained, and versions."""
    import torch

    import head3d
    from head3d.data.store import ClipStore

    store = ClipStore(data)
    counts: dict[str, int] = {}
    for record in store.records():
        counts[record.split] = counts.get(record.split, 0) + 1
    people = {record.person_key for record in store.records()}
    return [
        ("Commit", commit()),
        ("Scale", params.scale),
        ("Seed", str(params.seed)),
        ("Data digest", store.digest),
        ("Clips", ", ".join(f"{split} {count}" for split, count in sorted(counts.items()))),
        ("People", str(len(people))),
        ("Trained on", trained_on(Path("metrics"))),
        ("Head3D", head3d.__version__),
        ("Python", platform.python_version()),
        ("PyTorch", torch.__version__),
    ]


def trained_on(metrics: Path) -> str:
    """Devices and types of convolutions of Head3D's stages: this page may be made on another machine."""
    found = []
    for stage in ("geometry", "canonical", "fusion-full"):
        found.append(read_json(metrics / f"train_{stage}.json", dict))
    return "; ".join(dict.fromkeys(summary.get("compute", "not recorded") for summary in found))


def commit() -> str:
    """Commit of the checkout, marked if the code differs from it; what the pipeline itself wrote does not count."""
    from head3d.tracking import git_commit

    found = git_commit()
    if found == "unknown":
        return "unknown (no git checkout)"
    head, dirty, _ = found.partition("-dirty")
    return f"{head} with changes that are not committed" if dirty else head


def _pictures(
    figures: dict[str, dict[str, str]], names: tuple[str, ...], reports: Path, show: Callable[[Path, str], str]
) -> str:
    parts = []
    for name in names:
        if name not in figures:  # the figures stage leaves out what these data or methods do not give
            continue
        entry = figures[name]
        path = reports / "figures" / f"{name}{'.mp4' if show is video else '.png'}"
        if not path.is_file():
            raise UserError(f"{path} is missing", fix=REPRO)
        parts.append(
            f'<figure id="{name}"><div class="wide">{show(path, entry["alt"])}</div>'
            f"<figcaption><b>{escape(entry['title'])}</b> {escape(entry['caption'])}</figcaption></figure>"
        )
    return "".join(parts)


def _warning(params: Params) -> str:
    return f'<p class="warning" role="note">{escape(captions.SMOKE)}</p>' if params.scale == "smoke" else ""


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
