"""A custom backward that detaches what it uses gives no second derivative: nothing agrees then."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from capture import second_functions as functions
from capture.functions import apply
from gradwitness.rules import declarations

if TYPE_CHECKING:
    from collections.abc import Callable

W = 1.25
A, I = gw.Verdict.AGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741
RIGHT = ["Cube", "Masked", "Shifted", "ByResult", "ByFunction", "ByTable"]
CUT = [
    "Detached",
    "ByData",
    "CotangentDetached",
    "NormDetached",
    "Intermediate",
    "CopyOfResult",
    "WithoutGrad",
    "AllWithoutGrad",
    "InNumpy",
]


def leaves() -> tuple[Any, Any]:
    x = torch.tensor([0.5, 0.75, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    return x, torch.full((4,), W, dtype=torch.float64, requires_grad=True)


def penalised(function: Callable[[Any], Any], inside: Any = None) -> tuple[gw.Witness, Any, Any]:
    """Differentiate the squared gradient of y = sum f(w x)^2 = sum (w x)^6."""
    x, w = leaves()
    with gw.watch(names={"x": x, "w": w}) as witness, inside or nullcontext():
        y = function(w * x).square().sum()
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        first.square().sum().backward()
    return witness, x, w


def is_right(x: Any, w: Any) -> bool:
    """Whether both gradients are those of the sum of (6 w^6 x^5)^2 = 36 w^12 x^10."""
    at = x.detach()
    by_x, by_w = 360 * W**12 * at**9, 432 * W**11 * at**10
    close = [g is not None and torch.allclose(g, by) for g, by in ((x.grad, by_x), (w.grad, by_w))]
    return all(close)


@pytest.mark.parametrize("name", RIGHT)
def test_what_can_be_differentiated_again_agrees(name: str) -> None:
    witness, x, w = penalised(lambda t: apply(getattr(functions, name), t))
    assert is_right(x, w)
    assert witness.verdict is A
    assert not witness.report.notes


@pytest.mark.parametrize("name", CUT)
def test_what_detaches_is_in_doubt(name: str) -> None:
    witness, x, w = penalised(lambda t: apply(getattr(functions, name), t))
    assert not is_right(x, w)
    assert witness.verdict is I
    rows = {(row.name, row.sweep): row.verdict for row in witness.report.rows}
    assert rows.pop(("x", 0)) is A
    assert set(rows.values()) == {I}
    (reason,) = witness.report.reasons()
    assert reason.startswith(f"{name}Backward, differentiated again, lacks a part")
    (note,) = witness.report.notes
    assert "part of the second derivative is missing" in note.text
    assert note.source is not None
    assert note.source.line.rpartition(":")[0] == functions.__file__


def test_tensors_that_hooks_have_unpacked_are_in_sight() -> None:
    function: Any = functions.Cube
    witness, x, w = penalised(lambda t: apply(function, t), torch.autograd.graph.save_on_cpu())
    assert is_right(x, w)
    assert witness.verdict is A


def test_so_are_recomputed_ones() -> None:
    function: Any = functions.Cube

    def run(t: Any) -> Any:
        return checkpoint(lambda u: apply(function, u), t, use_reentrant=False)

    witness, x, w = penalised(run)
    assert is_right(x, w)
    assert witness.verdict is A


def test_a_gradient_that_is_not_differentiated_again_agrees() -> None:
    x, w = leaves()
    function: Any = functions.Detached
    with gw.watch() as witness:
        y = apply(function, w * x).square().sum()
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        (w * first.detach()).sum().backward()
    assert witness.verdict is A


def test_a_gradient_that_does_not_depend_on_it_agrees() -> None:
    x, w = leaves()
    v = torch.ones(4, dtype=torch.float64, requires_grad=True)
    function: Any = functions.Detached
    with gw.watch(names={"x": x, "w": w, "v": v}) as witness:
        y = apply(function, w * x).square().sum()
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        (v * first).sum().backward()
    verdicts = {row.name: row.verdict for row in witness.report.rows if row.sweep == 1}
    assert verdicts == {"x": I, "w": I, "v": A}
    # y' = 6 w^6 x^5.
    assert torch.allclose(v.grad if v.grad is not None else v, 6 * W**6 * x.detach() ** 5)


def test_what_is_meant_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declarations, "_detached", {})
    gw.allow_detach(functions.Detached.backward)
    function: Any = functions.Detached
    witness, _, _ = penalised(lambda t: apply(function, t))
    assert witness.verdict is A
    assert not witness.report.notes
