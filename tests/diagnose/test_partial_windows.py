"""Gradients of a window of accumulation with fewer passes than its divisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])


def claimed_cause(loss: Callable[[Any, Any], Any], targets: Any) -> str:
    """Return the cause of claims from 2 passes, each divided by 4."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(8, 6)
    for part in (slice(0, 4), slice(4, 8)):
        (loss(model(x[part]), targets[part]) / 4).backward()
    claims = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    result = gw.check(model, x, loss=lambda y: loss(y, targets), claims=claims)
    (cause,) = result.runs[0].causes
    return cause.cause


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (F.cross_entropy, CLASSES),
        (F.binary_cross_entropy_with_logits, F.one_hot(CLASSES).float()),
    ],
)
def test_no_square_is_named_where_there_is_none(loss: Any, targets: Any) -> None:
    assert claimed_cause(loss, targets) == "world size or accumulation steps"


def test_a_square_is_named_where_there_is_one() -> None:
    assert claimed_cause(F.mse_loss, F.one_hot(CLASSES).float()) == "missing factor 2"
