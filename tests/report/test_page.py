"""The page: it parses, holds everything, and asks nobody for anything."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from head3d.errors import UserError
from head3d.params import Params
from head3d.report import captions, formats, html_style, html_tables, page, tables

VOID = {"meta", "link", "img", "br"}
MADE_BY = [("Commit", "0123abc <script>"), ("Scale", "demo")]


class Reader(HTMLParser):
    """Collects links and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict] = []
        self.named: list[tuple[str, str | None]] = []  # regions and tables, and by what
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.links += [found[name] for name in ("src", "href", "action", "poster", "srcset") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "table" or found.get("role") == "region":
            self.named.append((tag, found.get("aria-labelledby")))
        if tag in ("img", "video"):
            self.images.append({"tag": tag, **found})
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def reports(params: Params, made_up: SimpleNamespace) -> Path:
    """Tables of made-up metrics and small stand-ins for the figures."""
    tables.make(params, made_up.metrics, made_up.reports)
    folder = made_up.reports / "figures"
    folder.mkdir()
    entries = []
    for name in (*page.SUMMARY, *page.FIGURES, *page.LATER, *page.VIDEOS):
        entries.append({"name": name, "title": f"<{name}>", "caption": 'a & b "c"', "alt": f'alt of "{name}"'})
        if name.startswith("video"):
            (folder / f"{name}.mp4").write_bytes(b"not really a video")
        else:
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "captions.json").write_text(json.dumps(entries))
    return made_up.reports


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def test_page_is_whole_and_alone(params: Params, reports: Path) -> None:
    text = page.build(params, MADE_BY, reports)
    reader = read(text)
    for link in reader.links:
        assert link.startswith(("data:", "#")), link
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert "@import" not in text
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert len(reader.images) == len(page.SUMMARY) + len(page.FIGURES) + len(page.LATER) + len(page.VIDEOS)
    assert all(image.get("alt") or image.get("aria-label") for image in reader.images)
    words = " ".join(reader.text)
    for expected in ("Head3D (N = 5)", "copy-last", "0123abc <script>", "<figure1>", "mini-unseen"):
        assert expected in words


def test_videos_and_pictures_are_inside(params: Params, reports: Path) -> None:
    reader = read(page.build(params, MADE_BY, reports))
    sources = {image["tag"]: image["src"] for image in reader.images}
    assert base64.b64decode(sources["video"].partition(",")[2]) == b"not really a video"
    assert base64.b64decode(sources["img"].partition(",")[2])[8:12] == b"WEBP"


def test_tables_are_for_those_who_hear_them_too(params: Params, reports: Path) -> None:
    """Each is named by its section's heading, so is what scrolls it, and a group's head stands in its own body."""
    text = page.build(params, MADE_BY, reports)
    reader = read(text)
    tables = ["table1", "table2", "table3", "cross_identity", "paired", "geometry", "parser"]
    assert reader.named == [
        *((tag, f"{name}-title") for name in tables for tag in ("div", "table")),
        ("table", "made-title"),
    ]
    assert {name for _, name in reader.named} <= set(reader.ids)
    bodies = re.findall(r"<tbody>(.*?)</tbody>", text)
    assert sum("rowgroup" in body for body in bodies) > 8
    assert all(body.find("rowgroup") == body.rfind("rowgroup") for body in bodies)


def test_an_interval_that_is_copied_stays_apart_from_its_mean(params: Params, reports: Path) -> None:
    copied = "".join(read(page.build(params, MADE_BY, reports)).text)
    assert re.search(r"\d \[", copied)
    assert not re.search(r"\d\[", copied)


def test_smoke_is_labelled(params: Params, reports: Path) -> None:
    assert 'class="warning"' not in page.build(params, MADE_BY, reports)
    smoke = params.model_copy(update={"scale": "smoke"})
    assert "They are meaningless" in page.build(smoke, MADE_BY, reports)


def test_verdicts(params: Params, reports: Path) -> None:
    lines = html_tables.sentences(reports / "tables" / "paired.csv", params)
    assert len(lines) == 6
    assert all("are a hint" in line for line in lines)
    counts = {"mini-seen": 3, "mini-unseen": 2}  # made up: Head3D is best on each clip
    for line in lines:
        clips = next(count for name, count in counts.items() if name in line)
        assert line.count(f"<b>lower in {clips} of {clips} clips</b>") == 2
    table = formats.read_csv(reports / "tables" / "paired.csv")
    table["n_clips"] = 10
    table.to_csv(reports / "tables" / "paired.csv", index=False)
    lines = html_tables.sentences(reports / "tables" / "paired.csv", params)
    assert all(line.count("<b>better</b>") == 2 and "hint" not in line for line in lines)
    table[["difference_low", "difference_high"]] = [-1.0, 1.0]
    table.to_csv(reports / "tables" / "paired.csv", index=False)
    assert all("not told apart" in line for line in html_tables.sentences(reports / "tables" / "paired.csv", params))
    table[["difference_low", "difference_high"]] = [0.5, 1.0]
    table.to_csv(reports / "tables" / "paired.csv", index=False)
    assert all("<b>worse</b>" in line for line in html_tables.sentences(reports / "tables" / "paired.csv", params))


