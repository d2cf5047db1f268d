"""Captions say what the numbers above them come from: whatever the demo changes of the paper is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from head3d import scales
from head3d.params import Params, check_params
from head3d.report import captions

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = (  # what captions say in other places, and what comes with a change that is named
    r"scale|shards|test_sets|variants|data\.sources|data\.\w+\.(videos|metadata)",  # what is run, on which data
    r"evaluate\.pairs",  # counted in the captions
    r"parser\.steps",  # in the caption of its own table
    r"baseline\.fomm\.discriminator_width",  # its weight of a GAN is 0
    r"baseline\.\w+\.network\.(motion|background|head)_\w+|baseline\.facev2v\.network\.(depth|volume|detector_lifted)",
    r"baseline\.dagan\.(depth_lr|network\.depth_layers)",  # "taught by F_D" is said at any scale
    r"baseline\.mraa\.avd_\w+",  # under the table across people
    r"animate\.reference",  # in a row of its own
    r"train\.(checkpoint|log)_every",  # no result depends on them
)


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its key, dots between the levels."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def with_value(params: Params, key: str, value: Any) -> Params:
    """The parameters with one value changed, whether or not it fits the others."""
    values = params.model_dump()
    *above, last = key.split(".")
    section = values
    for name in above:
        section = section[name]
    section[last] = value
    return Params.model_validate(values)


def said(params: Params) -> tuple[str, str]:
    return captions.scale_sentence(params), captions.baselines_sentence(params)


PAPER, DEMO = (check_params(scales.values(name, ROOT)) for name in ("paper", "demo"))
PAPERS = dict(leaves(PAPER.model_dump()))
CHANGED = [(key, value) for key, value in leaves(DEMO.model_dump()) if value != PAPERS[key]]
NAMED = [(key, value) for key, value in CHANGED if not any(re.fullmatch(one, key) for one in ELSEWHERE)]


@pytest.mark.parametrize(("key", "value"), NAMED, ids=[key for key, _ in NAMED])
def test_each_change_of_the_demo_is_named(key: str, value: Any) -> None:
    assert said(with_value(PAPER, key, value)) != said(PAPER)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.clip_length", 20),
        ("model.references", 3),
        ("data.fps", 12.5),
        ("camera.fov_deg", 12.0),
        ("model.depth.range_m", 0.2),
        ("model.fusion.blocks", 2),
        ("canonical.batch_size", 8),
        ("fusion.equivariance", 0.0),
        ("fusion.perceptual_weight", 1.0),
    ],
)
def test_a_change_that_only_a_user_makes_is_named(key: str, value: Any) -> None:
    assert said(with_value(PAPER, key, value))[0] != said(PAPER)[0]


ALWAYS = (
    "stage 2 renders its canonical head with the depth of the mean one",
    "depth counts in units of its range in the smoothness loss",
    "F_P's translation starts from where and how large the head mask is",
    "the ConvLSTM is told which pixels a reference sees",
    "residual blocks of stage 3 on the bottleneck path only",
    "the perceptual loss's pyramid averages areas",
    "the mean canonical head averages only the references that see a pixel",
    "the canonical head is black where the mean one is",
    "pre-activation residual blocks, nearest-neighbour upsampling in the decoders",
)


def test_the_papers_own_values_are_no_deviation() -> None:
    params = with_value(with_value(PAPER, "augment.flip", False), "augment.color", 0.0)
    params = with_value(with_value(params, "geometry.warm_steps", 0), "geometry.warm_start", "none")
    assert sorted(captions.deviations(params)) == sorted([*ALWAYS, "stage 1 started from nothing"])


def test_what_the_paper_does_not_name_is_a_deviation_at_its_own_scale() -> None:
    assert set(captions.deviations(PAPER)) - set(ALWAYS) == {
        "clips mirrored at random",
        "colour jitter of clips (0.1)",
        "350 steps on landmark poses and a smooth generic head for what official weights lack",
        "batch statistics of F_D and F_P held in stage 1",
    }


def test_clipping_is_said_of_the_named_stages_only() -> None:
    assert "gradients clipped to norms of 1 in stage 1, 1 in stage 2" in captions.deviations(DEMO, (1, 2))
    assert not any("clipped" in text and "stage 3" in text for text in captions.deviations(DEMO, (1, 2)))
    assert not any("clipped" in text for text in captions.deviations(PAPER))


def test_nothing_is_said_to_be_taught_or_held_that_is_not() -> None:
    nothing_before = with_value(DEMO, "geometry.warm_steps", 0)
    assert not any("landmark poses and" in text or "held in" in text for text in captions.deviations(nothing_before))
    assert "stage 1 started from a face parser's ResNet" in captions.deviations(nothing_before)
    untaught = with_value(DEMO, "matching.steps", 0)
    assert "Φ starts from an explicit matching, not taught beforehand" in captions.deviations(untaught)
    assert "matcher" in captions.baselines_sentence(DEMO) and "matcher" not in captions.baselines_sentence(untaught)
    for key, value in (("matching.pairs", 0), ("matching.pair_weight", 0.0)):
        assert "on landmarks of" in said(DEMO)[0] and "on landmarks of" not in said(with_value(DEMO, key, value))[0]


@pytest.mark.parametrize(
    ("key", "value"), [("avd_epochs", 3), ("avd_repeats", 100), ("avd_batch_size", 128), ("avd_draws", 10)]
)
def test_less_of_any_kind_is_less_for_mraas_avd(key: str, value: int) -> None:
    assert not PAPER.baseline.mraa.avd_is_short
    assert with_value(PAPER, f"baseline.mraa.{key}", value).baseline.mraa.avd_is_short


def test_what_the_numbers_come_from_is_said_as_far_as_it_is_known() -> None:
    assert captions.origin_sentences({}) == captions.origin_sentences({"pretrained": "none"}) == ""
    found = captions.origin_sentences({"pretrained": "F_P: HopeNet; F_D: ImageNet", "data": "0123456789abcdef" * 4})
    assert found == (
        " Pretrained in stage 1: F_P: HopeNet; F_D: ImageNet."
        " All clips together: SHA-256 0123456789abcdef (first 16 digits)."
    )


def test_the_engines_know_what_captions_read() -> None:
    """A number of params.yaml that a caption says must run the tables and the page again."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    counts = {"mini-seen": 12, "mini-unseen": 4}

    def everything(params: Params) -> list[str]:
        tables_ = [captions.table_caption(params, counts, which) for which in ("table1", "table3")]
        others = [captions.cross_caption(params, counts), captions.parser(params), captions.scale_pointer(params, "")]
        return tables_ + others

    found, unread = everything(DEMO), []
    for key, value in leaves(PAPER.model_dump()):
        if everything(with_value(DEMO, key, value)) == found:
            continue
        for stage in ("tables", "report"):
            if not any(key == one or key.startswith(f"{one}.") for one in stages[stage]["params"]):
                unread.append((stage, key))
    assert not unread


