"""How a program moves the elements of its own groups and manifolds, as it declares."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradwitness._errors import RuleError
from gradwitness.rules.declarations import require_function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Retract = Callable[..., Any]

_declared: dict[type, dict[str | None, Retract]] = {}


def retraction(
    function: Any, *operands: str, results: bool = False, replace: bool = False
) -> Callable[[Retract], Retract]:
    """Declare that the backward of a custom function sends gradients along a manifold.

    What it sends is then the gradient by v at v = 0, where v moves an element x of the manifold to
    retract(x, v). The groups SO(2), SO(3), SE(3), R+ x SO(3) and Sim(3), moved from the left, are
    known without this.

    Parameters
    ----------
    function : type
        The ``torch.autograd.Function`` subclass.
    *operands : str
        The arguments of its ``forward`` that are such elements.
    results : bool, optional
        Whether its results are such elements too, so that the gradients that arrive are of this
        kind.
    replace : bool, optional
        Replace an earlier declaration, for notebook cells that are run again.

    Returns
    -------
    callable
        A decorator for the retraction. It takes x and v, NumPy arrays of float64 and of one shape
        with an element in each row, and returns the rows moved. Components of v that it does not
        use must be 0 in what is sent.

    Raises
    ------
    RuleError
        If ``function`` is not such a class, its ``forward`` has no such argument, or a retraction
        is declared already.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import gradwitness
    >>> class Angle(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, z):  # a rotation of the plane about a point: angle, x, y
    ...         return z[..., 0]
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return torch.stack([g / 2, 0 * g, 0 * g], -1)
    >>> @gradwitness.retraction(Angle, "z")
    ... def _(x, v):  # v is in half turns
    ...     return x + v * np.array([0.5, 1.0, 1.0])
    >>> z = torch.ones(4, 3, requires_grad=True)
    >>> with gradwitness.watch(names={"z": z}) as witness:
    ...     Angle.apply(z).sum().backward()
    >>> witness.verdict
    <Verdict.AGREES: 'AGREES'>
    """
    require_function(function)
    accepted = tuple(inspect.signature(function.forward).parameters)
    unknown = [name for name in operands if name not in accepted]
    if unknown or not (operands or results):
        raise RuleError(
            f"{function.__name__}.forward has no argument {unknown[0]!r}: it takes {accepted}"
            if unknown
            else f"the retraction of {function.__name__} belongs to nothing: name arguments of its "
            f"forward, which are {', '.join(accepted)}, or say results=True"
        )
    names = (*operands, *([None] if results else []))
    retracts = _declared.setdefault(function, {})
    if not replace and not retracts.keys().isdisjoint(names):
        raise RuleError(
            f"{function.__name__} has a declared retraction of this; replace=True takes its place"
        )

    def register(retract: Retract) -> Retract:
        taken = list(inspect.signature(retract).parameters)
        if len(taken) != 2:
            raise RuleError(
                f"the retraction of {function.__name__} takes ({', '.join(taken)}): give it an "
                "element x and the vector v that moves it"
            )
        retracts.update(dict.fromkeys(names, retract))
        return retract

    return register


def retractions(function: type | None) -> Mapping[str | None, Retract]:
    """Return what was declared for a function, by argument; None stands for its results."""
    return {} if function is None else _declared.get(function, {})
