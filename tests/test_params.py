"""Parameters: what is refused, and in which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from head3d import scales
from head3d.errors import UserError
from head3d.params import Params, check_params, load_params, read_yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def values() -> dict[str, Any]:
    return read_yaml(ROOT / "params.yaml")


def put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values[section]
    values[last] = value


def test_the_file_in_use_is_accepted() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.methods == ("floors", *params.variants)


def test_parameters_cannot_be_changed(values: dict[str, Any]) -> None:
    params = check_params(values)
    with pytest.raises(ValidationError, match="frozen"):
        params.fusion.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", "zero", ["seed", "'zero'", "integer"]),
        ("seed", True, ["seed", "True", "integer"]),
        ("seed", 1.0, ["seed", "1.0", "integer"]),
        ("seed", -1, ["seed", "-1", "greater than or equal to 0"]),
        ("device", "gpu", ["device", "'gpu'", "auto, cpu, cuda or cuda:N"]),
        ("precision", "float16", ["precision", "'float16'", "'auto', 'bfloat16' or 'float32'"]),
        ("fusion.lr", "4e-4", ["fusion.lr", "'4e-4'", "number"]),
        ("fusion.lr", 0.0, ["fusion.lr", "0.0", "greater than 0"]),
        ("fusion.lr", float("nan"), ["fusion.lr", "nan", "finite"]),
        ("geometry.area_normalised", "yes", ["geometry.area_normalised", "'yes'", "boolean"]),
        ("model.depth.encoder_width", None, ["model.depth.encoder_width", "null", "number"]),
        ("variants", [], ["variants", "[]", "at least 1"]),
        ("variants", "full", ["variants", "'full'", "a list"]),
        ("variants", ["full", "full"], ["variants", "without repeated entries"]),
        ("variants", ["full", "other"], ["variants.1", "'other'", "no_head"]),
        ("variants", ["no_skip"], ["variants", "full in it"]),
        ("shards", [0, -1], ["shards.1", "-1"]),
        ("test_sets", ["mini-seen", "../x"], ["test_sets.1", "'../x'", "letters, digits"]),
        ("test_sets", ["folder-seen"], ["test_sets", "'folder-seen'", "mini-seen, mini-unseen"]),
        ("data.sources", ["folder"], ["test_sets", "folder-seen"]),
        ("data.folder", "", ["data.folder", "''", "the name of a file or directory"]),
        ("data.voxceleb.videos", " ", ["data.voxceleb.videos", "the name of a file or directory"]),
        ("data.sources", ["youtube"], ["data.sources.0", "'youtube'", "faceforensics"]),
        ("data.faceforensics.compression", "c1", ["data.faceforensics.compression", "'c1'", "c23"]),
        ("download.address", "https://a.b/c", ["download.address", "'https://a.b/c'", "{id}"]),
        ("download.pause_s", -1.0, ["download.pause_s", "-1.0", "greater than or equal to 0"]),
        ("data.image_size", 100, ["data.image_size", "100", "multiple of 32"]),
        ("data.image_size", 32, ["data.image_size", "32", "greater than or equal to 64"]),
        ("model.depth.decoder_width", 0.01, ["model.depth.decoder_width", "0.01", "0.0125"]),
        ("camera.fov_deg", 30.0, ["camera.fov_deg", "30.0", "spans 0.15 to 0.2 m"]),
        ("camera", {"fov_deg": 20.0, "distance_m": 0.3}, ["camera.fov_deg", "not 0.106 m"]),
        ("camera", {"fov_deg": 30.0, "distance_m": 0.33}, ["model.pose.max_z_m", "less than camera.distance_m, 0.33"]),
        ("camera", {"fov_deg": 1.0e-4, "distance_m": 1.0e5}, ["camera.distance_m", "100000.0", "equal to 10"]),
        ("camera", {"fov_deg": 45.0, "distance_m": 0.2}, ["camera.distance_m", "0.2", "equal to 0.3"]),
        ("model.pose.input_size", 32, ["model.pose.input_size", "32", "equal to 48"]),
        ("model.fusion.flow_scale", 0.1, ["model.fusion.flow_scale", "0.1", "multiple of 32"]),
        ("baselines", ["fomm", "x2face"], ["baselines.1", "'x2face'", "facev2v"]),
        ("baseline.fomm.network.motion_levels", 6, ["baseline.fomm.network.motion_levels", "multiple of 256"]),
        ("baseline.mraa.network.background_levels", 8, ["baseline.mraa.network.background_levels", "multiple of 256"]),
        ("baseline.dagan.network.most", 4, ["baseline.dagan.network.most", "4", "equal to 8"]),
        ("fusion.perceptual_scales", [1.0, 0.1], ["fusion.perceptual_scales", "[1.0, 0.1]", "at least 16", "not 12"]),
        ("baseline.training.perceptual_scales", [0.0625], ["baseline.training.perceptual_scales", "at least 16"]),
        (
            "baseline.training.perceptual_scales",
            [1.0, 0.75],
            ["perceptual_scales.1", "0.75", "1 divided by"],
        ),
        (
            "baseline.training.perceptual_scales",
            [0.3],
            ["perceptual_scales.0", "0.3", "whole number"],
        ),
        ("baseline.dagan.network.depth_layers", 34, ["baseline.dagan.network.depth_layers", "18 or 50"]),
        ("evaluate.references", [1, 50], ["evaluate.references", "50", "at most 20"]),
        ("model.references", 21, ["model.references", "21", "at most 20"]),
        ("geometry.drivings", 36, ["geometry.drivings", "36", "at most 35"]),
        ("fusion.drivings", 36, ["fusion.drivings", "36", "at most 35"]),
        ("data", None, ["data", "null"]),
    ],
)
def test_wrong_values_are_one_line(values: dict[str, Any], key: str, value: Any, words: list[str]) -> None:
    put(values, key, value)
    with pytest.raises(UserError) as caught:
        check_params(values)
    message = str(caught.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    assert "allowed: " in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seconds": 1.0}, r"data\.voxceleb\.seconds is 1\.0; allowed: at least 3\.2, two clips long"),
        ({"train": 0, "test": 0}, r"data\.voxceleb\.train is 0; allowed: at least one video there or in data\.vox"),
    ],
)
def test_voxceleb_is_checked_where_it_is_used(values: dict[str, Any], changed: dict[str, Any], words: str) -> None:
    values["data"]["voxceleb"] |= {"videos": "videos"} | changed
    check_params(values)
    put(values, "data.sources", ["voxceleb"])
    put(values, "test_sets", ["voxceleb-unseen"])
    with pytest.raises(UserError, match=words):
        check_params(values)


def test_stretches_of_voxceleb_are_two_clips_long_at_the_clips_rate(values: dict[str, Any]) -> None:
    values["data"]["voxceleb"] |= {"videos": "videos"}
    values["data"] |= {"sources": ["voxceleb"], "fps": 10.0}
    values["test_sets"] = ["voxceleb-unseen"]
    check_params(values)  # 8 seconds are
    values["data"]["fps"] = 5.0
    with pytest.raises(UserError, match=r"data\.voxceleb\.seconds is 8\.0; allowed: at least 16, two clips long"):
        check_params(values)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.fusion.flow_max", 8, "model.fusion.flow_width"),
        ("baseline.fomm.network.most", 8, "width"),
    ],
)
def test_no_level_is_narrower_than_the_first(values: dict[str, Any], key: str, value: int, words: str) -> None:
    put(values, key, value)
    with pytest.raises(UserError, match=rf"{key} is {value}; allowed: at least {words}, \d+"):
        check_params(values)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"fusion.perceptual_weight": 0.0, "fusion.pixel_weight": 0.0, "fusion.equivariance": 0.0},
            r"fusion\.perceptual_weight is 0\.0; allowed: more than 0, there or in fusion\.pixel_weight",
        ),
    ],
)
def test_a_stage_without_a_loss_is_refused(values: dict[str, Any], changed: dict[str, Any], words: str) -> None:
    for key, value in changed.items():
        check_params(values)  # all of them together are wrong, none alone
        put(values, key, value)
    with pytest.raises(UserError, match=words):
        check_params(values)


def test_pyramids_reach_down_to_what_vgg_needs() -> None:
    values = scales.values("smoke", ROOT)  # frames of 64 pixels
    put(values, "baseline.training.perceptual_scales", [1.0, 0.5, 0.25])
    put(values, "fusion.perceptual_scales", [1.0, 0.75, 0.25])  # of any share: it averages areas
    check_params(values)
    put(values, "baseline.training.perceptual_scales", [1.0, 0.5, 0.25, 0.125])
    with pytest.raises(UserError, match=r"baseline\.training\.perceptual_scales is .*, 64 pixels, .* not 8"):
        check_params(values)
    put(values, "baselines", [])
    check_params(values)


def test_an_unknown_key_names_the_likely_one(values: dict[str, Any]) -> None:
    put(values, "fusion.epoch", 3)
    with pytest.raises(UserError, match=r"fusion\.epoch is 3, an unknown key; allowed: epochs\?"):
        check_params(values)


def test_a_missing_key_is_named(values: dict[str, Any]) -> None:
    del values["data"]["crop"]["margin"]
    with pytest.raises(UserError, match=r"data\.crop\.margin is missing"):
        check_params(values)


def test_further_problems_are_counted(values: dict[str, Any]) -> None:
    put(values, "seed", "a")
    put(values, "fusion.lr", "b")
    with pytest.raises(UserError, match=r"seed is 'a'.*and 1 more, the next at fusion\.lr"):
        check_params(values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "line "),
        ("a: 1\na: 2\n", 'duplicate key "a"'),
        ("", "holds no keys"),
        ("- 1\n", "holds no keys"),
        ("\x00", "not YAML"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load_params(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_params(tmp_path / "params.yaml")


# --- scales -----------------------------------------------------------------------------------------------------------


def test_every_scale_is_allowed() -> None:
    assert scales.names(ROOT) == ["demo", "paper", "paper256", "smoke"]
    for name in scales.names(ROOT):
        assert check_params(scales.values(name, ROOT)).scale == name


def test_the_committed_parameters_are_the_demo_scale(values: dict[str, Any]) -> None:
    assert values == read_yaml(ROOT / "workflow/scales/demo.yaml"), "run `head3d scale --save demo`"


def test_the_demo_gives_every_baseline_the_same_budget_and_no_less_than_stage_3() -> None:
    """Driving frames a clip and a step, and the weight of the L1 term."""
    params = check_params(scales.values("demo", ROOT))
    fusion, shared = params.fusion, params.baseline.training
    passes = {getattr(params.baseline, name).epochs * shared.repeats for name in params.baselines}
    assert len(passes) == 1 and min(passes) >= fusion.epochs * fusion.drivings
    assert shared.pixel_weight == fusion.pixel_weight
    for name in params.baselines:
        section = getattr(params.baseline, name)
        assert section.batch_size == fusion.batch_size * fusion.drivings, name
        assert section.lr == fusion.lr, name
    assert set(params.baselines) >= {"fomm", "mraa", "dagan", "facev2v"}


def test_paper256_is_the_paper_scale_with_larger_frames() -> None:
    small, large = scales.values("paper", ROOT), scales.values("paper256", ROOT)
    assert large.pop("scale") == "paper256" and small.pop("scale") == "paper"
    assert large["data"].pop("image_size") == 256 and small["data"].pop("image_size") == 128
    assert large == small


def test_the_paper_scale_has_the_papers_numbers() -> None:
    """Against the table of numbers that the paper fixes, and each `paper:` comment of params.yaml."""
    params = check_params(scales.values("paper", ROOT))
    assert (params.data.image_size, params.data.clip_length, params.data.clips_per_video) == (128, 40, 1)
    assert params.data.sources == ("voxceleb", "faceforensics")
    assert params.test_sets == ("voxceleb-unseen", "faceforensics-unseen")
    assert (params.data.voxceleb.train, params.data.voxceleb.test, params.data.faceforensics.test) == (7500, 400, 150)
    assert (params.model.references, params.evaluate.references) == (5, (1, 3, 5, 10))
    assert (params.geometry.epochs, params.geometry.lr_drop_epoch) == (10, 5)
    assert (params.geometry.depth_lr, params.geometry.pose_lr) == (2e-4, 2e-5)
    assert (params.geometry.symmetry, params.geometry.smoothness) == (0.1, 0.1)
    assert (params.canonical.epochs, params.canonical.lr_drop_epoch, params.canonical.lr) == (20, 10, 2e-4)
    assert (params.fusion.epochs, params.fusion.lr, params.fusion.lr_decay) == (50, 2e-4, "constant")
    # The baselines: their own configurations, and networks that are built with nothing changed.
    fomm, mraa, dagan, facev2v = (getattr(params.baseline, name) for name in ("fomm", "mraa", "dagan", "facev2v"))
    assert (fomm.epochs, mraa.epochs, dagan.epochs, facev2v.epochs) == (100, 100, 150, 300)
    assert (fomm.milestones, mraa.milestones, dagan.milestones, facev2v.milestones) == ((60, 90), (60, 90), (), (180,))
    assert (fomm.batch_size, mraa.batch_size, dagan.batch_size, facev2v.batch_size) == (40, 14, 96, 32)
    assert {fomm.lr, mraa.lr, dagan.lr, facev2v.lr} == {2e-4}
    # Its AVD network's train_avd: 30 epochs of 2000 passes, batches of 256, no frames kept.
    assert (mraa.avd_epochs, mraa.avd_repeats, mraa.avd_batch_size, mraa.avd_draws) == (30, 2000, 256, 0)
    assert (mraa.avd_milestones, mraa.avd_lr, mraa.avd_random_scale) == ((20, 25), 1e-3, 0.25)
    assert (mraa.weights.avd_shift, mraa.weights.avd_affine) == (1, 1)
    assert (params.baseline.training.repeats, params.baseline.training.lr_decay) == (75, "step")
    assert {params.geometry.batch_size, params.canonical.batch_size, params.fusion.batch_size} == {5}


@pytest.mark.parametrize("name", ["fomm", "mraa", "dagan", "facev2v"])
def test_the_paper_scale_builds_the_baselines_by_default(name: str) -> None:
    import inspect

    from head3d.baselines import find

    network = getattr(check_params(scales.values("paper", ROOT)).baseline, name).network.model_dump()
    default = {key: value.default for key, value in inspect.signature(find(name)).parameters.items()}
    assert network == {key: default[key] for key in network}


def test_paper_comments_agree_with_the_paper_scale() -> None:
    """`# paper: X` beside a key of params.yaml is what scales/paper.yaml sets."""

    from ruamel.yaml import YAML

    paper, sections, checked = scales.values("paper", ROOT), [], 0
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if not (found := re.match(r"( *)(\w+):(.*)", line)):
            continue
        depth = len(found[1]) // 2
        sections[depth:] = [found[2]]
        stated = re.search(r"paper: ([\w.-]+)", found[3])
        if stated:
            value: Any = paper
            for section in sections:
                value = value[section]
            text = stated[1].rstrip(".")
            assert YAML(typ="safe", pure=True).load(text) == value, line
            checked += 1
    assert checked > 15


def test_tables_have_baselines_before_our_own(tiny: Params) -> None:
    assert tiny.contenders == ("floors", *tiny.baselines, *tiny.variants)