def test_the_best_baseline_and_transfer_between_people_are_in_short(params: Params, reports: Path) -> None:
    path = reports / "tables" / "paired.csv"
    table = formats.read_csv(path)
    mine = (table["metric"] == "mse_01") & (table["dataset"] == "mini-seen") & (table["against"] == "dagan")
    table.loc[mine, "ratio"] = 0.99  # the least lead
    table.to_csv(path, index=False)
    best = [line for line in html_tables.sentences(path, params) if "the baseline of the lowest MSE" in line]
    assert len(best) == 2
    assert "mini-seen" in best[0] and "DaGAN" in best[0]
    without = params.model_copy(update={"baselines": ()})
    assert len(html_tables.sentences(path, without)) == 4
    seen, unseen = html_tables.across_sentences(reports / "tables", params)
    for line, name in ((seen, "mini-seen"), (unseen, "mini-unseen")):  # made up: Head3D's are half of a held frame's
        assert name in line and "2 pairs" in line
        assert re.search(
            r"off by 1\.00 % .* held frame by 2\.00 % \(lower in 2 of 2 pairs\); identity 1\.000 of 1", line
        ), line


def test_deviations_are_listed_once(params: Params, reports: Path) -> None:
    text = page.build(params, MADE_BY, reports)
    one = captions.deviations(params)[0]
    assert text.count(one) == 1
    assert f"Its {len(captions.deviations(params))} deviations" in text
    assert all(text.count(note) == 1 for note in captions.row_notes(params)), "under Table 3 alone"


def test_an_interval_without_bounds_gives_no_verdict(params: Params, reports: Path) -> None:
    table = formats.read_csv(reports / "tables" / "paired.csv")
    table["n_clips"] = 10
    table[["difference_low", "difference_high"]] = np.nan
    table.to_csv(reports / "tables" / "paired.csv", index=False)
    assert all("not told apart" in line for line in html_tables.sentences(reports / "tables" / "paired.csv", params))


@pytest.mark.parametrize("name", ["tables/table1.csv", "figures/captions.json", "figures/figure6.png"])
def test_missing_parts_are_one_clear_line(params: Params, reports: Path, name: str) -> None:
    (reports / name).unlink()
    with pytest.raises(UserError, match="missing; run `dvc repro` first"):
        page.build(params, MADE_BY, reports)


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "paired", "cross_identity", "geometry", "parser"])
def test_a_table_without_a_column_is_one_clear_line(params: Params, reports: Path, name: str) -> None:
    path = reports / "tables" / f"{name}.csv"
    formats.read_csv(path).drop(columns="dataset").to_csv(path, index=False)
    with pytest.raises(UserError, match=f"{name}.csv has no column dataset"):
        page.build(params, MADE_BY, reports)


def test_figures_that_were_not_drawn_are_left_out(params: Params, reports: Path) -> None:
    """One person alone is driven by nobody, and without baselines there is nothing to compare."""
    path = reports / "figures" / "captions.json"
    left = [entry for entry in json.loads(path.read_text()) if entry["name"] not in ("figure4_cross", "video_cross")]
    path.write_text(json.dumps(left))
    text = page.build(params, MADE_BY, reports)
    assert 'id="figure4_cross"' not in text and 'id="figure3"' in text and 'id="video_self"' in text


def test_no_picture_shrinks_to_a_phone() -> None:
    """Whatever section it stands in: figures of many columns are scrolled."""
    phone = html_style.CSS.partition("@media (max-width:640px){")[2].partition("}}")[0]
    selector = phone.partition("{max-width:none")[0].rpartition("}")[2]
    assert selector == ".wide img"


def test_provenance(params: Params, data: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is made on a machine without a GPU says what the networks were trained on."""
    (in_tmp / "metrics").mkdir()
    for stage, device in ("geometry", "cpu, float32"), ("canonical", "H, bfloat16"), ("fusion-full", "H, bfloat16"):
        Path(f"metrics/train_{stage}.json").write_text(json.dumps({"compute": device}))
    found = dict(page.provenance(params.model_copy(update={"device": "cuda"}), data))
    assert len(found["Data digest"]) == 64
    assert found["Clips"] == "mini-seen 3, mini-unseen 2, train 1"
    assert found["Trained on"] == "cpu, float32; H, bfloat16"
    Path("metrics/train_canonical.json").unlink()
    with pytest.raises(UserError, match=r"train_canonical\.json is missing; run `dvc repro` first"):
        page.trained_on(Path("metrics"))
    Path("metrics/train_canonical.json").write_text("[]")
    with pytest.raises(UserError, match=r"train_canonical\.json holds a list; allowed: a dict"):
        page.trained_on(Path("metrics"))
    for told, said in (("abc", "abc"), ("abc-dirty", "abc with changes that are not committed")):
        with monkeypatch.context() as checkout:
            checkout.setattr("head3d.tracking.git_commit", lambda told=told: told)
            assert page.commit() == said
    monkeypatch.setenv("PATH", "")
    assert "unknown" in page.commit()


def test_damaged_figures_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "figure1.png"
    path.write_bytes(b"\x89PNG broken off")
    with pytest.raises(UserError, match=r"figure1\.png is no picture that can be read; delete it"):
        page.picture(path, "a head")
    path = tmp_path / "captions.json"
    path.write_text('[{"name": "figure1", "title": "Figure 1"}]')
    with pytest.raises(UserError, match=r"captions\.json: not every figure has"):
        page.read_captions(path)
