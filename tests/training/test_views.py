"""Views drawn around a head show it turned, enlarged, moved and mirrored within what is said, and nothing else."""

import numpy as np
import torch

from head3d.models.head_masks import head_view
from head3d.training import views


def points() -> np.ndarray:
    """Landmarks of an upright head."""
    found = np.random.default_rng(0).uniform(-10, 10, (68, 2)) + 60
    found[36:42], found[42:48] = (55, 58), (65, 58)
    return found


def test_what_is_drawn() -> None:
    head, count = points(), 400
    drawn = views.drawn_views([head] * count, 128, 128, torch.Generator().manual_seed(0))
    base = torch.from_numpy(head_view(head, 128, 128)).float()
    whole = (torch.linalg.inv(base) @ drawn)[:, :2, :2].det().abs() > 3  # beyond what any head is shrunk by
    assert 0.06 < whole.float().mean() < 0.14
    change = torch.where(whole[:, None, None], drawn, torch.linalg.inv(base) @ drawn)
    size = change[:, :2, :2].det().abs().sqrt()
    assert 0.81 < size.min() < 0.85
    assert 1.18 < size.max() < 1.23
    assert 0.4 < (change[:, :2, :2].det() < 0).float().mean() < 0.6  # mirrored
    angle = torch.atan2(-change[:, 0, 1], change[:, 1, 1]).rad2deg()
    assert angle.abs().max() <= 12.001
    assert angle.max() > 10
    assert change[:, :2, 2].abs().amax(dim=0).max() <= 0.1
    assert torch.equal(drawn[:, 2], torch.tensor([0.0, 0, 1]).expand(count, 3))


def test_draws_are_a_function_of_the_seed() -> None:
    head = [points(), np.full((68, 2), np.nan)]
    first, second, other = (views.drawn_views(head, 128, 128, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()  # a frame without a face is shown whole
