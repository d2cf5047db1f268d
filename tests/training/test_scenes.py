"""Heads in other scenes: the head stays to the pixel, what is behind it comes from elsewhere and shows no head."""

import pytest
import torch
from torch import Tensor

from head3d.training.scenes import other_backgrounds, recolored_heads, without_heads

SIZE = 64


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames() -> Tensor:
    """Four frames of random pixels; heads red, in the middle."""
    frames = torch.rand(4, 3, SIZE, SIZE, generator=draw()) * torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1)
    red = torch.tensor([0.6, 0.0, 0.0]).view(1, 3, 1, 1)
    return torch.where(heads() > 0, red, frames)


def heads() -> Tensor:
    masks = torch.zeros(4, 1, SIZE, SIZE)
    masks[:, :, 16:40, 20:44] = 1
    return masks


def test_a_painted_over_head_has_the_colours_around_it(frames: Tensor) -> None:
    painted = without_heads(frames, heads())
    assert float(painted[:, 0].max()) == 0, "red is the head's alone"
    far = torch.ones(SIZE, SIZE, dtype=torch.bool)
    far[16 - 4 : 40 + 4, 20 - 4 : 44 + 4] = False  # 0.06 of the side
    assert torch.equal(painted[..., far], frames[..., far]), "what is no head stays"
    inside = painted[:, 1:, 24:32, 28:36]
    assert 0.35 < float(inside.mean()) < 0.65, "the mean of what is around"
    assert float(inside.std()) < 0.1, "and smooth"


def test_one_colour_behind_a_head_goes_on_behind_it() -> None:
    color = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1)
    frames = torch.where(heads() > 0, torch.ones(()), color.expand(4, 3, SIZE, SIZE))
    assert torch.allclose(without_heads(frames, heads()), color.expand(4, 3, SIZE, SIZE), atol=1e-5)


def test_a_picture_that_is_all_head_is_left_black() -> None:
    assert float(without_heads(torch.ones(1, 3, 16, 16), torch.ones(1, 1, 16, 16)).abs().max()) == 0


@pytest.mark.parametrize("seed", range(5))
def test_another_background_leaves_the_head(frames: Tensor, seed: int) -> None:
    masks = heads()
    made = other_backgrounds(frames, masks, 1.0, draw(seed))
    assert made.min() >= 0
    assert made.max() <= 1
    head = masks.expand_as(made) == 1
    assert torch.allclose(made[head], frames[head], atol=1e-6)
    above = (made - frames)[:, :, :16].abs().mean(dim=(1, 2, 3))
    assert float(above.min()) > 0.05, "what is above the head is new in every frame"


def test_shoulders_mostly_stay(frames: Tensor) -> None:
    kept = []
    for seed in range(50):
        made = other_backgrounds(frames, heads(), 1.0, draw(seed))
        kept += ((made - frames)[:, :, -2:].abs().amax(dim=(1, 2, 3)) < 0.05).tolist()
    # begin is at most 0.3 of the height below the head's lowest row, 39: two rows above the frame's end in 9 of 10
    assert 0.55 < sum(kept) / len(kept) < 0.8


def test_a_share_of_the_frames(frames: Tensor) -> None:
    assert torch.equal(other_backgrounds(frames, heads(), 0.0, draw()), frames)
    changed = [
        bool((a != b).any())
        for seed in range(50)
        for a, b in zip(other_backgrounds(frames, heads(), 0.5, draw(seed)), frames, strict=True)
    ]
    assert 0.4 < sum(changed) / len(changed) < 0.6


def test_every_other_head_is_recoloured_and_nothing_else(frames: Tensor) -> None:
    masks, changed = heads(), []
    around = masks.expand_as(frames) == 0
    for seed in range(50):
        made = recolored_heads(frames, masks, 0.4, draw(seed))
        assert torch.equal(made[around], frames[around])
        changed += ((made - frames).abs().amax(dim=(1, 2, 3)) > 0.01).tolist()
    assert 0.35 < sum(changed) / len(changed) < 0.65
    assert torch.equal(recolored_heads(frames, masks, 0.0, draw()), frames)


def test_the_same_draw_gives_the_same_scenes(frames: Tensor) -> None:
    assert torch.equal(
        other_backgrounds(frames, heads(), 0.5, draw(3)), other_backgrounds(frames, heads(), 0.5, draw(3))
    )
