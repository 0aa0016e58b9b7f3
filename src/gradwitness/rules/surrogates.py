"""Gradients that a program declares for its own functions: not the derivative, on purpose."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Declared:
    """The declared gradient of one input, by its formula over g, y and arguments of forward.

    ``arguments`` are those of forward that the function takes after the cotangent and the output.
    """

    text: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


_declared: dict[type, dict[str, Declared]] = {}


def surrogate(
    function: Any, operand: str, text: str, *, replace: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what the backward of a custom function is meant to return for one input.

    The gradient of a straight-through estimator, a surrogate spike or a gradient reversal is not
    the derivative of its forward, on purpose. Declare it in plain NumPy, and the backward is judged
    against the declaration; findings say that the gradient was declared. Inputs without a
    declaration are judged against the forward as usual.

    Parameters
    ----------
    function : type
        The ``torch.autograd.Function`` subclass.
    operand : str
        The argument of its ``forward`` that the gradient belongs to.
    text : str
        The formula of the gradient, without a left-hand side.
    replace : bool, optional
        Replace an earlier declaration, for notebook cells that are run again.

    Returns
    -------
    callable
        A decorator for the formula. Its function takes the cotangent and the output (tuples if
        there are several outputs), then any arguments of ``forward`` by name.

    Raises
    ------
    RuleError
        If ``function`` is not such a class, its ``forward`` has no such argument, or the gradient
        is declared already.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> class Reversal(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 1.0
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return -g
    >>> @gradwitness.surrogate(Reversal, "x", "-g")
    ... def _(g, y):
    ...     return -g
    >>> x = torch.ones(3, requires_grad=True)
    >>> with gradwitness.watch(names={"x": x}) as witness:
    ...     Reversal.apply(x).sum().backward()
    >>> witness.verdict
    <Verdict.AGREES: 'AGREES'>
    """
    if not isinstance(function, type) or not hasattr(function, "forward"):
        raise RuleError(f"{function!r} is no torch.autograd.Function: give the class itself")
    accepted = tuple(inspect.signature(function.forward).parameters)
    if operand not in accepted:
        raise RuleError(
            f"{function.__name__}.forward has no argument {operand!r}: it takes {accepted}"
        )
    gradients = _declared.setdefault(function, {})
    if operand in gradients and not replace:
        raise RuleError(
            f"{function.__name__} has a declared gradient of {operand!r}; replace=True takes its "
            "place"
        )

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(formula).parameters)
        unknown = [name for name in names[2:] if name not in accepted]
        if len(names) < 2 or unknown:
            raise RuleError(
                f"the declared gradient of {function.__name__} takes ({', '.join(names)}): give "
                f"it g and y, then arguments of forward, which are {', '.join(accepted)}"
            )
        gradients[operand] = Declared(text, formula, tuple(names[2:]))
        return formula

    return register


def declared(function: type | None) -> Mapping[str, Declared]:
    """Return the gradients that were declared for a function, by argument."""
    return {} if function is None else _declared.get(function, {})


def is_declared(node: str) -> bool:
    """Return whether an autograd node of this name may be that of a declared function."""
    return any(gradients and node == f"{f.__name__}Backward" for f, gradients in _declared.items())
