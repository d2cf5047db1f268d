"""Scales: files of values that params.yaml is rewritten from, and saved to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from head3d import scales
from head3d.errors import UserError
from head3d.params import read_yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """params.yaml and the scales, to write in."""
    shutil.copytree(ROOT / "workflow" / "scales", tmp_path / "workflow" / "scales")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def test_a_scale_that_extends_another_is_saved_as_that(copied: Path) -> None:
    scales.use("paper256", copied)
    path = copied / "params.yaml"
    path.write_text(path.read_text().replace("seed: 0 ", "seed: 7 "))
    wanted = read_yaml(path)
    written = read_yaml(scales.save("paper256", copied))
    assert written == {"extends": "paper", "scale": "paper256", "seed": 7, "data": {"image_size": 256}}
    scales.use("demo", copied)
    scales.use("paper256", copied)
    assert read_yaml(path) == wanted


@pytest.mark.parametrize("under", ["paper512", "paper256", "smoke"])
def test_a_scale_that_extends_nothing_that_ends(copied: Path, under: str) -> None:
    (copied / "workflow/scales/smoke.yaml").write_text("extends: paper256\n")
    (copied / "workflow/scales/paper256.yaml").write_text(f"extends: {under}\n")
    with pytest.raises(UserError, match=r"paper256\.yaml: extends is") as caught:
        scales.values("paper256" if under != "smoke" else "smoke", copied)
    assert "\n" not in str(caught.value)


def test_a_scale_and_back_changes_no_character(copied: Path) -> None:
    path = copied / "params.yaml"
    before = path.read_text()
    for name in ("smoke", "paper", "paper256"):
        assert name in scales.use(name, copied)
        assert read_yaml(path) == scales.values(name, copied)
        assert path.read_text().count("#") == before.count("#"), "a comment was lost"
        scales.use("demo", copied)
        assert path.read_text() == before


@pytest.mark.parametrize("written", ["[]", "[mraa]", "\n  - mraa\n  - dagan"])
def test_lists_may_be_empty_and_stay_in_one_line(copied: Path, written: str) -> None:
    """An empty list of params.yaml that a scale fills, and a full one that it empties, however it was written."""
    path, demo = copied / "params.yaml", copied / "workflow/scales/demo.yaml"
    committed = (ROOT / "params.yaml").read_text()
    (line,) = re.findall(r"^baselines: \[fomm.*\]\n", committed, re.M)
    path.write_text(committed.replace(line, f"baselines: {written}\n"))
    scales.use("demo", copied)
    assert path.read_text() == committed
    demo.write_text(demo.read_text().replace(line, "baselines: []\n"))
    for _ in range(2):  # to the empty list, and from it to itself
        scales.use("demo", copied)
        assert path.read_text() == committed.replace(line, "baselines: []\n")


@pytest.mark.parametrize("name", ["demo", "smoke"])
def test_a_key_that_nobody_knows_is_no_fault_of_a_scale(copied: Path, name: str) -> None:
    path, line = copied / "params.yaml", "  lr: 4.0e-4               # paper: 2.0e-4\n"
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, "  lrr: 1.0e-4\n") + "fusio: 1\n")
    assert scales.use(name, copied).endswith(" changed; unknown and left as they are: fusion.lrr, fusio")
    found = read_yaml(path)
    assert (found["fusion"].pop("lrr"), found.pop("fusio")) == (1e-4, 1)
    assert found == scales.values(name, copied) == scales.values(name, ROOT)


def test_wrong_values_are_neither_used_nor_saved(copied: Path) -> None:
    params, smoke = copied / "params.yaml", copied / "workflow/scales/smoke.yaml"
    before = params.read_text()
    smoke.write_text(smoke.read_text() + "\nprecision: half\n")
    with pytest.raises(UserError, match=r"smoke\.yaml: precision is"):
        scales.use("smoke", copied)
    assert params.read_text() == before
    params.write_text(before.replace("\nprecision: auto", "\nprecision: half"))
    with pytest.raises(UserError, match=r"params\.yaml: precision is"):
        scales.save("mine", copied)
    assert not (copied / "workflow/scales/mine.yaml").exists()


def test_one_is_not_true() -> None:
    document = {"number": 1, "switch": True}
    assert scales._assign(document, {"number": True, "switch": True}) == 1
    assert document["number"] is True


def test_saving_a_scale(copied: Path) -> None:
    scales.use("smoke", copied)
    wanted = read_yaml(copied / "params.yaml")
    scales.save("mine", copied)
    assert read_yaml(copied / "params.yaml") == wanted
    scales.use("demo", copied)
    scales.use("mine", copied)
    assert read_yaml(copied / "params.yaml") == wanted | {"scale": "mine"}, "tables name whose numbers these are"
    with pytest.raises(UserError, match=r"no scale 'x'; allowed: demo, mine, paper, paper256, smoke"):
        scales.use("x", copied)


def test_written_numbers_are_numbers_to_every_reader(tmp_path: Path) -> None:
    """PyYAML (YAML 1.1) reads 2e-05 as a string."""
    import io

    import yaml

    for value in (2e-5, 1e-4, 3.25e-7, 0.1, 1.0, 12345678.0, 1e300, -2.5e-6, 0.0):
        stream = io.StringIO()
        scales._yaml().dump({"a": value}, stream)
        assert yaml.safe_load(stream.getvalue())["a"] == value, stream.getvalue()
