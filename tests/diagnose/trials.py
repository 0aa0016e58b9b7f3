"""Make a case from a model, its step and claimed gradients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.capture import record
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.engine.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

# Relative to a gradient's largest number: float32, a few dozen roundings.
ALLOWANCE = 4e-6


def staged(
    model: nn.Module,
    loss: Callable[[nn.Module], torch.Tensor],
    claims: Mapping[str, Any],
) -> Case:
    """Record a step of a model and claim its gradients."""
    with record(model) as recorder:
        loss(model).backward()  # type: ignore[no-untyped-call]
    tape = recorder.tape
    replayed = replay(tape)
    gradients = {
        leaf.name: np.array(g)
        for node, leaf in tape.leaves()
        if (g := replayed.gradient(0, node.id)) is not None
    }
    exhibits = {}
    largest = max(float(np.max(np.abs(g))) for g in gradients.values())
    for name, _ in model.named_parameters():
        if name not in gradients:
            continue
        g, claim = gradients[name], np.asarray(claims[name], np.float64)
        # A gradient that is zero within rounding has the rounding errors of its terms.
        allowance = ALLOWANCE * max(float(np.max(np.abs(g))), 0.1 * largest)
        gap = np.abs(claim - g) if claim.shape == g.shape else np.array(np.inf)
        wrong = bool(np.any(~(gap <= allowance)))
        exhibits[name] = Exhibit(name, g, claim, allowance, wrong)
    return Case(exhibits, tape, replayed)


def without_figures(text: str) -> str:
    """Replace what differs between machines and versions: decimals, lines, numbers of calls."""
    return re.sub(
        r"\d+\.\d+(e[-+]\d+)?|\d+e[-+]\d+|(?<=py:)\d+|(?<=call )\d+|(?<=calls )\d+ to \d+",
        "N",
        text,
    )
