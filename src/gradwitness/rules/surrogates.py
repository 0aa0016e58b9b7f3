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
    """The declared gradient of one input.

    Attributes
    ----------
    text : str
        Its formula over g, y and arguments of forward.
    function : callable
    arguments : tuple of str
        Those arguments of forward that it takes after the cotangent and the output.
    """

    text: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


_declared: dict[type, dict[str, Declared]] = {}


def surrogate(
    function: Any, operand: str, text: str, *, replace: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what a custom function's backward is to return for one input.

    A straight-through estimator, a surrogate spike or a gradient reversal is not the derivative of
    its forward, on purpose. What it is to be is said in plain NumPy, and its backward is judged
    against that::

        @gradwitness.surrogate(RoundThrough, "x", "g")
        def _(g, y):
            return g

    The first two arguments are the cotangent and the output, tuples if there are several outputs;
    further ones are arguments of the function's forward, by name. The findings say that the
    gradient was declared. Inputs without a declaration are judged as ever.

    Parameters
    ----------
    function : type
        The ``torch.autograd.Function``.
    operand : str
        The argument of its forward that the gradient belongs to.
    text : str
        The formula, without the left-hand side.
    replace : bool
        Take the place of an earlier declaration: for a cell of a notebook that runs again.

    Raises
    ------
    RuleError
        If it is no such class, its forward has no such argument, or there is a declaration already.
    """
    if not isinstance(function, type) or not hasattr(function, "forward"):
        raise RuleError(f"{function!r} is no torch.autograd.Function: give the class itself")
    taken = tuple(inspect.signature(function.forward).parameters)
    if operand not in taken:
        raise RuleError(
            f"{function.__name__}.forward has no argument {operand!r}: it takes {taken}"
        )
    known = _declared.setdefault(function, {})
    if operand in known and not replace:
        raise RuleError(
            f"{function.__name__} has a declared gradient of {operand!r}; replace=True takes its "
            "place"
        )

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        wanted = list(inspect.signature(formula).parameters)
        unknown = [name for name in wanted[2:] if name not in taken]
        if len(wanted) < 2 or unknown:
            raise RuleError(
                f"the declared gradient of {function.__name__} takes ({', '.join(wanted)}): give "
                f"it g and y, then arguments of forward, which are {', '.join(taken)}"
            )
        known[operand] = Declared(text, formula, tuple(wanted[2:]))
        return formula

    return register


def declared(function: type | None) -> Mapping[str, Declared]:
    """Return the gradients that were declared for a function, by argument."""
    return {} if function is None else _declared.get(function, {})


def is_declared(node: str) -> bool:
    """Return whether an autograd node of this name may be that of a declared function."""
    return any(known and node == f"{one.__name__}Backward" for one, known in _declared.items())
