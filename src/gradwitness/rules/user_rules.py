"""Rules that a program brings along for its own operators, in the table of all rules."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.rules import registry

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")
_own: dict[str, registry.Rule] = {}


def rule(
    name: str,
    text: str,
    *,
    aliases: tuple[str, ...] = (),
    ignores: tuple[str, ...] = (),
    replace: bool = False,
) -> Callable[[Callable[..., Any]], registry.Rule]:
    """Define what a custom operator computes, so that it is judged like PyTorch's own.

    Parameters
    ----------
    name : str
        The operator, ``mylib::swish`` or ``mylib.swish``, without its overload.
    text : str
        Its formula, ``y = ...``.
    aliases : tuple of str, optional
        Other operators that compute the same.
    ignores : tuple of str, optional
        Arguments of the schema that do not affect the values of the result.
    replace : bool, optional
        Replace an earlier rule of yours, for notebook cells that are run again.

    Returns
    -------
    callable
        A decorator that turns the formula, written in NumPy, into a `Rule`. The formula takes the
        operator's tensors as positional arguments, in the order of the schema, and its other
        arguments as keyword-only ones, by their names in the schema. ``Rule.vjp`` adds the
        gradient of one tensor.

    Raises
    ------
    RuleError
        If a name is malformed or belongs to PyTorch, the operator has a rule already, the formula
        is not ``y = ...``, or the function's parameters cannot be those of an operator.

    Notes
    -----
    A vjp names what it reads: the cotangent ``g``, the result ``y``, tensors, and after ``*`` other
    arguments. For an operator with several results, ``g`` and ``y`` are tuples, and ``y0``, ``y1``,
    ... are single results. A list of tensors is passed as a tuple, and its vjp returns a list. An
    optional tensor that was not given is None. The rounding bound is derived from these formulas,
    with every step rounded to the tensors' dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import gradwitness
    >>> @gradwitness.rule("mylib::swish", "y = x * sigmoid(x)", replace=True)
    ... def swish(x):
    ...     return x / (1 + np.exp(-x))
    >>> @swish.vjp("x", "g * (s + x * s * (1 - s))")
    ... def _(g, x):
    ...     s = 1 / (1 + np.exp(-x))
    ...     return g * (s + x * s * (1 - s))
    >>> swish.name, sorted(swish.gradients)
    ('mylib.swish', ['x'])
    """
    names = [require_operator(op) for op in (name, *aliases)]
    enter = registry.rule(names[0], text, aliases=tuple(names[1:]), ignores=ignores, composite=True)

    def register(function: Callable[..., Any]) -> registry.Rule:
        _check_signature(name, function)
        for op in names:
            if registry.find(op) is not None and not (replace and op in _own):
                raise RuleError(
                    f"{op} has a rule already; replace=True takes the place of one of your own"
                )
        for op in names:
            if op in _own:
                registry.forget(_own.pop(op))
        entered = enter(function)
        _own.update(dict.fromkeys(names, entered))
        return entered

    return register


def is_own(op: str) -> bool:
    """Whether a program has brought along the rule of an operation."""
    return op in _own


def own() -> dict[str, registry.Rule]:
    """Return the rules that programs have brought along, by operator."""
    return dict(_own)


def misfit(made: registry.Rule, schema: dict[str, bool], signature: str) -> str:
    """Return why a rule does not fit an operator's schema, or nothing.

    ``schema`` has the operator's arguments in order, and whether each is a tensor or a list of
    them; ``signature`` is the schema as text.
    """
    unknown = [n for n in (*made.parameters, *made.ignores) if n not in schema]
    left = [n for n in schema if n not in made.parameters and n not in made.ignores]
    fault = ""
    if unknown:
        fault = f"the schema has no argument {unknown[0]!r}"
    elif len(left) != len(made.operands):
        fault = (
            f"it takes {len(made.operands)} positional arguments ({', '.join(made.operands)}) "
            f"where the schema leaves {len(left)} ({', '.join(left)})"
        )
    else:
        numbers = [n for n in left if not schema[n]]
        if numbers:
            fault = f"{numbers[0]!r} is not a tensor: make it keyword-only (after *), or ignore it"
    return f"the rule of {made.name} does not fit {signature}: {fault}" if fault else ""


def _check_signature(name: str, function: Any) -> None:
    """Refuse what does not take an operator's arguments by their names."""
    try:
        # A ufunc takes much that no operator does.
        taken: Any = None if isinstance(function, np.ufunc) else function
        parameters = inspect.signature(taken).parameters.values()
    except (TypeError, ValueError):
        fault = f"the rule of {name} is {function!r}: write a function of its arguments"
        raise RuleError(fault) from None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    faults = [
        f"{p} without a name" if p.kind is p.POSITIONAL_ONLY else f"{p}"
        for p in parameters
        if p.kind not in named
    ]
    if faults or not parameters:
        raise RuleError(
            f"the rule of {name} takes {', '.join(faults) or 'nothing'}: name each argument of the "
            "schema, tensors as positional, the others as keyword-only (after *)"
        )


def require_operator(name: Any) -> str:
    """Return the name of a program's operator as the tape has it; raise `RuleError` for others."""
    plain = name.replace("::", ".") if isinstance(name, str) else ""
    if not _NAME.fullmatch(plain):
        raise RuleError(f"{name!r} is no operator's name: write 'mylib::swish', without overload")
    if plain.split(".")[0] in ("aten", "prim", "prims"):
        raise RuleError(f"{name!r} is torch's own: that is for operators of your own")
    return plain
