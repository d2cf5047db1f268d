"""Made-up motions and the matcher's loss, against closed form."""

import pytest
import torch
from torch import Tensor, nn

from head3d.training.matching import matching_losses, random_motion
from head3d.training.seeds import step_generator


class Told(nn.Module):
    """A matcher whose three levels say what it is told."""

    def __init__(self, flow: Tensor) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, source: Tensor, target: Tensor) -> list[Tensor]:
        return [self.flow] * 3


def test_loss_is_zero_for_the_truth_and_the_distance_else() -> None:
    truth = torch.tensor((3.0, -2.0))[None, :, None, None].expand(2, -1, 64, 64)
    frames = torch.zeros(2, 3, 64, 64)
    assert float(matching_losses(Told(truth), frames, truth, frames)["loss"]) == pytest.approx(0, abs=1e-4)  # type: ignore[arg-type]
    off = matching_losses(Told(truth + torch.tensor((3.0, 4.0))[:, None, None]), frames, truth, frames)  # type: ignore[arg-type]
    assert float(off["endpoint_error"]) == pytest.approx(5, abs=1e-3)
    assert float(off["loss"]) == pytest.approx(5 * 1.75, abs=1e-2)


def test_what_leads_out_of_the_image_does_not_count() -> None:
    truth = torch.zeros(1, 2, 64, 64)
    truth[..., 32:] = 1000.0
    frames = torch.zeros(1, 3, 64, 64)
    told = Told(torch.zeros(1, 2, 64, 64))
    assert float(matching_losses(told, frames, truth, frames)["endpoint_error"]) < 1e-5  # type: ignore[arg-type]


def test_heads_move_otherwise_than_what_is_around_them() -> None:
    masks = torch.zeros(64, 1, 64, 64)
    masks[..., 16:48, 16:48] = 1
    flow = random_motion(masks, step_generator(0, 0))
    assert tuple(flow.shape) == (64, 2, 64, 64)
    assert torch.equal(flow, random_motion(masks, step_generator(0, 0)))
    step = (flow[..., 32, 20] - flow[..., 32, 12]).norm(dim=1).mean()  # across the rim
    assert float(step) > 1.5 * float((flow[..., 32, 8] - flow[..., 32, 0]).norm(dim=1).mean())
    assert 0.5 < float(flow.norm(dim=1).mean()) < 4  # pixels


def test_a_coarser_level_counts_less() -> None:
    truth, frames = torch.zeros(1, 2, 64, 64), torch.zeros(1, 3, 64, 64)

    def off_at_the_coarsest(source: Tensor, target: Tensor) -> list[Tensor]:
        off = torch.tensor((3.0, 4.0))[None, :, None, None]
        return [off.expand(1, 2, 64, 64), *[torch.zeros(1, 2, 64, 64)] * 2]

    losses = matching_losses(off_at_the_coarsest, frames, truth, frames)  # type: ignore[arg-type]
    assert float(losses["loss"]) == pytest.approx(0.25 * 5, abs=1e-3)
