"""The table of transfer between people, from made-up measures with means known by hand."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from head3d.errors import UserError
from head3d.evaluation import measures
from head3d.params import Params
from head3d.report import captions, cross, names, tables


@pytest.fixture
def written(params: Params, made_up: SimpleNamespace) -> SimpleNamespace:
    tables.make(params, made_up.metrics, made_up.reports)
    return made_up


def test_means_and_intervals_over_pairs(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "cross_identity.csv")
    assert list(table.columns[:4]) == ["dataset", "method", "n_pairs", "n_frames"]
    assert table["method"].tolist() == [
        "the driving video itself", "copy (random reference)", "rendered head pasted", "FOMM", "MRAA", "DaGAN",
        "FaceV2V", "Head3D (N = 5)"] * 2  # fmt: skip
    ours = table[table["method"] == "Head3D (N = 5)"].iloc[0]
    for name in measures.MEASURES:  # pairs of 1 and 3, halved
        assert (ours[name], ours[f"{name}_low"], ours[f"{name}_high"]) == (1.0, 0.5, 1.5), name
        assert ours[f"{name}_pairs"] == 2
    assert (ours["n_pairs"], ours["n_frames"]) == (2, 16)
    assert table.loc[table["method"] == "FOMM", measures.GHOSTS].isna().all()  # it renders no head


def test_paired_differences(written: SimpleNamespace) -> None:
    table = pd.read_csv(written.reports / "tables" / "cross_paired.csv")
    assert not {"driving", "head3d"} & set(table["against"])
    assert len(table) == 2 * (6 * len(measures.MEASURES) - 5)  # five methods render no head, and have no ghosts
    row = table[(table["against"] == "copy") & (table["measure"] == measures.EXPRESSION)].iloc[0]
    # Made up: 0.5 and 1.5 against 1 and 3.
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (-1.0, -1.5, -0.5)
    assert (row["n_lower"], row["n_pairs"]) == (2, 2)


def test_pairs_are_compared_where_both_were_measured(params: Params, made_up: SimpleNamespace) -> None:
    path = made_up.metrics / "cross" / "mini-seen.csv"
    rows = pd.read_csv(path).iloc[::-1]  # the order of a file means nothing
    rows.loc[(rows["method"] == "fomm") & (rows["pair"] == "p00"), measures.EXPRESSION] = float("nan")
    found = cross.paired_table(params, rows, ["fomm", "head3d", "driving"])
    row = found[found["measure"] == measures.EXPRESSION].iloc[0]
    assert (row["n_pairs"], row["n_lower"]) == (1, 1) and row["difference"] == 1.5 - 3.0


def test_what_people_are_shown(written: SimpleNamespace) -> None:
    markdown = (written.reports / "tables" / "cross_identity.md").read_text()
    assert "1.000 [0.500, 1.500]" in markdown and "1.00 [0.50, 1.50]" in markdown
    assert "_absolute_" not in markdown.split("\n\n")[1]
    assert "Pairs: mini-seen 2, mini-unseen 2." in markdown
    assert (written.reports / "tables" / "cross_identity.tex").read_text().isascii()
    assert len(pd.read_csv(written.reports / "tables" / "cross_identity_pairs.csv")) == 2 * 2 * 8


def test_the_caption_explains_every_column(params: Params) -> None:
    said = captions.cross_caption(params, {})
    for name in (measures.IDENTITY, measures.EXPRESSION, measures.JITTER, measures.GHOSTS, measures.NO_FACE):
        assert f"{name}:" in said
    assert f"{measures.ANGLES[2]}:" in said
    assert f"(version {measures.VERSION})" in said
    assert "mini-seen 0" in said


def test_the_caption_says_what_relative_motion_takes(params: Params) -> None:
    how = {"relative": True, "absolute": False}
    for motion, laid in how.items():
        animate = params.animate.model_copy(update={"motion": motion})
        said = captions.cross_caption(params.model_copy(update={"animate": animate}), {})
        assert f"with {motion} motion" in said
        assert ("by landmarks of one picture of each" in said) is laid


def test_a_set_of_one_person_has_no_pair(params: Params, made_up: SimpleNamespace) -> None:
    path = made_up.metrics / "cross" / "mini-unseen.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    tables.make(params, made_up.metrics, made_up.reports)
    table = pd.read_csv(made_up.reports / "tables" / "cross_identity.csv")
    assert set(table["dataset"]) == {"mini-seen"}
    path = made_up.metrics / "cross" / "mini-seen.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    tables.make(params, made_up.metrics, made_up.reports)
    assert len(pd.read_csv(made_up.reports / "tables" / "cross_identity.csv")) == 0


def test_a_pair_without_any_face_is_left_out_of_the_mean(params: Params, made_up: SimpleNamespace) -> None:
    path = made_up.metrics / "cross" / "mini-seen.csv"
    rows = pd.read_csv(path)
    rows.loc[(rows["method"] == "fomm") & (rows["pair"] == "p00"), measures.EXPRESSION] = float("nan")
    rows.to_csv(path, index=False)
    found = cross.read(made_up.metrics / "cross", ["mini-seen"], names.cross_methods(params.baselines))
    table, _ = cross.build(params, found, ["fomm"])
    assert table[measures.EXPRESSION].tolist() == [3.0]
    assert table[f"{measures.EXPRESSION}_low"].isna().all()  # one pair says nothing about the spread
    assert table[f"{measures.EXPRESSION}_pairs"].tolist() == [1] and table["n_pairs"].tolist() == [2]
    shown = cross.shown(table)
    assert shown[measures.EXPRESSION].tolist() == ["3.00 (1 of 2)"]
    assert shown[measures.JITTER].tolist() == ["2.00 [1.00, 3.00]"]
    assert shown[measures.GHOSTS].tolist() == ["–"]  # FOMM renders no head
    assert shown[measures.NO_FACE].tolist() == ["2.000 [1.000, 3.000]"]  # a share


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "missing; run `dvc repro` first"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column dataset"),
        (lambda path: path.write_text(re.sub("mini-seen,fomm,p00.*\n", "", path.read_text())), "fomm was not measured"),
    ],
)
def test_wrong_measures_are_one_clear_line(params: Params, made_up: SimpleNamespace, spoil, message: str) -> None:
    spoil(made_up.metrics / "cross" / "mini-seen.csv")
    with pytest.raises(UserError, match=message):
        tables.make(params, made_up.metrics, made_up.reports)
