"""Tables from made-up metrics with answers known by hand."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest

from head3d.errors import UserError
from head3d.params import Params
from head3d.report import captions, formats, names, paper, stats, tables

# what the tables promise, written out once more
COLUMNS = [
    "dataset",
    "method",
    "mse_01",
    "mse_01_low",
    "mse_01_high",
    "mse_pm1",
    "lpips_alex",
    "lpips_alex_low",
    "lpips_alex_high",
    "n_clips",
    "n_frames",
    "paper_dataset",
    "paper_l2",
    "paper_lpips",
]


@pytest.fixture
def written(params: Params, made_up: SimpleNamespace) -> SimpleNamespace:
    tables.make(params, made_up.metrics, made_up.reports)
    return made_up


def test_table1(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "table1.csv")
    assert list(table.columns) == COLUMNS
    assert table["method"].tolist() == [
        "copy (random reference)", "copy-last", "rendered head pasted", "FOMM", "MRAA", "DaGAN", "FaceV2V",
        "Head3D (N = 5)"] * 2  # fmt: skip
    ours = table[(table["dataset"] == "mini-seen") & (table["method"] == "Head3D (N = 5)")].iloc[0]
    assert ours["mse_01"] == pytest.approx(0.004)  # 0.002, 0.004, 0.006, each averaged over draws 0.9 and 1.1
    assert ours["mse_pm1"] == pytest.approx(0.016)
    assert ours["lpips_alex"] == pytest.approx(0.04)
    assert ours["mse_01_low"] <= ours["mse_01"] <= ours["mse_01_high"]
    assert (ours["n_clips"], ours["n_frames"]) == (3, 60)
    assert (ours["paper_dataset"], ours["paper_l2"], ours["paper_lpips"]) == ("VoxCeleb", 0.0113, 0.0855)
    unseen = table[(table["dataset"] == "mini-unseen") & (table["method"] == "Head3D (N = 5)")].iloc[0]
    assert (unseen["paper_dataset"], unseen["paper_l2"], unseen["paper_lpips"]) == ("FaceForensics", 0.0079, 0.0442)
    facev2v = table[(table["dataset"] == "mini-seen") & (table["method"] == "FaceV2V")].iloc[0]
    assert facev2v["mse_01"] == pytest.approx(0.006)  # 0.003, 0.006, 0.009
    assert (facev2v["paper_dataset"], facev2v["paper_l2"], facev2v["paper_lpips"]) == ("VoxCeleb", 0.0186, 0.0994)
    floors = table[table["method"].str.startswith("copy")]
    assert floors["paper_l2"].isna().all()
    assert floors["paper_dataset"].isna().all()


def test_every_table_says_which_clips_it_is_of(params: Params, made_up: SimpleNamespace) -> None:
    digest = "89f7465d40a17f1e" + 48 * "0"
    (made_up.metrics / "train_geometry.json").write_text(json.dumps({"steps": 3, "data": digest}))
    tables.make(params, made_up.metrics, made_up.reports)
    folder = made_up.reports / "tables"
    for name in ("table1", "table2", "table3", "cross_identity", "geometry", "parser"):
        for ending in (".md", ".tex"):
            assert "SHA-256 89f7465d40a17f1e" in (folder / name).with_suffix(ending).read_text(), name + ending


def test_table3(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "table3.csv")
    assert list(table.columns) == COLUMNS
    seen = table[table["dataset"] == "mini-seen"].set_index("method")
    assert list(seen.index) == [
        "Head3D (N = 1)", "Head3D (N = 3)", "Head3D (N = 10)", "Head3D w/ x̄^c", "Head3D w/o x̂_dri",
        "Head3D w/o image skip", "Head3D w/o matching", "Head3D (N = 5)"]  # fmt: skip
    assert seen["paper_l2"].tolist()[:5] == [0.0117, 0.0115, 0.0116, 0.0117, 0.0117]
    assert seen.loc[["Head3D w/o image skip"], "paper_l2"].isna().all()
    # the paper has no ablation on unseen people
    assert table[table["dataset"] == "mini-unseen"]["paper_l2"].isna().all()


def test_other_default_number_of_references(params: Params, made_up: SimpleNamespace) -> None:
    """A model with N = 2 is not the paper's N = 5 and does not take its numbers."""
    small = params.model_copy(update={"model": params.model.model_copy(update={"references": 2})})
    tables.make(small, made_up.metrics, made_up.reports)
    table = pd.read_csv(made_up.reports / "tables" / "table1.csv").set_index("method")
    assert table.loc[["Head3D (N = 2)"], "paper_l2"].isna().all()


