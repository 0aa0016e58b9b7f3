"""The tables of NumPy's functions that have a bound, and what is said of those that have none."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable

# By the NumPy function's name; filled by the modules beside this one.
UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
# Those for complex operands, and which functions take such.
COMPLEX_UFUNCS: dict[str, Callable[..., Any]] = {}
COMPLEX_FUNCTIONS: set[str] = set()

_INSTEAD = {
    "add.reduce": "np.sum",
    "add.accumulate": "np.cumsum",
    "add.at": "np.bincount",
    "multiply.reduce": "np.prod",
    "multiply.accumulate": "np.cumprod",
    "multiply.outer": "np.outer",
    "maximum.reduce": "np.max",
    "minimum.reduce": "np.min",
}


def named(func: Callable[..., Any]) -> str:
    """Return a function's name; np.linalg's share theirs with others that do something else."""
    prefix = "linalg." if func.__module__ == "numpy.linalg" else ""
    return prefix + func.__name__


def unknown(name: str) -> RuleError:
    """Return the error of calling a function that has no bound."""
    instead = _INSTEAD.get(name, "a function listed in docs/custom.md")
    return RuleError(
        f"calls np.{name}, which has no rounding bound: use {instead}, or add it in "
        "engine/bounded/arithmetic.py"
    )


def stands_for(*functions: Callable[..., Any]) -> Callable[[Any], Any]:
    """Register what is called instead of NumPy functions: with the function, then its arguments.

    Its parameters are those that a rule may give.
    """

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(implementation)
        _, *parameters = signature.parameters

        @functools.wraps(implementation)
        def call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            try:
                signature.bind(func, *args, **kwargs)
            except TypeError as error:
                raise RuleError(
                    f"calls np.{named(func)} with arguments other than ({', '.join(parameters)}), "
                    f"which have no rounding bound: {error}"
                ) from None
            return implementation(func, *args, **kwargs)

        FUNCTIONS.update(dict.fromkeys(map(named, functions), call))
        return implementation

    return register