def test_how_people_move_each_other_is_said() -> None:
    said = captions.cross_caption(DEMO, {"mini-seen": 12})
    assert "AVD), whose network was trained for less" in said
    assert "(AVD). " in captions.cross_caption(with_value(PAPER, "animate.motion", "relative"), {"mini-seen": 12})
    assert "AVD" not in captions.cross_caption(with_value(DEMO, "animate.motion", "absolute"), {"mini-seen": 12})


def test_what_rows_of_table_3_are_is_said() -> None:
    assert "nearest in pose" in captions.table_caption(DEMO, {"mini-seen": 19}, "table3")
    lost = "also lacks what follows from it: the rigid flow that Φ starts from and the masked attention."
    assert lost in captions.table_caption(DEMO, {"mini-seen": 19}, "table3")
    assert "also lacks" not in captions.table_caption(PAPER, {"voxceleb-unseen": 400}, "table3")
    assert "nearest in pose" not in captions.table_caption(DEMO, {"mini-seen": 19}, "table1")
    assert "nearest in pose" not in captions.table_caption(PAPER, {"voxceleb-unseen": 400}, "table3")


@pytest.mark.parametrize(
    ("key", "value"), [("baseline.fomm.lr", 2e-4), ("baseline.training.lr_decay", "step"), ("fusion.epochs", 1000)]
)
def test_budgets_are_said_to_be_alike_only_where_they_are(key: str, value: Any) -> None:
    assert "every baseline learns from" in captions.baselines_sentence(DEMO)
    assert "Budgets differ" in captions.baselines_sentence(with_value(DEMO, key, value))