def test_paired(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "paired.csv")
    row = table[(table["dataset"] == "mini-seen") & (table["against"] == "copy_last") & (table["metric"] == "mse_01")]
    row = row.iloc[0]
    assert row["difference"] == pytest.approx(0.004 - 0.016)
    assert row["ratio"] == pytest.approx(0.25) == row["ratio_low"] == row["ratio_high"]
    assert row["difference_low"] <= row["difference"] <= row["difference_high"] < 0
    assert (row["n_lower"], row["n_clips"]) == (3, 3)
    assert {"copy", "copy_last", "paste", "fomm", "facev2v", "head3d_no_head"} <= set(table["against"])


def test_metrics_tree(written: SimpleNamespace) -> None:
    tree = json.loads((written.reports / "metrics.json").read_text())
    assert tree["mini-unseen"]["copy"]["mse_01"] == pytest.approx(0.015)
    assert tree["mini-unseen"]["copy"]["lpips_vgg"] == pytest.approx(0.3)
    torn = pd.DataFrame({"dataset": "a", "method": "b", "mse_01": [0.5, 0.25], "lpips_vgg": [0.5, float("nan")]})
    assert tables.metrics_tree(torn) == {"a": {"b": {"mse_01": 0.375}}}  # no mean over some of the clips


def test_markdown_and_latex_say_what_the_numbers_are(written: SimpleNamespace) -> None:
    markdown = (written.reports / "tables" / "table1.md").read_text()
    latex = (written.reports / "tables" / "table3.tex").read_text()
    for text in (markdown, latex):
        assert "Scale: demo" in text
        assert "mini-seen 3, mini-unseen 2" in text
        assert "a hint, not a proof" in text
    assert markdown.count("\n| mini-") == 16
    assert r"$\bar{x}^c$" in latex
    assert r"$\hat{x}_{\mathrm{dri}}$" in latex
    assert "mse\\_01" in latex
    assert latex.count("{") == latex.count("}")
    assert latex.isascii()
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.strip().splitlines()} == {len(COLUMNS) - 1}


def test_same_input_same_bytes(params: Params, written: SimpleNamespace) -> None:
    first = {path.name: path.read_bytes() for path in (written.reports / "tables").iterdir()}
    tables.make(params, written.metrics, written.reports)
    assert first == {path.name: path.read_bytes() for path in (written.reports / "tables").iterdir()}


def test_per_clip_files(written: SimpleNamespace) -> None:
    clips = pd.read_csv(written.reports / "tables" / "table1_clips.csv")
    assert len(clips) == 8 * 5
    assert set(clips["draws"]) == {2}


def test_parser(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "parser.csv")
    assert table["iou_mean"].tolist() == [0.9625, 0.9625]
    text = (written.reports / "tables" / "parser.md").read_text()
    assert "| iou_worst | 0.875 | 0.875 |" in text
    assert "taught on the training clips" in text


def test_geometry(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "geometry.csv")
    assert table["dataset"].tolist() == ["mini-seen", "mini-unseen"]
    text = (written.reports / "tables" / "geometry.md").read_text()
    assert "| yaw_correlation | 0.900 | 0.900 |" in text and "| head_mse_stage1 | 0.00300 | 0.00300 |" in text


def test_stale_files_are_not_read(params: Params, made_up: SimpleNamespace) -> None:
    (made_up.metrics / "reconstruction" / "folder-seen-full.csv").write_text("left over from other parameters")
    tables.make(params, made_up.metrics, made_up.reports)
    assert "folder-seen" not in (made_up.reports / "tables" / "table3.csv").read_text()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "missing; run `dvc repro` first"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column dataset"),
        (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), "no rows"),
        (lambda path: path.write_text(re.sub(r",20,[^,]+,", ",20,nan,", path.read_text())), "not a finite number"),
        (
            lambda path: path.write_text(re.sub(r",20,[^,]+,", ",20,-0.1,", path.read_text())),
            "-0.1, not a finite number",
        ),
        (
            lambda path: path.write_text(re.sub(r",20,[^,]+,", ",20,good,", path.read_text())),
            "good, not a finite number",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("mini-seen", "other")),
            "rows of other; allowed: mini-seen",
        ),
        (lambda path: path.write_bytes(b""), "no table that can be read"),
        (lambda path: path.write_bytes("Größe".encode("latin-1")), "no table that can be read"),
        (lambda path: path.write_text(path.read_text() + "a,b,c,d,e,f,g,h,i,j,k,l\n"), "no table that can be read"),
        (lambda path: path.write_text(path.read_text().replace(",1,cap-0", ",0,cap-0")), "comes twice"),
    ],
)
def test_wrong_metrics_are_one_clear_line(params: Params, made_up: SimpleNamespace, spoil, message: str) -> None:
    spoil(made_up.metrics / "reconstruction" / "mini-seen-full.csv")
    with pytest.raises(UserError, match=message):
        tables.make(params, made_up.metrics, made_up.reports)


