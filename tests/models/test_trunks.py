"""ResNet and MobileNetV2 against torchvision's: names, random starts, answers."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models as zoo

from head3d.models.mobilenet import MobileNetV2
from head3d.models.resnet import ResNet

PAIRS = {
    "resnet18": (lambda: ResNet(18), zoo.resnet18),
    "resnet50": (lambda: ResNet(50), zoo.resnet50),
    "mobilenet": (MobileNetV2, zoo.mobilenet_v2),
    "mobilenet half": (lambda: MobileNetV2(0.5), lambda: zoo.mobilenet_v2(width_mult=0.5)),
    "mobilenet wide": (lambda: MobileNetV2(1.3), lambda: zoo.mobilenet_v2(width_mult=1.3)),
}


def seeded(build: Callable[[], nn.Module]) -> tuple[nn.Module, torch.Tensor]:
    """A network, and what the random generator gives next."""
    torch.manual_seed(7)
    return build(), torch.rand(3)


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_seed_gives_the_same_network_as_torchvision(name: str) -> None:
    (ours, after), (theirs, expected) = (seeded(build) for build in PAIRS[name])
    assert torch.equal(after, expected)
    own, other = ours.state_dict(), theirs.state_dict()
    assert list(own) == list(other)
    assert all(torch.equal(value, other[key]) for key, value in own.items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [18, 50])
def test_features_of_a_resnet(layers: int, training: bool) -> None:
    (ours, _), (net, _) = (seeded(build) for build in PAIRS[f"resnet{layers}"])
    assert isinstance(ours, ResNet) and isinstance(net, zoo.ResNet)
    ours.train(training)
    net.train(training)
    x = torch.randn(2, 3, 64, 64)
    expected = [net.relu(net.bn1(net.conv1(x)))]
    y = net.maxpool(expected[0])
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        y = layer(y)
        expected.append(y)
    found = ours.features(x)
    assert tuple(level.shape[1] for level in found) == ours.channels
    for level, wanted in zip(found, expected, strict=True):
        assert torch.equal(level, wanted)


@pytest.mark.parametrize("training", [True, False])
def test_features_of_a_mobilenet(training: bool) -> None:
    (ours, _), (theirs, _) = (seeded(build) for build in PAIRS["mobilenet half"])
    assert isinstance(ours, MobileNetV2) and isinstance(theirs, zoo.MobileNetV2)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.train(training).features(x), theirs.train(training).features(x))


def test_a_resnet_without_its_classifier() -> None:
    assert not [name for name in ResNet(18, classes=None).state_dict() if name.startswith("fc")]


def test_no_training_waits_for_torchvision() -> None:
    modules = "head3d.api, head3d.training.geometry, head3d.training.parser, head3d.baselines.dagan.training"
    code = f"import sys, {modules}; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
