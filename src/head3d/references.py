"""Which frames of a subject are its references."""

import torch


def draw_references(length: int, count: int, seed: int) -> list[int]:
    """Indices of ``count`` of a subject's ``length`` frames, drawn with the seed; the first one is s_ref."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count].tolist()