def test_the_papers_scale_has_the_authors_numbers() -> None:
    """Every size and weight of a baseline is known, or a table could not say that one was changed."""
    for name in ("dagan", "facev2v", "fomm", "mraa"):
        settings = getattr(PAPER.baseline, name)
        known = dict(leaves(settings.model_dump()))
        inner = {key for key in known if key.startswith(("network.", "weights."))}
        gan = {"discriminator_width"} & set(known) if known.get("weights.generator_gan") else set()
        assert settings.official == {key: known[key] for key in (*inner, *gan, "epochs", "lr")}, name


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("baseline.fomm.weights.perceptual", 0.0, "FOMM's weight of perceptual 0, not 10"),
        ("baseline.mraa.weights.avd_shift", 2.0, "MRAA's weight of avd_shift 2, not 1"),
        ("baseline.dagan.network.motion_levels", 4, "narrower networks"),
        ("baseline.facev2v.network.keypoints", 20, "networks of other sizes"),
        ("baseline.facev2v.epochs", 10, "other epochs or learning rates"),
        ("baseline.fomm.lr", 1e-4, "other epochs or learning rates"),
    ],
)
def test_a_change_of_a_baseline_is_named(key: str, value: Any, words: str) -> None:
    assert words in captions.baselines_sentence(with_value(PAPER, key, value))
    assert words not in captions.baselines_sentence(PAPER)


@pytest.mark.parametrize(("key", "value"), [("parse.input_size", 768), ("model.fusion.flow_scale", 0.125)])
def test_more_or_less_than_the_paper_has_is_named(key: str, value: Any) -> None:
    assert f"{value}" in said(with_value(PAPER, key, value))[0]


def test_networks_of_both_kinds_are_of_other_sizes() -> None:
    less = with_value(PAPER, "baseline.dagan.network.motion_levels", 4)
    both = with_value(less, "baseline.facev2v.network.keypoints", 20)
    assert "narrower networks" in captions.baselines_sentence(less)
    assert "networks of other sizes" in captions.baselines_sentence(both)


@pytest.mark.parametrize(("least", "few"), [(9, True), (10, False)])
def test_the_smallest_set_makes_its_interval_a_hint(least: int, few: bool) -> None:
    counts = {"mini-seen": 40, "mini-unseen": least}
    assert ("fewer than 10 clips is a hint" in captions.table_caption(DEMO, counts, "table1")) is few
    assert ("fewer than 10 pairs is a hint" in captions.cross_caption(DEMO, counts)) is few


def test_who_moves_without_the_subjects_scale_is_said() -> None:
    """MRAA moves in its own way, which is said of it alone."""
    _, _, after = captions.cross_caption(DEMO, {"mini-seen": 12}).partition("not scaled to the subject by ")
    assert sorted(after.partition(". ")[0].split(", ")) == ["DaGAN", "FOMM", "FaceV2V"]


def test_intervals_over_clips_are_called_narrow_at_any_scale() -> None:
    """VoxCeleb's test set at the paper's scale has 400 clips of some 45 people."""
    for params in (DEMO, PAPER):
        assert "of one video or person resemble each other" in captions.table_caption(params, {"a": 400}, "table1")


def test_as_many_but_other_scales_are_named() -> None:
    assert "at scales 1, 0.5, 0.25, 0.2, not 1, 0.5, 0.25, 0.125" in captions.baselines_sentence(
        with_value(PAPER, "baseline.training.perceptual_scales", (1.0, 0.5, 0.25, 0.2))
    )


def test_without_baselines_notes_stand_under_their_own_table() -> None:
    alone = with_value(DEMO, "baselines", ())
    assert "nearest in pose" not in captions.table_caption(alone, {"mini-seen": 19}, "table1")
    assert "nearest in pose" in captions.table_caption(alone, {"mini-seen": 19}, "table3")
