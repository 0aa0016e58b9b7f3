"""Where recording itself makes torch take another branch, the report says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

X = torch.tensor([[1.5, 0.0, 0.5], [2.0, -1.0, 0.25]])


def once(x: Any, function: Callable[[Any], Any]) -> None:
    function(x).backward()


def twice(x: Any, function: Callable[[Any], Any]) -> None:
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    first.square().sum().backward()


def checkpointed(x: Any, function: Callable[[Any], Any]) -> None:
    result: Any = checkpoint(function, x, use_reentrant=False)
    result.backward()


def product(x: Any) -> Any:
    return x.prod(1).sum()


def running(x: Any) -> Any:
    return x.cumprod(1).sum()


def filled(x: Any) -> Any:
    return torch.masked_fill(x.detach(), X > 1, x[1, 0].square()).sum()


def plain(x: Any) -> Any:
    return x.exp().sum()


@pytest.mark.parametrize("function", [product, running, filled, plain])
@pytest.mark.parametrize("run", [once, twice, checkpointed])
def test_a_branch_that_recording_changes_is_noted(
    run: Callable[..., None], function: Callable[[Any], Any], snapshot: SnapshotAssertion
) -> None:
    x: Any = X.clone().requires_grad_()
    with gw.watch() as witness:
        run(x, function)
    notes = [note for note in witness.report.notes if note.kind == "another branch"]
    assert len(notes) == (run is not once and function is not plain)
    for note in notes:
        assert note.source is not None
        assert note.source.line.rpartition(":")[0] == __file__
        assert note.text == snapshot
