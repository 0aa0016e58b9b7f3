"""Rule texts with a run's own names: ``alpha * (A @ B) + beta * b`` as ``x2 W1^T + b1``."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from operator import add, mul, sub, truediv
from typing import TYPE_CHECKING, Any

from gradwitness._printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Precedences, loosest first.
_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)
# Parameters that are not written when they have these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "dim": (None, ()),
    "keepdim": (False,),
    "stride": ((1,), (1, 1), (1, 1, 1)),
    "padding": ((0,), (0, 0), (0, 0, 0)),
    "dilation": ((1,), (1, 1), (1, 1, 1)),
    "groups": (1,),
    "transposed": (False,),
    "output_padding": ((0,), (0, 0), (0, 0, 0)),
    "approximate": ("none",),
    "storage_offset": (None, 0),
}
_REDUCTIONS = ("none", "mean", "sum")
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.Div: truediv,
    ast.Pow: pow,
}

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
}


@dataclass(frozen=True)
class _Written:
    text: str
    precedence: int
    value: Any = None  # the number, where it is one

    def within(self, precedence: int) -> str:
        """Return the text, in parentheses if it binds more loosely than its surroundings."""
        return f"({self.text})" if self.precedence < precedence else self.text


def expression(text: str, names: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
    """Write the right-hand side of a rule's text, ``y = ...`` or without that, with other names.

    Parameters are written by their values; factors and exponents of 1 are left out.
    """
    body = (text.partition("=")[2] if text.startswith("y =") else text).strip()
    try:
        parsed = _parsed(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The formula of a user's own rule may be prose.
        return one_line(body)
    return one_line(_Writer(names, parameters).write(parsed).text)


@lru_cache(maxsize=512)
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def transposed(name: str) -> str:
    """Return the name of a transpose; the transpose of W^T is W."""
    return name.removesuffix("^T") if name.endswith("^T") else f"{name}^T"


class _Writer:
    def __init__(self, names: Mapping[str, str], parameters: Mapping[str, Any]) -> None:
        self._names = names
        self._parameters = dict(parameters)
        reduction = parameters.get("reduction")
        if isinstance(reduction, int) and reduction in range(len(_REDUCTIONS)):
            self._parameters["reduction"] = _REDUCTIONS[reduction]

    def write(self, node: ast.expr) -> _Written:
        """Return one expression."""
        match node:
            case ast.Name(id=name):
                return self._name(name)
            case ast.Constant(value=value):
                return _Written(repr(value), _ATOM, value)
            case ast.Attribute(value=inner, attr="T"):
                return _Written(transposed(self.write(inner).within(_ATOM)), _ATOM)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                operand = self.write(inner)
                if isinstance(operand.value, (int, float)):
                    return _Written(f"{-operand.value}", _UNARY, -operand.value)
                return _Written("-" + operand.within(_UNARY), _UNARY)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(self.write(left), op, self.write(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                sign = _COMPARISONS[type(op)]
                return _Written(f"{self.write(left).text} {sign} {self.write(right).text}", _SUM)
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return self._call(function, arguments)
            case ast.Tuple(elts=elements):
                # Of several results, those that are there.
                bare = [e.value if isinstance(e, ast.Starred) else e for e in elements]
                written = [self.write(each).text for each in bare]
                return _Written(", ".join(each for each in written if each != "None"), _SUM)
            case _:
                return _Written(ast.unparse(node), _SUM)

    def _name(self, name: str) -> _Written:
        if name in self._parameters:
            value = self._parameters[name]
            precedence = _UNARY if isinstance(value, (int, float)) and value < 0 else _ATOM
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            return _Written(text, precedence, value)
        text = self._names.get(name, name)
        # A name that is itself an expression binds as loosely as a sum.
        loose = any(sign in text for sign in " +-*/") and text[0] not in "(["
        return _Written(text, _SUM if loose else _ATOM)

    def _binary(self, left: _Written, op: ast.operator, right: _Written) -> _Written:
        if isinstance(left.value, (int, float)) and isinstance(right.value, (int, float)):
            return _number(left.value, op, right.value)
        if isinstance(op, ast.Add) and right.text == "None":
            # An optional summand that is not there, like a convolution's bias.
            return left
        if isinstance(op, (ast.Add, ast.Sub)):
            sign = "+" if isinstance(op, ast.Add) else "-"
            return _Written(f"{left.text} {sign} {right.within(_PRODUCT)}", _SUM)
        if isinstance(op, ast.Mult):
            return _product(left, right)
        if isinstance(op, ast.Div):
            if _is_number(right, 1):
                return left
            return _Written(f"{left.within(_PRODUCT)} / {right.within(_UNARY)}", _PRODUCT)
        if isinstance(op, ast.MatMult):
            return _Written(f"{left.within(_PRODUCT)} {right.within(_UNARY)}", _PRODUCT)
        if isinstance(op, ast.Pow):
            if _is_number(right, 1):
                return left
            exponent = right.within(_ATOM)
            return _Written(f"{left.within(_ATOM)}^{exponent}", _POWER)
        return _Written(f"{left.within(_ATOM)} ? {right.within(_ATOM)}", _SUM)

    def _decided(self, condition: ast.expr) -> bool | None:
        """Return the value of an ``is None`` test of a parameter; None for other conditions."""
        match condition:
            case ast.Compare(
                left=ast.Name(id=name),
                ops=[ast.Is() | ast.IsNot() as op],
                comparators=[ast.Constant(value=None)],
            ) if name in self._parameters:
                return (self._parameters[name] is None) == isinstance(op, ast.Is)
        return None

    def _call(self, function: str, arguments: list[ast.expr]) -> _Written:
        if function == "channelwise":
            return self.write(arguments[0])
        if function == "where" and (is_true := self._decided(arguments[0])) is not None:
            return self.write(arguments[1 if is_true else 2])
        if function == "share" and "reduction" in self._parameters:
            is_mean = self._parameters["reduction"] == "mean"
            return _Written("n", _ATOM) if is_mean else _Written("1", _ATOM, 1)
        if function == "reduce" and "reduction" in self._parameters:
            terms, how = self.write(arguments[0]), self._parameters["reduction"]
            return terms if how == "none" else _Written(f"{how}({terms.text})", _ATOM)
        if function == "weighed" and self.write(arguments[1]).text == "None":
            return self.write(arguments[0])
        if function == "raised" and self.write(arguments[0]).text == "None":
            return _Written("1", _ATOM, 1)
        parts = []
        for argument in arguments:
            if isinstance(argument, ast.Name) and argument.id in self._parameters:
                value = self._parameters[argument.id]
                if value not in _NEUTRAL.get(argument.id, ()):
                    parts.append(f"{argument.id}={value}".replace(", ", ","))
            else:
                parts.append(self.write(argument).text)
        return _Written(f"{function}({', '.join(parts)})", _ATOM)


def _product(left: _Written, right: _Written) -> _Written:
    """Return a product, leaving out factors of 1 and -1."""
    for factor, other in ((left, right), (right, left)):
        if _is_number(factor, 1):
            return other
        if _is_number(factor, -1):
            return _Written("-" + other.within(_UNARY), _UNARY)
    return _Written(f"{left.within(_PRODUCT)} * {right.within(_UNARY)}", _PRODUCT)


def _number(left: float, op: ast.operator, right: float) -> _Written:
    """Return the result of an operation on two numbers."""
    value = float(_OPERATIONS[type(op)](left, right))
    return _Written(f"{value:.6g}", _UNARY if value < 0 else _ATOM, value)


def _is_number(written: _Written, number: float) -> bool:
    value = written.value
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == number
