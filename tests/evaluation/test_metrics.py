"""Metrics: LPIPS on its author's own examples, squared error by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from head3d.evaluation.metrics import Lpips, mse_01

EXAMPLES = Path(__file__).parent / "lpips_examples"


def picture(name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(EXAMPLES / name).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def alex() -> Lpips:
    return Lpips("alex")


def test_lpips_of_the_authors_examples(alex: Lpips) -> None:
    reference = picture("ex_ref.png")
    assert float(alex(reference, picture("ex_p0.png"))) == pytest.approx(0.722, abs=5e-4)
    assert float(alex(reference, picture("ex_p1.png"))) == pytest.approx(0.138, abs=5e-4)


def test_cached_features_give_what_the_package_gives(alex: Lpips) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.rand(4, 3, 64, 64, generator=draw), torch.rand(4, 3, 64, 64, generator=draw)
    with torch.inference_mode():
        package = alex.metric(2 * a - 1, 2 * b - 1).flatten()
    assert torch.allclose(alex(a, b), package, atol=1e-6)


def test_lpips_of_a_frame_with_itself_is_zero(alex: Lpips) -> None:
    frame = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert float(alex(frame, frame)) == 0


def test_squared_error_by_hand() -> None:
    a = torch.zeros(2, 3, 2, 2)
    b = a.clone()
    b[0, 0, 0, 0] = 0.6
    assert mse_01(a, b).tolist() == pytest.approx([0.36 / 12, 0.0])
