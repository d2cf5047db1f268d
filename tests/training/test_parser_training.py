"""What the small parser is taught: what the face parser says of the views that both are shown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.compute import Compute
from head3d.models.head_masks import FaceParser
from head3d.models.parsing import HEAD_CLASSES, load_parser
from head3d.models.small_parser import head_logits
from head3d.training.parser import parser_losses, taught


def test_what_is_taught_is_what_the_face_parser_says() -> None:
    """Of the same views in full: where it sees a head, and the head's classes together are likelier there."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8).repeat(48, 1).repeat(48, 2)
    views = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    shares, classes = taught(load_parser(), views, 192)
    assert shares.shape == (2, 1, 192, 192)
    assert classes.shape == (2, 19, 24, 24)
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
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., 2:6, 2:6] = 1
    sure = 60 * masks - 30
    scores = torch.randn(1, 19, 2, 2, generator=torch.Generator().manual_seed(0))
    found = parser_losses(sure, masks, scores, scores.softmax(dim=1))
    assert float(found["loss"]) == pytest.approx(0, abs=1e-5)

    none = parser_losses(torch.full_like(sure, -30), masks, scores, scores.softmax(dim=1))
    assert float(none["overlap"]) == pytest.approx(1, abs=1e-5)
    assert float(none["cross_entropy"]) == pytest.approx(30 * 16 / 64, rel=1e-4)

    flat = torch.full((1, 19, 2, 2), 1 / 19)
    classes = torch.zeros(1, 19, 2, 2)
    classes[:, 3] = 1
    assert float(parser_losses(sure, masks, flat.log(), classes)["classes"]) == pytest.approx(np.log(19), rel=1e-5)
