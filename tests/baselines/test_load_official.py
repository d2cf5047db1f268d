"""Official state dicts: what is taken, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from fill import official_states
from torch import Tensor

from head3d.baselines import NAMES, build
from head3d.baselines.method import Method
from head3d.baselines.official import from_official, to_official
from head3d.errors import UserError

SMALL = {"width": 4, "most": 8, "residuals": 1, "detector_width": 2, "motion_width": 2}
LEVELS = {"detector_levels": 2, "motion_levels": 2, "detector_most": 8, "motion_most": 8}


@pytest.fixture
def method() -> Method:
    return build("fomm", 32, **SMALL, **LEVELS)


@pytest.fixture
def mraa() -> Method:
    return build("mraa", 32, background_width=2, background_most=8, **SMALL, **LEVELS)


def test_tables_go_both_ways() -> None:
    table = (("a.b#", "c.#.d"), ("r#.s#", "r.#.s.#"), ("x_#", "x"[:1] + ".#"))
    names = ["a.b12.weight", "net.a.b1.bias", "r3.s44.t", "q.x_7", "aa.b1.weight", "a.b1c.weight"]
    ours = ["c.12.d.weight", "net.c.1.d.bias", "r.3.s.44.t", "q.x.7", "aa.b1.weight", "a.b1c.weight"]
    assert from_official(names, table) == ours
    assert to_official(ours, table) == names


def test_all_is_taken(method: Method) -> None:
    states = official_states(method)
    assert method.load_official(states) is method
    ours = method.state_dict()
    for network, state in states.items():
        for name, ours_name in zip(state, method.from_official(f"{network}.{n}" for n in state), strict=True):
            assert torch.equal(ours[ours_name], state[name]), name


def test_prefixes_and_what_is_no_tensor(method: Method) -> None:
    states = official_states(method)
    wrapped = {f"module.{name}": value for name, value in states["generator"].items()} | {"height": 192}
    extra = {"optimizer_generator": {"state": {}}, "epoch": 99, "discriminator": {"x": torch.zeros(1)}}
    method.load_official({**states, "generator": wrapped, **extra})
    assert torch.equal(method.state_dict()["generator.final.bias"], states["generator"]["final.bias"])


def test_fixed_kernels_may_be_missing_but_not_wrong(method: Method) -> None:
    states = official_states(method)
    kernel = states["kp_detector"].pop("down.weight")
    method.load_official(states)
    states["kp_detector"]["down.weight"] = kernel + 0.01
    with pytest.raises(UserError, match=r"kp_detector\.down\.weight is not the Gaussian"):
        method.load_official(states)


def test_what_is_wrong_is_named_and_nothing_changes(method: Method) -> None:
    before = {name: value.clone() for name, value in method.state_dict().items()}
    states = official_states(method)
    generator = states["generator"]
    for name in [n for n in generator if n.startswith("bottleneck.r0.conv")]:
        del generator[name]
    generator["src_first.conv.weight"] = torch.zeros(3)
    generator["final.weight"] = torch.zeros(3, 64, 7, 7)
    with pytest.raises(UserError) as caught:
        method.load_official(states, "vox.pth.tar")
    message = str(caught.value)
    assert message.startswith(
        f"vox.pth.tar: of {len(before)} tensors 4 missing (generator.bottleneck.r0.conv1.weight, "
    )
    assert "conv2.weight, ...), 1 left over (generator.src_first.conv.weight)" in message
    assert "1 of another shape (generator.final.weight: (3, 64, 7, 7) instead of (3, 4, 7, 7))" in message
    assert "\n" not in message
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_missing_networks_are_named(method: Method) -> None:
    with pytest.raises(UserError, match="fomm weights: lacks the networks generator, kp_detector, has first, final"):
        method.load_official({"first": torch.zeros(1), "final": torch.zeros(1)})


def test_weights_of_another_method_are_refused(method: Method, mraa: Method) -> None:
    with pytest.raises(UserError, match="lacks the networks region_predictor, bg_predictor, has generator"):
        mraa.load_official(official_states(method))


def test_avd_may_be_missing(mraa: Method) -> None:
    states = official_states(mraa)
    before = mraa.state_dict()["avd_network.decoder.0.weight"].clone()
    del states["avd_network"]
    mraa.load_official(states)
    assert torch.equal(mraa.state_dict()["avd_network.decoder.0.weight"], before)
    assert mraa.lacks == ("avd_network",) and mraa.motion_across() == "relative"  # not by a network that knows nothing
    mraa.load_official(official_states(mraa))
    assert mraa.lacks == () and mraa.motion_across() == "avd"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda value: value.fill_(torch.nan), "1 tensors hold values that are no numbers, generator.final.bias"),
        (lambda value: value.fill_(-torch.inf), "1 tensors hold values that are no numbers, generator.final.bias"),
        (lambda value: value.to(torch.int8), "final.bias is a tensor of torch.int8"),
        (lambda value: value.to(torch.complex64), "final.bias is a tensor of torch.complex64"),
        (lambda value: value.to_sparse(), "torch.sparse_coo"),
        (lambda value: value.to("meta"), "on meta; allowed: dense ones"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(method: Method, spoil: Callable[[Tensor], Tensor], words: str) -> None:
    states = official_states(method)
    states["generator"]["final.bias"] = spoil(states["generator"]["final.bias"].clone())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(UserError, match=re.escape(words)):
        method.load_official(states)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_halves_are_taken_and_doubles_refused(method: Method) -> None:
    states = official_states(method)
    states["generator"]["final.bias"] = states["generator"]["final.bias"].half()
    method.load_official(states)
    states["generator"]["module.final.bias"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"generator: holds both final\.bias and module\.final\.bias"):
        method.load_official(states)


def test_methods_are_found_by_name() -> None:
    assert {"dagan", "facev2v", "fomm", "mraa"} <= set(NAMES)
    with pytest.raises(UserError, match=f"no baseline is called 'fom'; allowed: {', '.join(NAMES)}"):
        build("fom")
    assert not build("fomm", 32, **SMALL, **LEVELS).training
