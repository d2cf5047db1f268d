"""The small parser: it begins as the face parser's trunk does, and its masks are clean."""

import pytest
import torch
import torch.nn.functional as F

from head3d.compute import Compute
from head3d.models.blocks import imagenet
from head3d.models.parsing import HEAD_CLASSES, load_parser
from head3d.models.small_parser import SmallParser, soft_iou


@pytest.fixture
def parser() -> SmallParser:
    torch.manual_seed(0)
    return SmallParser(64, 8)


def test_it_begins_as_the_face_parser(parser: SmallParser) -> None:
    """Before it learns anything, its masks are those of the face parser that sees the crop as it is."""
    teacher = load_parser()
    parser.init_from_teacher(teacher)
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = teacher(imagenet(frames))
        n = len(HEAD_CLASSES)
        share = scores.softmax(dim=1)[:, :n].sum(dim=1, keepdim=True)
        wanted = F.interpolate(share.logit(), (64, 64), mode="bilinear")
        _, found = parser.eval()(frames)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert all(p.requires_grad for p in parser.parameters()), "what it took over learns too"


def test_ready_it_says_the_same(parser: SmallParser) -> None:
    frames = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        parser.train()(frames)  # gives the batch normalisation something to fold
    with torch.inference_mode():
        _, plain = parser.eval()(frames)
        _, fast = parser.prepare_for_inference(Compute.resolve("cpu", "float32"))(frames)
    assert torch.allclose(plain, fast, atol=1e-4 * float(plain.abs().max()))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in parser.modules())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (50, 70)])
def test_masks_of_any_size(parser: SmallParser, height: int, width: int) -> None:
    masks = parser.eval().masks(torch.rand(2, 3, height, width))
    assert masks.shape == (2, 1, height, width)
    assert 0 <= float(masks.min()) <= float(masks.max()) <= 1


def test_a_mask_is_one_piece_without_veil_and_holes(parser: SmallParser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares under a tenth are no head, nor is what lies apart; a head with a small hole has none."""
    share = torch.full((1, 1, 32, 32), 0.08)
    share[:, :, 8:24, 8:24] = 0.95
    share[:, :, 14:17, 14:17] = 0.05
    share[:, :, 24, 8:24] = 0.5
    share[:, :, 28:31, 2:5] = 0.95  # a piece of something else
    monkeypatch.setattr(parser, "forward", lambda frames: (None, share.logit()))
    (mask,) = parser.masks(torch.zeros(1, 3, 32, 32))[0]
    wanted = torch.zeros(32, 32)
    wanted[8:24, 8:24] = 1
    wanted[24, 8:24] = 0.5
    assert torch.allclose(mask, wanted, atol=1 / 255)


def test_no_head_at_all(parser: SmallParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        parser, "forward", lambda frames: (None, torch.full((2, 1, 32, 32), -0.5))
    )  # in doubt everywhere
    assert float(parser.masks(torch.zeros(2, 3, 32, 32)).max()) == 0


def test_overlap() -> None:
    a, b = torch.zeros(2, 4, 1, 10, 10)
    a[0, :, 0:4, 0:4] = 1
    b[0, :, 0:4, 2:6] = 1  # half of each
    a[1, :, :5] = 1
    b[1, :, :5] = 1
    a[2] = 0.5
    b[2] = 1.0
    assert soft_iou(a, b).tolist() == pytest.approx([8 / 24, 1, 0.5, 1])
