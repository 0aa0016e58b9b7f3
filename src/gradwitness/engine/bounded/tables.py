"""The tables of NumPy functions that have a bound, and the errors for those that have none."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable

# By the NumPy function's name; filled by the other modules of this package.
UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
# Handlers for complex operands, and the functions that take them.
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
    """Return a function's name, with a prefix for np.linalg's, whose names are not unique."""
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

    A rule may pass the parameters of its signature and no others.
    """

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(implementation)
        _, *parameters = signature.parameters
        # How many arguments by position, and which by name, were found to fit.
        fitting: set[tuple[Any, ...]] = set()

        @functools.wraps(implementation)
        def call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            given = (len(args), *kwargs)
            try:
                if given not in fitting:
                    signature.bind(func, *args, **kwargs)
                    fitting.add(given)
            except TypeError as error:
                raise RuleError(
                    f"calls np.{named(func)} with arguments other than ({', '.join(parameters)}), "
                    f"which have no rounding bound: {error}"
                ) from None
            return implementation(func, *args, **kwargs)

        FUNCTIONS.update(dict.fromkeys(map(named, functions), call))
        return implementation

    return register
