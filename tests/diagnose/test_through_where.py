"""NaN in claims: just where a step did not select, and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from diagnose.broken import Guarded, Transformer
from diagnose.cases import loss_for
from diagnose.trials import staged, without_figures
from gradwitness.diagnose.rank import diagnose
from gradwitness.engine.masked_elements import THROUGH_WHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

    Claims = dict[str, np.ndarray[Any, Any]]


def causes(model: nn.Module, change: Callable[[Claims], Claims]) -> tuple[Any, ...]:
    loss = loss_for(model, 0)
    loss(model).backward()  # type: ignore[no-untyped-call]
    right = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
    return diagnose(staged(model, loss, {**right, **change(right)}))


class Chosen(nn.Module):
    """What is computed for some elements is smooth everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.scale = nn.Parameter(torch.randn(8))
        self.output = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.inputs(x))
        return self.output(h * torch.where(self.scale > 0, torch.exp(self.scale), 0.0))


@pytest.fixture
def guarded() -> Guarded:
    torch.manual_seed(0)
    return Guarded()


def test_evidence_is_counted_and_overflow_is_the_runner_up(
    guarded: Guarded, snapshot: SnapshotAssertion
) -> None:
    zero = guarded.scale.detach().numpy() == 0
    assert 0 < zero.sum() < zero.size
    (cause,) = causes(guarded, lambda g: {"scale": np.where(zero, np.nan, g["scale"])})
    assert (cause.cause, cause.runner_up) == (THROUGH_WHERE, "overflow")
    assert cause.text.startswith(f"{zero.sum()} of {zero.sum()} NaN")
    assert without_figures(cause.text) == snapshot
    assert cause.experiment == snapshot
    assert (cause.guilty, cause.inherited) == (("scale",), ())


def test_nan_wherever_nothing_is_selected_needs_no_infinite_derivative(
    snapshot: SnapshotAssertion,
) -> None:
    torch.manual_seed(0)
    model = Chosen()
    dropped = model.scale.detach().numpy() <= 0
    (cause,) = causes(model, lambda g: {"scale": np.where(dropped, np.nan, g["scale"])})
    assert cause.cause == THROUGH_WHERE
    assert without_figures(cause.text) == snapshot


@pytest.mark.parametrize(
    "change",
    [
        # One where the root is taken of what is right.
        lambda g: {"scale": np.where(np.cumsum(g["scale"] != 0) == 1, np.nan, g["scale"])},
        # All.
        lambda g: {"scale": np.full_like(g["scale"], np.nan)},
        # All behind another layer.
        lambda g: {n: np.full_like(g[n], np.nan) for n in ("inputs.weight", "inputs.bias")},
        # Infinity there instead.
        lambda g: {"scale": np.where(g["scale"] == 0, np.inf, g["scale"])},
    ],
)
def test_other_nan_is_not_called_so(guarded: Guarded, change: Callable[[Claims], Claims]) -> None:
    (cause,) = causes(guarded, change)
    assert cause.cause == "not finite"


def test_overflow_before_a_masked_softmax_is_not_called_so() -> None:
    torch.manual_seed(0)
    earlier = ("table", "blocks.0", "blocks.1.first", "blocks.1.query", "blocks.1.key")

    def change(g: Claims) -> Claims:
        # Words that do not occur keep their 0.
        lost = {n: np.full_like(h, np.nan) for n, h in g.items() if n.startswith(earlier)}
        table = "table.weight"
        return lost | {table: np.where(g[table] != 0, np.nan, g[table])}

    (cause,) = causes(Transformer(), change)
    assert cause.cause == "not finite"
