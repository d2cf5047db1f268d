"""The small parser: it begins as the face parser, and its heads are in one piece."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from head3d.compute import Compute
from head3d.models.blocks import imagenet
from head3d.models.head_masks import FaceParser, head_masks
from head3d.models.parsing import HEAD_CLASSES, load_parser
from head3d.models.small_parser import SmallParser, soft_iou


@pytest.fixture
def parser() -> SmallParser:
    torch.manual_seed(0)
    return SmallParser(64, 8)


def test_it_begins_as_the_face_parser(parser: SmallParser) -> None:
    """Before it learns anything, it says what the face parser says."""
    teacher = load_parser()
    parser.init_from_teacher(teacher)
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = teacher(imagenet(frames))
        n = len(HEAD_CLASSES)
        share = scores.softmax(dim=1)[:, :n].sum(dim=1, keepdim=True)
        wanted = F.interpolate(share.logit(), (64, 64), mode="bilinear")
        found = parser.eval()(frames)[0]
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert all(p.requires_grad for p in parser.parameters()), "what it took over learns too"


def test_ready_it_says_the_same(parser: SmallParser) -> None:
    frames = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        parser.train()(frames)  # gives the batch normalisation something to fold
    with torch.inference_mode():
        plain = parser.eval()(frames)[0]
        fast = parser.prepare_for_inference(Compute.resolve("cpu", "float32"))(frames)[0]
    assert torch.allclose(plain, fast, atol=1e-4 * float(plain.abs().max()))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in parser.modules())


def test_a_head_is_in_one_piece(parser: SmallParser, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is likelier head than not, but for what lies apart."""
    logits = torch.full((2, 1, 64, 64), -0.1)
    logits[0, :, 8:24, 8:24] = 0.1
    logits[0, :, 28:31, 2:5] = 9  # a piece of something else
    monkeypatch.setattr(parser, "forward", lambda views: (logits, None, None))
    heads = parser.heads(torch.zeros(2, 3, 64, 64))
    wanted = torch.zeros(2, 1, 64, 64)
    wanted[0, :, 8:24, 8:24] = 1
    assert torch.equal(heads, wanted)  # the second has none at all


def test_it_stands_where_the_face_parser_does(people: np.ndarray) -> None:
    """Head masks are asked of either alike; with as many pixels, the untaught one says what the face parser says."""
    exact = Compute.resolve("cpu", "float32")
    small = SmallParser(384, 8)
    small.init_from_teacher(load_parser())
    ours, theirs = (
        head_masks(people, one) > 127 for one in (small.prepare_for_inference(exact), FaceParser(384, exact))
    )
    assert theirs.mean() > 0.2
    assert ((ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))).min() > 0.95


def test_overlap() -> None:
    a, b = torch.zeros(2, 4, 1, 10, 10)
    a[0, :, 0:4, 0:4] = 1
    b[0, :, 0:4, 2:6] = 1  # half of each
    a[1, :, :5] = 1
    b[1, :, :5] = 1
    a[2] = 0.5
    b[2] = 1.0
    assert soft_iou(a, b).tolist() == pytest.approx([8 / 24, 1, 0.5, 1])
