"""L1, PSNR, SSIM, AKD, MKR and AED on cases with known answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from head3d.evaluation import against_truth as measured
from head3d.evaluation import videos
from head3d.evaluation.observe import Observed
from head3d.geometry import pose_from_euler


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames and the same with noise, the second with more of it."""
    draw = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 20, 24, generator=draw)
    noise = torch.randn(truth.shape, generator=draw) * torch.tensor([0.05, 0.2])[:, None, None, None]
    return (truth + noise).clamp(0, 1), truth


def test_l1_and_psnr_by_hand() -> None:
    grey = torch.full((2, 3, 16, 16), 0.5)
    other = grey.clone()
    other[1, :, :8] += 0.1
    other[1, :, 8:] -= 0.1
    assert measured.l1_01(other, grey).tolist() == pytest.approx([0, 0.1])
    assert measured.psnr_db(other, grey).tolist() == pytest.approx([measured.MOST_DB, 20])  # 10 log10(1 / 0.01)


def test_ssim_of_flat_frames_is_that_of_their_means() -> None:
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.8)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert float(measured.ssim(a, b)) == pytest.approx(expected, abs=1e-4)
    assert float(measured.ssim(a, a)) == pytest.approx(1)


def test_ssim_by_another_way(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    """By scipy's Gaussian filter, whose kernel is cut at 3.5 standard deviations: 5 pixels, as the window's."""
    found = measured.ssim(*pictures)
    for frame, (made, true) in enumerate(zip(*(one.double().numpy() for one in pictures), strict=True)):

        def window(x: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(x, (0, 1.5, 1.5), truncate=3.5)[:, 5:-5, 5:-5]

        a, b = window(made), window(true)
        across = window(made * true) - a * b
        spread = window(made**2) - a**2 + window(true**2) - b**2
        value = (2 * a * b + 1e-4) * (2 * across + 9e-4) / ((a**2 + b**2 + 1e-4) * (spread + 9e-4))
        assert float(found[frame]) == pytest.approx(value.mean(), abs=1e-5)
    assert found[0] > found[1] + 0.1
    assert torch.allclose(found, measured.ssim(*reversed(pictures)))
    assert torch.allclose(found[1:], measured.ssim(*(one[1:] for one in pictures)))  # frames don't mix


def seen(landmarks: np.ndarray, identity: np.ndarray) -> Observed:
    zero = torch.zeros(len(landmarks))
    return Observed(landmarks, identity, pose_from_euler(zero, zero, zero), landmarks)


def test_faces_by_hand() -> None:
    rng = np.random.default_rng(0)
    points, units = rng.uniform(0, 100, (5, 68, 2)), np.tile(np.eye(1, 8), (5, 1))
    moved, turned = points + np.array((3, 4)), np.roll(units, 1, axis=1)
    moved[3], turned[3] = np.nan, np.nan  # a face that the result has lost
    points[4], units[4] = np.nan, np.nan  # and one that it has made up
    found = measured.of_faces(seen(moved, turned), seen(points, units), (128, 128))
    assert found[measured.AKD] == pytest.approx(7)  # 3 and 4 pixels of 128, to the side and down
    assert found[measured.MKR] == pytest.approx(1 / 4)
    assert found[measured.AED] == pytest.approx(2)
    twice = measured.of_faces(seen(2 * moved, turned), seen(points, units), (256, 128))
    assert twice == pytest.approx(found)  # the size of the frames is no matter
    nobody = seen(np.full((5, 68, 2), np.nan), np.full((5, 8), np.nan))
    lost = measured.of_faces(nobody, seen(points, units), (128, 128))
    assert lost[measured.MKR] == 1 and np.isnan([lost[measured.AKD], lost[measured.AED]]).all()
    assert np.isnan(list(measured.of_faces(seen(points, units), nobody, (128, 128)).values())).all()


def test_the_written_specification_has_every_measure() -> None:
    said = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    for name in (*videos.PIXELS, *videos.FACES):
        assert f"`{name}`" in said or name.split("_")[0] in ("pitch", "roll"), name
