"""Mistakes in a custom function's backward are named, by the operation of its forward."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from diagnose.broken import broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Backward = Callable[..., Any]


def layer(x: Tensor, w: Tensor) -> Tensor:
    return torch.relu(x @ w)


def mask(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w > 0).float()


MISTAKES: list[tuple[str, Backward, str, set[str]]] = [
    ("mask", lambda g, x, w: (g @ w.T, x.T @ g), "relu mask missing", {"x", "w"}),
    (
        "transpose",
        lambda g, x, w: ((g * mask(x, w)) @ w, x.T @ (g * mask(x, w))),
        "weight not transposed in backward",
        {"x"},
    ),
    (
        "half",
        lambda g, x, w: ((g * mask(x, w)) @ w.T / 2, x.T @ (g * mask(x, w)) / 2),
        "missing factor 2",
        {"x", "w"},
    ),
    (
        "sign",
        lambda g, x, w: (-(g * mask(x, w)) @ w.T, x.T @ (g * mask(x, w))),
        "wrong sign",
        {"x"},
    ),
]


def watched(function: Callable[..., Tensor], *, twice: bool = False) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    x, w = torch.randn(6, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    with gw.watch(names={"x": x, "w": w}, keep=None) as witness:
        y = function(x, w)
        torch.autograd.backward(function(y, w) if twice else y, torch.randn(6, 8))
    return witness, {"x": x.grad, "w": w.grad}


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("name", "backward", "cause", "wrong"), MISTAKES)
def test_mistake_is_named(
    name: str, backward: Backward, cause: str, wrong: set[str], twice: bool
) -> None:
    del name
    witness, claims = watched(broken(layer, backward), twice=twice)
    (run,) = witness.check_claims(claims).runs
    if twice and cause not in ("relu mask missing", "weight not transposed in backward"):
        return  # made twice over, a factor is no longer one factor
    first, *others = run.causes
    assert (first.cause, others) == (cause, [])
    assert set(first.explains) == (wrong if not twice else {"x", "w"})
    if first.node is not None:
        assert witness.tape.nodes[first.node].name == "FunctionBackward"


def test_right_claims_of_a_wrong_function_agree() -> None:
    """The witness's gradient is that of the function's forward."""
    backward = MISTAKES[0][1]
    witness, _ = watched(broken(layer, backward))
    _, right = watched(layer)
    (run,) = witness.check_claims(right).runs
    assert run.verdict is gw.Verdict.AGREES
    assert run.causes == ()


def test_noise_in_a_custom_function_has_no_cause() -> None:
    def noisy(g: Tensor, x: Tensor, w: Tensor) -> Any:
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 8))).float()
        return (g * mask(x, w) * (1 + noise)) @ w.T, x.T @ (g * mask(x, w))

    witness, claims = watched(broken(layer, noisy))
    (run,) = witness.check_claims(claims).runs
    assert run.verdict is gw.Verdict.DISAGREES
    assert run.causes == ()


def test_gradcheck_names_the_cause() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 8, requires_grad=True)
    w = torch.randn(8, 8, requires_grad=True)
    for name, backward, cause, _ in MISTAKES:
        with pytest.raises(gw.GradientDisagreement) as caught:
            gw.gradcheck(broken(layer, backward), (x, w))
        # Of the function alone, a transposed weight is a transposed factor.
        own = cause.replace("weight not transposed in backward", "factor transposed")
        assert re.search(f"FunctionBackward.*\n  cause +{own}", str(caught.value), re.DOTALL), name
        # A function has neither a network around it nor claims about it.
        assert not re.search("CAUSE|claim|network", str(caught.value)), name
