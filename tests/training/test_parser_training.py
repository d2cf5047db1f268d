"""What the small parser is taught: the face parser's masks and classes of the frames that it is shown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.models.parsing import HEAD_CLASSES, head_masks, load_parser
from head3d.models.small_parser import head_logits
from head3d.training.parser import parser_losses, teacher_probabilities


def test_the_classes_are_those_of_the_face_parser() -> None:
    """Where the face parser sees a head in a whole frame, the head's classes together are taught as more likely."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    classes = teacher_probabilities(load_parser(), images, 384, 48)  # the face parser's own places
    assert classes.shape == (2, 19, 48, 48)
    assert torch.allclose(classes.sum(dim=1), torch.ones(2, 48, 48), atol=1e-5)
    n = len(HEAD_CLASSES)
    best = classes[:, :n].amax(dim=1) > classes[:, n:].amax(dim=1)
    whole = np.full((2, 68, 2), np.nan)  # no face known: the whole frame is shown
    wanted = torch.from_numpy(head_masks(frames, 384, "cpu", precision="float32", landmarks=whole)) >= 128
    same = F.interpolate(best[:, None].float(), 128, mode="bilinear", align_corners=True)[:, 0] > 0.5
    assert bool(best.any()), "else nothing is compared"
    assert float((same == wanted).float().mean()) > 0.97  # holes are filled, and 48 places are not 384 pixels


def test_coarser_classes_keep_their_place() -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    fine, coarse = (teacher_probabilities(load_parser(), images, 384, at) for at in (48, 12))
    assert float((F.avg_pool2d(fine, 4) - coarse).abs().mean()) < 0.02


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
