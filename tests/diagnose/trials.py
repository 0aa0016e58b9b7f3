"""From a model, its step and somebody's gradients to a case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.capture import record
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.engine.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

# Of the largest number of a gradient: float32, a few dozen roundings.
ALLOWANCE = 4e-6


def staged(
    model: nn.Module,
    loss: Callable[[nn.Module], torch.Tensor],
    claims: Mapping[str, Any],
) -> Case:
    """Record a step of a model and set claims beside its gradients."""
    with record(model) as recorder:
        loss(model).backward()  # type: ignore[no-untyped-call]
    tape = recorder.tape
    replayed = replay(tape)
    arriving = {
        leaf.name: np.array(g)
        for node, leaf in tape.leaves()
        if (g := replayed.gradient(0, node.id)) is not None
    }
    exhibits = {}
    largest = max(float(np.max(np.abs(g))) for g in arriving.values())
    for name, _ in model.named_parameters():
        if name not in arriving:
            continue
        g, claim = arriving[name], np.asarray(claims[name], np.float64)
        # A gradient that is zero but for rounding has the rounding of what was summed up.
        allowed = ALLOWANCE * max(float(np.max(np.abs(g))), 0.1 * largest)
        gap = np.abs(claim - g) if claim.shape == g.shape else np.array(np.inf)
        wrong = bool(np.any(~(gap <= allowed)))
        exhibits[name] = Exhibit(name, g, claim, allowed, wrong)
    return Case(exhibits, tape, replayed)
