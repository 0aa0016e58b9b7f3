"""Small real architectures, each with a training step: what the witness must judge in full."""

from __future__ import annotations

import torch

# Each family enters its architectures into the table.
from architectures import (
    classics,
    factors,
    generative,
    hugging,
    images,
    penalties,
    sequences,
    spectral,
    structured,
    unusual,
)
from architectures.workload import ZOO as ZOO
from architectures.workload import Workload

FAMILIES = (
    classics,
    images,
    sequences,
    generative,
    unusual,
    penalties,
    factors,
    spectral,
    structured,
    hugging,
)


def build(name: str, seed: int = 0) -> Workload:
    """Build a workload of the zoo with random weights and data."""
    torch.manual_seed(seed)
    return ZOO[name]()
