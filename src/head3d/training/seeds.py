"""What a step of a training draws from."""

import hashlib

import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator that everything random in a step draws from."""
    mixed = hashlib.sha256(f"{seed}:{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(mixed[:7], "little"))
