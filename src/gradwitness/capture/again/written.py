"""Where, and how, the program's text has the backward of a custom function."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from gradwitness._cells import file_of
from gradwitness.capture.calls.source import is_program
from gradwitness.judging.custom.functions import Method

# The module where torch creates the functions of operators with `register_autograd`.
_OPERATORS = "torch._library.autograd"
_PACKAGE = str(Path(__file__).parents[2])


def method_of(function: type, called: str) -> Method | None:
    """Return the backward of a custom function, applied by a line; None if it is not a program's.

    With functions of the new style it may also be called `vjp`, torch's other name for it. Of an
    operator of ``torch.library`` it is the function that was registered.
    """
    own = function.__dict__
    name = "vjp" if "vjp" in own and "backward" not in own else "backward"
    registered = _registered(function)
    written = inspect.unwrap(registered or getattr(function, name))
    code = getattr(written, "__code__", None)
    if code is None or not is_program(code):
        return None
    try:
        lines, first = inspect.getsourcelines(code)
    except OSError:
        lines, first = [], code.co_firstlineno
    above = next((k for k, line in enumerate(lines) if line.lstrip().startswith("def ")), 0)
    symbol = f"{function.__qualname__.rpartition('.')[2]}.{name}"
    if registered is not None:
        symbol = written.__qualname__.rpartition(".")[2]
    # Where this package applies it (`gradcheck(Double.apply, ...)`), no line of the program does.
    called = "" if called.startswith(_PACKAGE) else called
    return Method(symbol, file_of(code), first + above, "".join(lines[above:]), called)


def is_operators(function: type | None) -> bool:
    """Whether torch made a function for an operator with `register_autograd`."""
    return getattr(function, "__module__", "") == _OPERATORS


def _registered(function: Any) -> Any:
    """Return the backward that was registered for an operator; None of other functions."""
    if not is_operators(function):
        return None
    return getattr(
        inspect.getclosurevars(function.backward).nonlocals.get("info"), "_backward_fn", None
    )
