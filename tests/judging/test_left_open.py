"""What hides under the largest number that a function or a hook sends is followed to the leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness.rules import declarations, surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    tables: tuple[dict[Any, Any], ...] = (declarations._hooks, surrogates._declared)
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def scaled(g: Any, large: float, off: float) -> Any:
    """Return g times (large, 1), of which the 1 is off."""
    return g * torch.tensor([large, 1 + off], dtype=g.dtype)


class ByNumPy(Function):
    """(large, 1) times x, computed where no rule can follow."""

    @staticmethod
    def forward(ctx: Any, x: Any, large: float, off: float) -> Any:
        ctx.given = large, off
        return torch.from_numpy(x.detach().numpy() * scaled(x, large, 0.0).numpy() / x.numpy())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return scaled(grads[0], *ctx.given), None, None


class Rounded(Function):
    """A straight-through estimator, which is meant to send the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, x: Any, off: float) -> Any:
        ctx.off = off
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return scaled(grads[0], 1.0, ctx.off), None


def measured(x: Any, large: float, off: float) -> Any:
    return apply(ByNumPy, x, large, off)


def declared(x: Any, large: float, off: float) -> Any:
    gw.surrogate(Rounded, "x", "g")(lambda g, _: g)
    return apply(Rounded, x, off) * torch.tensor([large, 1.0])


def hooked(x: Any, large: float, off: float) -> Any:
    def hook(g: Any) -> Any:
        return scaled(g / 2, 1.0, off)

    gw.meant_hook("judging/test_left_open.py:hooked.hook", "g / 2")(lambda g: g / 2)
    y = x * 1.0
    y.register_hook(hook)
    return y * torch.tensor([large, 1.0])


def rows(
    function: Callable[..., Any], large: float, off: float, **options: Any
) -> tuple[gw.Witness, dict[str, Any]]:
    """Watch two leaves of which the second one lies behind the smaller number."""
    a, b = (torch.ones(1, requires_grad=True, **options) for _ in range(2))
    with gw.watch(names={"a": a, "b": b}) as witness:
        function(torch.cat([a, b]), large, off).sum().backward()
    return witness, {row.name: row for row in witness.report.rows}


@pytest.mark.parametrize(("function", "large"), [(declared, 1e8), (hooked, 1e8)])
def test_an_error_beside_what_was_declared_is_followed(
    function: Callable[..., Any], large: float
) -> None:
    witness, right = rows(function, large, 0.0)
    assert (witness.verdict, right["b"].verdict) == (A, A)
    # 0.2 is less than a rounding of 1e8, and a sixth of the 1.2 that arrives.
    surrogates._declared.clear()
    declarations._hooks.clear()
    witness, wrong = rows(function, large, 0.2)
    assert (witness.verdict, wrong["a"].verdict, wrong["b"].verdict) == (I, A, I)
    assert "but 0.17 of what arrives here is off" in wrong["b"].reason
    whose = "Rounded" if function is declared else "the hook judging/test_left_open.py:hooked.hook"
    assert wrong["b"].reason.startswith(f"what {whose} sends is near to what was declared")
    assert wrong["b"].reason in witness.report.reasons()


@pytest.mark.parametrize("off", [0.0, 0.2])
def test_what_slopes_cannot_show_is_followed(off: float) -> None:
    # One number of 1e6 hides whether the other one is 1 or 1.2.
    witness, found = rows(measured, 1e6, off)
    assert (witness.verdict, found["a"].verdict, found["b"].verdict) == (I, A, I)
    assert found["b"].reason.startswith("an error that the slopes of ByNumPy would not show")


def test_what_slopes_show_is_left_alone() -> None:
    assert rows(measured, 10.0, 0.0)[0].verdict is A
    assert rows(measured, 10.0, 0.2)[0].verdict is D
    # In float64 they see more: what is 2e-6 off may be a solver's, but is told from what is right.
    assert rows(measured, 1e5, 0.0, dtype=torch.float64)[0].verdict is A
    assert rows(measured, 1e5, 0.2, dtype=torch.float64)[0].verdict is I


def test_each_pass_of_a_block_is_followed() -> None:
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    gw.surrogate(Rounded, "x", "g")(lambda g, _: g)
    with gw.watch(names={"a": a, "b": b}) as witness:
        for large in (1e8, 1.0, 1e8):
            x = apply(Rounded, torch.cat([a, b]), 0.2 if large > 1 else 0.0)
            (x * torch.tensor([large, 1.0])).sum().backward()
    assert [row.verdict for row in witness.report.rows if row.name == "b"] == [I, A, I]


class Cube(Function):
    """x^3 where no rule can follow."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * grads[0]


def test_gradients_whose_terms_cancel_still_agree() -> None:
    # 3 x^2 is as large at -x as at x, with the other sign: an error counts beside these terms.
    half, b = torch.linspace(0.5, 2, 8), torch.zeros(1, requires_grad=True)
    signs = torch.cat([torch.ones(8), -torch.ones(8)])
    with gw.watch(names={"b": b}) as witness:
        (apply(Cube, torch.cat([half, -half]) + b) * signs).sum().backward()
    assert b.grad is not None
    assert abs(b.grad.item()) < 1e-5
    assert witness.verdict is A