def test_captions_name_deviations_and_the_scale(params: Params) -> None:
    assert any("image skip" in text for text in captions.deviations(_with_skip(params, True)))
    assert not any("image skip" in text for text in captions.deviations(_with_skip(params, False)))
    smoke = params.model_copy(update={"scale": "smoke"})
    assert "meaningless" in captions.table_caption(smoke, {"mini-seen": 2}, "table3")
    assert "meaningless" not in captions.table_caption(params, {"mini-seen": 2}, "table3")


def _with_skip(params: Params, on: bool) -> Params:
    fusion = params.model.fusion.model_copy(update={"image_skip": on})
    return params.model_copy(update={"model": params.model.model_copy(update={"fusion": fusion})})


def test_names() -> None:
    assert names.plain("head3d_n10", 5) == "Head3D (N = 10)"
    assert names.plain("somebody_else", 5) == "somebody_else"
    assert names.tex("copy", 5) == "copy (random reference)"
    assert names.table3_methods(["head3d_n10", "copy", "head3d", "head3d_n3"]) == ["head3d_n3", "head3d_n10", "head3d"]
    assert paper.paper_dataset("folder-unseen") == "FaceForensics"
    assert paper.paper_dataset("voxceleb-unseen") == "VoxCeleb"  # the paper's own test people
    assert paper.paper_dataset("faceforensics-unseen") == "FaceForensics"
    assert paper.paper_dataset("else") == ""


def test_cells() -> None:
    assert formats.cell(float("nan")) == "–" == formats.cell("")
    assert formats.cell(0.00123, 5) == "0.00123"
    assert formats.cell(7) == "7"
    assert (formats.decimals("mse_01"), formats.decimals("lpips_alex")) == (5, 4)  # ablations move the fifth
    assert formats.cell(0.00140500449, 5) == formats.cell(0.001405, 5)  # all digits, and those of the CSV
    assert formats.rounded(0.123456789) == 0.123457


def test_table1_says_how_long_the_baselines_were_trained(params: Params, written: SimpleNamespace) -> None:
    table1 = (written.reports / "tables" / "table1.md").read_text()
    fusion, fomm = params.fusion, params.baseline.fomm
    ours, theirs, step = (
        fusion.epochs * fusion.drivings,
        fomm.epochs * params.baseline.training.repeats,
        fomm.batch_size,
    )
    assert f"every baseline learns from {theirs} driving frames a training clip, {step} a step" in table1
    assert f"which is {100 * theirs / step:g} optimiser steps a hundred clips" in table1
    assert f"Stage 3 learns from {ours}: the baselines have {theirs / ours:g} times as many" in table1
    assert "L1 term (weight 300)" in table1
    assert "FaceV2V's head poses taught by F_P" in table1
    assert "baseline" not in (written.reports / "tables" / "table3.md").read_text()
    # Where the budgets differ, every one is named.
    fomm = fomm.model_copy(update={"epochs": 100, "batch_size": 40})
    other = params.model_copy(update={"baseline": params.baseline.model_copy(update={"fomm": fomm})})
    said = captions.baselines_sentence(other)
    assert "Budgets differ" in said and "optimiser steps" not in said
    assert f"Head3D {ours} ({step}), FOMM 100 (40), MRAA {theirs} ({step})" in said
    assert "people" not in said
    # One pass over people shows fewer frames than one over clips: no number of passes alone makes it fair.
    training = params.baseline.training.model_copy(update={"id_sampling": True})
    people = params.model_copy(update={"baseline": params.baseline.model_copy(update={"training": training})})
    assert "Budgets differ" in captions.baselines_sentence(people)
    assert "their passes go over people" in captions.baselines_sentence(people)


def test_a_table_without_baselines_does_not_speak_of_them(params: Params, made_up: SimpleNamespace) -> None:
    assert "aseline" not in captions.table_caption(params, {"mini-seen": 2}, "table3")


def test_intervals_are_of_the_resamples_and_the_seed_of_params(
    params: Params, made_up: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    for name in ("mean_interval", "paired"):
        real = getattr(stats, name)
        monkeypatch.setattr(stats, name, lambda *given, real=real: asked.add(given[-2:]) or real(*given))
    evaluate = params.evaluate.model_copy(update={"bootstrap": 123})
    tables.make(params.model_copy(update={"seed": 7, "evaluate": evaluate}), made_up.metrics, made_up.reports)
    assert asked == {(123, 7)}
