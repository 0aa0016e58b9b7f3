"""What else is meant: approximations, hooks and detached numbers, as a program declares them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._errors import RuleError
from gradwitness.rules.places import Place, place
from gradwitness.rules.user_rules import require_operator
from gradwitness.tape import AFTERWARDS, LEAVING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradwitness.tape import Sweep


@dataclass(frozen=True)
class MeantHook:
    """What a hook is meant to make of the gradient that it gets.

    With a ``tolerance`` the formula is plain NumPy, and as exact as that, relative to the largest
    number.
    """

    place: Place
    text: str
    function: Callable[..., Any]
    tolerance: float

    @property
    def takes_tensor(self) -> bool:
        """Whether the formula also takes the tensor's numbers."""
        return len(inspect.signature(self.function).parameters) == 2


_approximations: dict[type | str, float] = {}
_hooks: dict[str, MeantHook] = {}
_detached: dict[str, Place] = {}


def approximation(function: Any, tolerance: float) -> None:
    """Declare that the backward of a custom function is right to a tolerance, and no better.

    A derivative that is damped on purpose, read from a table, or the result of an iteration is off
    by more than rounding. Up to the tolerance it then agrees, and the finding says that it was
    declared, and how far off it is.

    Parameters
    ----------
    function : type or str
        The ``torch.autograd.Function`` subclass, or an operator: ``"mylib::solve"``.
    tolerance : float
        How far its gradients may be off, relative to the largest number of each: ``1e-4``.

    Raises
    ------
    RuleError
        If ``function`` is neither, or the tolerance not between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> class Exp(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return torch.exp(x)
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * (1 + x / 1024) ** 1024
    >>> gradwitness.approximation(Exp, 1e-2)
    >>> x = torch.linspace(-1, 1, 5, requires_grad=True)
    >>> with gradwitness.watch(names={"x": x}) as witness:
    ...     Exp.apply(x).sum().backward()
    >>> witness.verdict
    <Verdict.AGREES: 'AGREES'>
    """
    if isinstance(function, str) and "::" in function:
        name = require_operator(function).replace(".", "::")
        require_share(tolerance, f"the approximation {name}")
        _approximations[name] = tolerance
        return
    require_function(function)
    require_share(tolerance, f"the approximation {function.__name__}")
    _approximations[function] = tolerance


def meant_hook(
    where: Any, text: str, *, tolerance: float = 0.0, replace: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what a hook is meant to make of the gradient.

    What a hook returns replaces the gradient, so it is no derivative of anything recorded. Declare
    in plain NumPy what it is meant to return, and the gradient is judged against that. The hook may
    be on a tensor, on a parameter after accumulation, on a module or on an autograd node.

    Parameters
    ----------
    where : str or callable
        The function that is the hook: ``"train.py:solve.hook"``, with the names of the functions
        and classes around it, or the function itself. A lambda belongs to the function around it.
    text : str
        The formula, for the report.
    tolerance : float, optional
        How far what it returns may be off, relative to the largest number. Without it, the bound
        follows from the formula; with it, the formula may call any function of NumPy and SciPy.
    replace : bool, optional
        Replace an earlier declaration, for notebook cells that are run again.

    Returns
    -------
    callable
        A decorator for the formula, which takes the gradient and, if it likes, the tensor.

    Raises
    ------
    RuleError
        If there is no such file or function, it is declared already, the tolerance is not between
        0 and 1, or the formula takes anything else.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> def halve(gradient):
    ...     return 0.5 * gradient
    >>> @gradwitness.meant_hook(halve, "g / 2")
    ... def _(g):
    ...     return g / 2
    >>> x = torch.linspace(-1, 1, 5, requires_grad=True)
    >>> with gradwitness.watch(names={"x": x}) as witness:
    ...     y = x.sin()
    ...     _ = y.register_hook(halve)
    ...     y.square().sum().backward()
    >>> witness.verdict
    <Verdict.AGREES: 'AGREES'>
    """
    whose = f"the declared hook {where if isinstance(where, str) else '(a function)'}"
    if tolerance:
        require_share(tolerance, whose)
    found = place(where, whose)
    if found.text in _hooks and not replace:
        raise RuleError(f"{whose} is declared already; replace=True takes its place")

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(formula).parameters)
        if len(names) not in (1, 2):
            raise RuleError(
                f"{whose} takes ({', '.join(names)}): give its formula the gradient, and the "
                "tensor if it needs it"
            )
        _hooks[found.text] = MeantHook(found, text, formula, tolerance)
        return formula

    return register


def allow_detach(where: Any) -> None:
    """Declare that numbers are meant to leave autograd's sight in one place.

    A target network, a running statistic, a stopped gradient: the notes about ``detach``,
    ``.data``, ``item`` and ``no_grad`` there are left out, and `gradcheck` does not hold the
    gradients against slopes that include what was cut off on purpose.

    Parameters
    ----------
    where : str or callable
        ``"losses.py:transport"``, ``"losses.py"`` for all of a file, or the function itself.

    Raises
    ------
    RuleError
        If there is no such file or function.

    Examples
    --------
    >>> import torch
    >>> import gradwitness
    >>> def weighted(x):
    ...     weights = torch.softmax(x, 0).detach()
    ...     return (weights * x).sum()
    >>> gradwitness.allow_detach(weighted)
    """
    found = place(where, "the allowed detach")
    _detached[found.text] = found


def require_function(function: Any) -> None:
    """Raise `RuleError` unless something is a class with a forward."""
    if not isinstance(function, type) or not hasattr(function, "forward"):
        raise RuleError(f"{function!r} is no torch.autograd.Function: give the class itself")


def require_share(tolerance: float, whose: str) -> None:
    """Raise `RuleError` unless a tolerance is a share of the largest number."""
    if not 0 < tolerance < 1:
        share = "give a share of the largest number, such as 1e-4"
        raise RuleError(f"{whose} has tolerance={tolerance!r}: {share}")


def tolerance_of(function: type | str) -> float:
    """Return the tolerance that was declared for a function or an operator; 0 if none was."""
    return _approximations.get(function, 0.0)


def is_allowed(line: str) -> bool:
    """Whether numbers may leave autograd's sight at ``file:line``."""
    return any(found.holds(line) for found in _detached.values())


def when_it_runs(text: str) -> str:
    """Return what the description of a hook begins with: when it runs."""
    return next((when for when in (LEAVING, AFTERWARDS) if text.startswith(when)), "")


def meant_hooks(sweep: Sweep, when: str = "") -> Mapping[tuple[int, int], list[MeantHook]]:
    """Return the declared hooks in their order, by node and input.

    Those on the gradients that arrive, or with `LEAVING` or `AFTERWARDS` the others.
    """
    found: dict[tuple[int, int], list[MeantHook]] = {}
    for edge, text in sweep.hooks if _hooks else ():
        line = text.rpartition(" at ")[2]
        for hook in _hooks.values():
            if when_it_runs(text) == when and hook.place.holds(line):
                found.setdefault((edge.node, edge.index), []).append(hook)
    return found
