"""Gradients that a program declares for its own functions: not the derivative, on purpose."""

from __future__ import annotations

import difflib
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._cells import file_of, is_cell
from gradwitness._errors import RuleError
from gradwitness.rules import registry
from gradwitness.rules.declarations import require_function, require_share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Declared:
    """The declared gradient of one input, by its formula over g, y and arguments of forward.

    ``arguments`` are those of forward that the function takes after the cotangent and the output.
    With a ``tolerance`` the formula is plain NumPy, and as exact as that, relative to the largest
    number.
    """

    text: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    tolerance: float = 0.0

    @property
    def line(self) -> str:
        """Where the formula stands: ``file:line``."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        if code is None:
            return "no line"
        file = file_of(code)
        return f"{file if is_cell(file) else os.path.relpath(file)}:{code.co_firstlineno}"


_declared: dict[type, dict[str, Declared]] = {}


def surrogate(
    function: Any,
    operand: str,
    text: str = "",
    *,
    of: Any = None,
    tolerance: float = 0.0,
    replace: bool = False,
    **parameters: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what the backward of a custom function is meant to return for one input.

    The gradient of a straight-through estimator, a surrogate spike or a gradient reversal is not
    the derivative of its forward, on purpose. Declare it in plain NumPy, or as the derivative of
    one of torch's functions, and the backward is judged against the declaration; findings say that
    the gradient was declared. Inputs without a declaration are judged against the forward as usual.

    Parameters
    ----------
    function : type
        The ``torch.autograd.Function`` subclass.
    operand : str
        The argument of its ``forward`` that the gradient belongs to.
    text : str, optional
        The formula of the gradient, without a left-hand side.
    of : str or callable, optional
        Instead of a formula: the torch function whose derivative it is, ``"hardtanh"`` or
        ``torch.nn.functional.hardtanh``. The derivative is that of gradwitness's own rule.
    tolerance : float, optional
        How far the backward may be off, relative to the largest number of the gradient. Without
        it, the bound follows from the formula; with it, the formula may call any function of NumPy
        and SciPy.
    replace : bool, optional
        Replace an earlier declaration, for notebook cells that are run again.
    **parameters
        Arguments of the torch function other than its first. Those that are not given here are
        taken from arguments of ``forward`` with the same name.

    Returns
    -------
    callable
        A decorator for the formula; of no use with ``of``. Its function takes the cotangent and
        the output (tuples if there are several outputs), then any arguments of ``forward`` by name.

    Raises
    ------
    RuleError
        If ``function`` is not such a class, its ``forward`` has no such argument, the gradient is
        declared already, there is no rule for ``of``, or its arguments are not complete.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> class Sign(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return torch.sign(x)
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * (ctx.saved_tensors[0].abs() < 1)
    >>> def verdict():
    ...     x = torch.linspace(-2, 2, 9, requires_grad=True)
    ...     with gradwitness.watch(names={"x": x}) as witness:
    ...         Sign.apply(x).sum().backward()
    ...     return witness.verdict
    >>> verdict()
    <Verdict.DISAGREES: 'DISAGREES'>
    >>> @gradwitness.surrogate(Sign, "x", "g where |x| < 1")
    ... def _(g, y, x):
    ...     return g * (abs(x) < 1)
    >>> verdict()
    <Verdict.AGREES: 'AGREES'>

    The same by the name of a function that has this derivative:

    >>> _ = gradwitness.surrogate(Sign, "x", of="hardtanh", replace=True)
    >>> verdict()
    <Verdict.AGREES: 'AGREES'>
    """
    require_function(function)
    accepted = tuple(inspect.signature(function.forward).parameters)
    name = function.__name__
    if operand not in accepted:
        raise RuleError(f"{name}.forward has no argument {operand!r}: it takes {accepted}")
    gradients = _declared.setdefault(function, {})
    if operand in gradients and not replace:
        raise RuleError(
            f"{name} has a declared gradient of {operand!r}; replace=True takes its place"
        )
    if tolerance:
        require_share(tolerance, f"the declared gradient of {name}'s {operand!r}")
    if of is not None:
        gradients[operand] = _derivative(of, name, operand, accepted, parameters, tolerance)
    elif parameters or not text:
        wrong = f"unknown argument {next(iter(parameters))!r}" if parameters else "no formula"
        raise RuleError(
            f"the declared gradient of {name}'s {operand!r} has {wrong}: give its text and "
            "decorate its function, or name a torch function with of="
        )

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(formula).parameters)
        unknown = [name for name in names[2:] if name not in accepted]
        if of is not None or len(names) < 2 or unknown:
            raise RuleError(
                f"the declared gradient of {name} takes ({', '.join(names)}): give "
                f"it g and y, then arguments of forward, which are {', '.join(accepted)}"
            )
        gradients[operand] = Declared(text, formula, tuple(names[2:]), tolerance)
        return formula

    return register


def _derivative(
    of: Any,
    name: str,
    operand: str,
    accepted: tuple[str, ...],
    parameters: Mapping[str, Any],
    tolerance: float,
) -> Declared:
    """Return the derivative of a torch function by its first operand, from its rule."""
    wanted = of if isinstance(of, str) else getattr(of, "__name__", repr(of))
    rule = registry.find(wanted) or registry.find(f"aten.{wanted.rpartition('.')[2]}")
    whose = f"the gradient of {name}'s {operand!r} is declared as that of {wanted!r}"
    if rule is None or not rule.operands:
        near = difflib.get_close_matches(f"aten.{wanted}", registry.table(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RuleError(f"{whose}, for which there is no rule: {hint}`gradwitness rules` lists all")
    first, *others = rule.operands
    gradient = rule.gradients.get(first)
    if gradient is None:
        raise RuleError(f"{whose}, which has no derivative")
    unknown = [n for n in parameters if n not in (*others, *rule.parameters)]
    if unknown:
        takes = ", ".join((*others, *rule.parameters)) or "no others"
        raise RuleError(f"{whose}, which takes no {unknown[0]!r}: it takes {takes}")
    named = [n for n in (*others, *rule.parameters) if n not in parameters]
    absent = [n for n in named if n not in accepted and n not in rule.defaults]
    if absent:
        raise RuleError(f"{whose}, which needs {absent[0]!r}: give {absent[0]}=...")
    shared = [n for n in named if n in accepted]

    def formula(g: Any, y: Any, **arguments: Any) -> Any:
        # Its own result, not that of the function that stands in for it.
        del y
        given = {**rule.defaults, **parameters, **arguments}
        operands = (arguments[operand], *(given[n] for n in others))
        keywords = {n: given[n] for n in rule.parameters}
        return gradient(g, rule.function(*operands, **keywords), operands, keywords)

    shown = "".join(f", {n}={value}" for n, value in parameters.items())
    text = f"the derivative of {rule.name}{shown}: {gradient.text}"
    return Declared(text, formula, tuple(dict.fromkeys([operand, *shared])), tolerance)


def declared(function: type | None) -> Mapping[str, Declared]:
    """Return the gradients that were declared for a function, by argument."""
    return {} if function is None else _declared.get(function, {})


def is_declared(node: str) -> bool:
    """Return whether an autograd node of this name may be that of a declared function."""
    return any(gradients and node == f"{f.__name__}Backward" for f, gradients in _declared.items())
