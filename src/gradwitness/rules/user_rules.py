"""Rules that a program brings along for its own operators, in the table of all rules."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

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
    """Tell the witness what an operator of your own computes.

    The function takes the operator's tensors as positional arguments, in the schema's order, and
    its other arguments as keyword-only ones, by the schema's names; it is written in plain NumPy
    calls. It gets one vjp for each tensor that has a gradient::

        @gradwitness.rule("mylib::swish", "y = x * sigmoid(x)")
        def swish(x):
            return x / (1 + np.exp(-x))

        @swish.vjp("x", "g * (s + x * s * (1 - s))")
        def _(g, x):
            s = 1 / (1 + np.exp(-x))
            return g * (s + x * s * (1 - s))

    A vjp names what it reads: the cotangent ``g``, the result ``y``, tensors, and after ``*`` other
    arguments. Of several results ``g`` and ``y`` are tuples, and ``y1`` is the second alone; a list
    of tensors comes as a tuple, and its vjp returns a list; a tensor that was
    not given comes as None. The bound on rounding is derived from these formulas, each step rounded
    to the tensors' format.

    Parameters
    ----------
    name : str
        The operator, ``mylib::swish`` or ``mylib.swish``, without overload.
    text : str
        Its formula, ``y = ...``.
    aliases : tuple of str
        Other operators that compute the same.
    ignores : tuple of str
        Arguments of the schema that do not change the result's numbers.
    replace : bool
        Take the place of an earlier rule of yours: for a cell of a notebook that runs again.

    Raises
    ------
    RuleError
        If a name is none, or is torch's; if the operator has a rule already; if the formula is not
        ``y = ...``, or the function's parameters cannot be an operator's.
    """
    names = [_checked(each) for each in (name, *aliases)]
    if not text.replace(" ", "").startswith("y="):
        raise RuleError(f"the formula of {name} is {text!r}: write it as 'y = ...'")

    def register(function: Callable[..., Any]) -> registry.Rule:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise RuleError(
                    f"the rule of {name} takes {parameter}: name each argument of the schema, "
                    "tensors as positional, the others as keyword-only (after *)"
                )
        for each in names:
            if registry.find(each) is not None and not (replace and each in _own):
                raise RuleError(
                    f"{each} has a rule already; replace=True takes the place of one of your own"
                )
        for each in names:
            if each in _own:
                registry.forget(_own.pop(each))
        made = registry.rule(
            names[0], text, aliases=tuple(names[1:]), ignores=ignores, composite=True
        )(function)
        _own.update(dict.fromkeys(names, made))
        return made

    return register


def own() -> dict[str, registry.Rule]:
    """Return the rules that programs have brought along, by operator."""
    return dict(_own)


def misfit(made: registry.Rule, schema: dict[str, bool], signature: str) -> str:
    """Say what a rule and an operator's schema have against each other; empty if nothing.

    Parameters
    ----------
    made : Rule
    schema : dict of str to bool
        The operator's arguments in order: whether each is a tensor, or a list of them.
    signature : str
        The schema as text.
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
            fault = f"{numbers[0]!r} is no tensor: make it keyword-only (after *), or ignore it"
    return f"the rule of {made.name} does not fit {signature}: {fault}" if fault else ""


def _checked(name: str) -> str:
    plain = name.replace("::", ".")
    if not _NAME.fullmatch(plain):
        raise RuleError(f"{name!r} is no operator's name: write 'mylib::swish', without overload")
    if plain.split(".")[0] in ("aten", "prim", "prims"):
        raise RuleError(f"{name!r} is torch's own: rules are for operators of your own")
    return plain
