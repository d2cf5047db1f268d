"""The face parser with its real weights."""

import numpy as np
import torch

from head3d.assets import cache as assets
from head3d.models import parsing
from head3d.models.parsing import BiSeNet


def test_official_weights_load_strictly() -> None:
    weights = torch.load(assets.fetch("face-parsing"), map_location="cpu", weights_only=True)
    assert len(weights) == 191
    BiSeNet().load_state_dict(weights, strict=True)


def test_folded_network_gives_the_same_scores(people: np.ndarray) -> None:
    plain = BiSeNet()
    plain.load_state_dict(torch.load(assets.fetch("face-parsing"), map_location="cpu", weights_only=True))
    x = torch.from_numpy(people[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        slow, fast = plain.eval()(x), parsing.load_parser("cpu", torch.float32)(x)
    head = list(parsing.HEAD_CLASSES)
    order = head + [index for index in range(19) if index not in head]
    assert torch.allclose(slow[:, order], fast, atol=1e-3 * float(slow.abs().max()))
    assert slow.shape == (1, 19, 16, 16)


def test_head_is_the_best_class_at_full_size() -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 19, 6, 6)  # the head's classes come first
    large = torch.nn.functional.interpolate(scores, (48, 48), mode="bilinear", align_corners=True)
    wanted = large.argmax(1, keepdim=True) < len(parsing.HEAD_CLASSES)
    assert torch.equal(parsing.is_head(scores, 48), wanted.float())
