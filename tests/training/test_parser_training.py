"""What the small parser is taught: what the face parser says of the views that both are shown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.compute import Compute
from head3d.models.head_masks import FaceParser
from head3d.models.parsing import HEAD_CLASSES, load_parser
from head3d.models.small_parser import head_logits
from head3d.training.parser import Lesson, mixed, parser_losses, taught


def test_what_is_taught_is_what_the_face_parser_says() -> None:
    """Of the same views in full: where it sees a head, and the head's classes together are likelier there."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8).repeat(48, 1).repeat(48, 2)
    views = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    shares, classes, features = taught(load_parser(), views, 192)
    assert shares.shape == (2, 1, 192, 192)
    assert classes.shape == (2, 19, 24, 24)
    assert features.shape == (2, 256, 24, 24)
    wanted = FaceParser(384, Compute.resolve("cpu", "float32")).heads(views)
    assert 0.01 < float(wanted.mean()) < 0.99, "else nothing is compared"
    assert float((F.avg_pool2d(wanted, 2) - shares).abs().mean()) < 0.02
    assert torch.allclose(classes.sum(dim=1), torch.ones(2, 24, 24), atol=1e-5)
    n = len(HEAD_CLASSES)
    best = classes[:, :n].amax(dim=1) > classes[:, n:].amax(dim=1)
    assert float((best == (F.avg_pool2d(wanted, 16)[:, 0] > 0.5)).float().mean()) > 0.9


def test_head_logits() -> None:
    """The logit of the sum of the head's probabilities."""
    scores = torch.randn(2, 19, 3, 3, generator=torch.Generator().manual_seed(0))
    share = scores.softmax(dim=1)[:, : len(HEAD_CLASSES)].sum(dim=1, keepdim=True)
    assert torch.allclose(head_logits(scores), share.logit(), atol=1e-5)


def test_losses_vanish_for_a_perfect_answer_and_count_each_fault() -> None:
    rng = torch.Generator().manual_seed(0)
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., 2:6, 2:6] = 1
    sure = 60 * masks - 30
    scores, features = torch.randn(1, 19, 2, 2, generator=rng), torch.randn(1, 256, 2, 2, generator=rng)
    lesson = Lesson(masks, scores.softmax(dim=1), features)
    found = parser_losses(sure, scores, features, lesson)
    assert float(found["loss"]) == pytest.approx(0, abs=1e-5)

    none = parser_losses(torch.full_like(sure, -30), scores, features, lesson)
    assert float(none["overlap"]) == pytest.approx(1, abs=1e-5)
    assert float(none["cross_entropy"]) == pytest.approx(30 * 16 / 64, rel=1e-4)
    assert float(none["loss"]) == pytest.approx(float(none["overlap"] + none["cross_entropy"]), rel=1e-4)

    flat = torch.full((1, 19, 2, 2), 1 / 19)
    classes = torch.zeros(1, 19, 2, 2)
    classes[:, 3] = 1
    other = lesson._replace(classes=classes)
    assert float(parser_losses(sure, flat.log(), features, other)["classes"]) == pytest.approx(np.log(19), rel=1e-5)
    assert float(parser_losses(sure, scores, 3 * features, lesson)["features"]) == pytest.approx(4, rel=1e-5)
    two = Lesson(*(torch.cat((x, x)) for x in lesson))  # each view's error counts beside its own features
    two = two._replace(features=torch.cat((features, 5 * features)))
    both = torch.cat((sure, sure)), torch.cat((scores, scores)), torch.cat((3 * features, 5 * features))
    found = parser_losses(*both, two)
    assert float(found["features"]) == pytest.approx(2, rel=1e-5)


def test_as_many_views_are_mixed_as_are_asked_for() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, other = mixed(0.5, 1000, rng)
    assert weight.shape == (1000, 1, 1, 1)
    assert sorted(other.tolist()) == list(range(1000))
    assert all(int(mixed(0.5, 4, rng)[1][0]) != 0 for _ in range(40)), "each with another one"
    shining = weight[weight < 1]
    assert 0.45 < len(shining) / 1000 < 0.55
    assert 0.2 <= shining.min() < 0.25
    assert 0.75 < shining.max() <= 0.8
    assert float(mixed(0, 10, rng)[0].min()) == 1
