"""Formulas whose text is their code: what is printed is compiled, and runs."""

from __future__ import annotations

import ast
import inspect
import math
import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy

from gradwitness._errors import RuleError
from gradwitness.rules.elementwise.error_function import erf
from gradwitness.rules.kernel_ops import polygamma, times, where

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradwitness.rules.vjps import Array

_P = inspect.Parameter
# The default of a parameter that each call gives.
GIVEN = _P.empty


def _float32(number: Any) -> Any:
    """Return a constant as torch's kernels hold some, for float64 too."""
    return float(np.float32(number))


# The words of formulas, of which each is one function of arrays.
WORDS: Mapping[str, Callable[..., Any]] = {
    **{
        name: getattr(np, name)
        for name in (
            "abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "ceil", "cos",
            "cosh", "exp", "exp2", "expm1", "floor", "imag", "log", "log10", "log1p", "log2",
            "outer", "real", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
        )
    },
    "conj": np.conjugate,
    "swap": np.swapaxes,
    "where": where,
    # Asked for when they are called: importing them takes longer than NumPy's whole import.
    "erf": erf,
    "erfc": lambda x: scipy.special.erfc(x),
    "erfinv": lambda x: scipy.special.erfinv(x),
    "digamma": lambda x: scipy.special.psi(x),
    "float32": _float32,
    "lgamma": lambda x: scipy.special.gammaln(x),
    "polygamma": lambda n, x: polygamma(x, n=n),
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "inf": math.inf}
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: times,
    ast.MatMult: operator.matmul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: np.equal,  # of arrays with bounds, == compares objects
}


# What a formula is made of: numbers, and functions of the names' values.
Part: TypeAlias = "float | Callable[[Mapping[str, Any]], Any]"


class Formula:
    """A function that computes what a text says, of those names that the text mentions.

    The text is of numbers, arithmetic, comparisons, `WORDS`, and names for arrays, which are its
    positional parameters, and for numbers, which with their defaults are its keyword parameters.
    """

    def __init__(self, text: str, operands: tuple[str, ...], parameters: Mapping[str, Any]) -> None:
        self._text = text
        self._names = (*operands, *parameters)
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError as error:
            raise RuleError(f"the formula {text!r} is not an expression: {error.msg}") from None
        compiled = self._part(tree.body)
        self._whole = compiled if callable(compiled) else lambda _: compiled
        said = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self._operands = [name for name in operands if name in said]
        own = {name: default for name, default in parameters.items() if name in said}
        self._defaults = {n: d for n, d in own.items() if d is not _P.empty}
        first = [_P(name, _P.POSITIONAL_OR_KEYWORD) for name in self._operands]
        then = [_P(name, _P.KEYWORD_ONLY, default=default) for name, default in own.items()]
        self.__signature__ = inspect.Signature([*first, *then])

    def __call__(self, *operands: Array, **parameters: Any) -> Array:
        """Compute it."""
        given = dict(zip(self._operands, operands, strict=True))
        if self._defaults or parameters:
            given = {**self._defaults, **parameters, **given}
        return self._whole(given)

    def _part(self, node: ast.expr) -> Part:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=name) if name in self._names:
                return operator.itemgetter(name)
            case ast.Name(id=name) if name in _CONSTANTS:
                return _CONSTANTS[name]
            case ast.UnaryOp(op=op, operand=inner) if type(op) in _OPERATORS:
                return _applied(_OPERATORS[type(op)], self._part(inner))
            case (
                ast.BinOp(left=left, op=op, right=right)
                | ast.Compare(left=left, ops=[op], comparators=[right])
            ) if type(op) in _OPERATORS:
                return _applied(_OPERATORS[type(op)], self._part(left), self._part(right))
            case ast.Attribute(value=inner, attr="T"):
                return _applied(operator.attrgetter("T"), self._part(inner))
            case ast.Call(func=ast.Name(id=word), args=items, keywords=[]) if word in WORDS:
                return _applied(WORDS[word], *map(self._part, items))
        raise RuleError(
            f"the formula {self._text!r} says {ast.unparse(node)!r}: it may be of the names "
            f"{', '.join(self._names)}, numbers, + - * / @ .T and comparisons, and the words "
            f"{', '.join(sorted({*WORDS, *_CONSTANTS}))}"
        )


def named_formula(
    whose: str, text: str, operands: tuple[str, ...], parameters: Mapping[str, Any]
) -> Formula:
    """Return a formula whose errors say whose it is."""
    try:
        return Formula(text, operands, parameters)
    except RuleError as fault:
        raise RuleError(f"{whose}: {fault}") from None


def _applied(function: Callable[..., Any], *parts: Part) -> Part:
    """Return a function of parts; of numbers alone the number, which is exact to float64."""
    numbers = [part for part in parts if not callable(part)]
    if len(numbers) == len(parts):
        return float(function(*numbers))
    return _composed(function, *parts)


def _composed(function: Callable[..., Any], *parts: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function of parts of which some are functions: one for each form that is common."""
    if len(parts) == 1:
        return lambda given: function(parts[0](given))
    if len(parts) > 2:
        return lambda given: function(*[p(given) if callable(p) else p for p in parts])
    left, right = parts
    if not callable(left):
        return lambda given: function(left, right(given))
    if not callable(right):
        return lambda given: function(left(given), right)
    return lambda given: function(left(given), right(given))
