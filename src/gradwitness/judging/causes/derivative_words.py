"""The gradient of a function's input as a line of torch code, where it is a short one."""

from __future__ import annotations

import ast
from operator import add, mul, sub
from typing import TYPE_CHECKING, Any, cast

from gradwitness._errors import Unjudgeable
from gradwitness.engine.binding import bind, recorded
from gradwitness.engine.custom_forwards import reaching
from gradwitness.judging.causes.torch_words import DOTS, Words, text_of
from gradwitness.rules.elementwise.complex_numbers import gradient_text
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.engine.binding import Bound
    from gradwitness.tape import Call, Node, Tape

_LONGEST = 120
# Words of the rules' formulas that torch has too.
_TORCH = {
    **dict.fromkeys(
        [
            "abs",
            "ceil",
            "cos",
            "cosh",
            "erf",
            "exp",
            "expm1",
            "floor",
            "log",
            "log1p",
            "log2",
            "sign",
            "sin",
            "sinh",
            "sqrt",
            "tan",
            "tanh",
        ]
    ),
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
}
_FOLDED: dict[type[ast.operator], Any] = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}


def formula(
    tape: Tape, node: Node, names: Mapping[int, str], arrived: Sequence[str], number: int
) -> str:
    """Return what a custom function should send to a value; empty if that is no short line.

    Parameters
    ----------
    names : mapping of int to str
        The inputs' names, by number.
    arrived : sequence of str
        The names of the incoming gradients.
    number : int
        The value.
    """
    calls = [tape.calls[n] for n in node.inner]
    words = Words(tape, calls, names, within=True)
    depending = reaching(calls, {number})
    sent: dict[int, ast.expr] = {
        n: ast.Name(name)
        for n, name in zip(node.outputs, arrived, strict=False)
        if n is not None and n in depending
    }
    try:
        for call in reversed(calls):
            if len(call.outputs) > 1 and not sent.keys().isdisjoint(call.outputs):
                return ""
            output = call.outputs[0] if call.outputs else None
            if call.writes and depending.intersection(call.operands):
                return ""
            if output is None or output not in sent:
                continue
            bound = bind(tape, call, recorded(tape), arithmetic=None, skip=True)
            for operand, index, argument in bound.inputs():
                if not isinstance(argument, Ref) or argument.value not in depending:
                    continue
                if index is not None:
                    return ""
                term = _slope(tape, words, call, bound, operand, sent[output])
                before = sent.get(argument.value)
                both = term if before is None else ast.BinOp(before, ast.Add(), term)
                sent[argument.value] = both
                if len(text_of(both)) > 4 * _LONGEST:
                    return ""
        text = text_of(sent[number]) if number in sent else ""
        text = "" if text.startswith("0") else text
    except (Unjudgeable, _Unwritten, SyntaxError, KeyError, IndexError):
        return ""
    return text if len(text) <= _LONGEST and DOTS not in text else ""


class _Unwritten(Exception):
    """A formula has words that torch has not."""


def _slope(
    tape: Tape, words: Words, call: Call, bound: Bound, operand: str, g: ast.expr
) -> ast.expr:
    """Return what a call sends to an operand, for the gradient of its result."""
    text = gradient_text(bound.rule, operand, False)
    arguments = dict(zip(bound.rule.operands, bound.arguments, strict=True))
    own = arguments[operand]
    output = call.outputs[0]
    if not isinstance(own, Ref) or output is None:
        raise _Unwritten
    written = {"g": g, "y": words.value(output)}
    written |= {n: words.argument(a) for n, a in arguments.items()}
    settings = bound.rule.defaults | bound.parameters
    parsed = ast.parse(text, mode="eval").body
    translated: ast.expr = _Translator(tape, call, written, settings).visit(parsed)
    shape, full = tape.values[own.value].shape, tape.values[output].shape
    spreads = bound.rule.name not in _RESHAPING and shape != full
    if not spreads:
        return translated
    name = words.named(own.value)
    if not name:
        raise _Unwritten
    size = ast.Attribute(ast.Name(name), "shape")
    return ast.Call(ast.Attribute(translated, "sum_to_size"), [size], [])


_RESHAPING = frozenset(
    f"aten.{n}" for n in ["sum", "mean", "mm", "bmm", "t", "transpose", "view", "unsqueeze"]
)


class _Translator(ast.NodeTransformer):
    """Turns the formula of a rule into torch's words."""

    def __init__(
        self, tape: Tape, call: Call, written: Mapping[str, ast.expr], settings: Mapping[str, Any]
    ) -> None:
        self._tape = tape
        self._call = call
        self._written = written
        self._settings = settings

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._written:
            return self._written[node.id]
        value = self._settings.get(node.id)
        if isinstance(value, int | float):
            return ast.Constant(value)
        raise _Unwritten

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        a, b = _number(left), _number(right)
        fold = _FOLDED.get(type(node.op))
        if a is not None and b is not None and fold:
            return ast.Constant(fold(a, b))
        if isinstance(node.op, ast.Mult) and 1 in (a, b):
            return cast("ast.expr", right if a == 1 else left)
        if isinstance(node.op, ast.Pow) and b == 1:
            return cast("ast.expr", left)
        return ast.BinOp(left, node.op, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = self.visit(node.operand)
        return ast.Constant(-1) if _number(operand) == 1 else ast.UnaryOp(node.op, operand)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self.visit(node.value)
        if isinstance(value, ast.Attribute) and value.attr == node.attr == "T":
            return value.value
        return ast.Attribute(value, node.attr)

    def visit_IfExp(self, _: ast.IfExp) -> ast.expr:
        raise _Unwritten

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "where":
            return self._where(*node.args)
        if name == "repeat":
            return self._repeated(self.visit(node.args[0]))
        if name == "count":
            return ast.Constant(self._count())
        if name == "swap":
            array, *axes = map(self.visit, node.args)
            return ast.Call(ast.Attribute(array, "transpose"), axes, [])
        if name == "reshape" and isinstance(node.args[1], ast.Call):
            array, own = self.visit(node.args[0]), self.visit(node.args[1].args[0])
            return ast.Call(ast.Attribute(array, "reshape"), [ast.Attribute(own, "shape")], [])
        if name not in _TORCH:
            raise _Unwritten
        function = ast.Name(f"torch.{_TORCH[name] or name}")
        return ast.Call(function, [self.visit(a) for a in node.args], [])

    def _where(self, condition: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
        match condition:
            case ast.Compare(left=ast.Name(id=name), ops=[ast.Is()]):
                chosen = yes if self._settings.get(name) is None else no
                return cast("ast.expr", self.visit(chosen))
            case ast.Call(func=ast.Name(id="is_within")):
                return self._within(self.visit(yes))
        if isinstance(condition, ast.Compare):
            written: ast.expr = ast.Compare(
                self.visit(condition.left), condition.ops, [*map(self.visit, condition.comparators)]
            )
        else:
            written = self.visit(condition)
        arms = [self.visit(yes), self.visit(no)]
        return ast.Call(ast.Name("torch.where"), [written, *arms], [])

    def _within(self, g: ast.expr) -> ast.expr:
        """Return a gradient where a clamp lets it through."""
        x, low, high = (self._written[name] for name in ("x", "low", "high"))
        for bound, sign in ((low, ast.GtE()), (high, ast.LtE())):
            if not (isinstance(bound, ast.Constant) and bound.value is None):
                g = ast.BinOp(g, ast.Mult(), ast.Compare(x, [sign], [bound]))
        return g

    def _repeated(self, g: ast.expr) -> ast.expr:
        """Return the gradient of a sum, for each of its terms."""
        dim = self._settings.get("dim")
        if not self._settings.get("keepdim") and dim:
            for axis in sorted(dim if isinstance(dim, tuple) else (dim,)):
                g = ast.Call(ast.Attribute(g, "unsqueeze"), [ast.Constant(axis)], [])
        return ast.Call(ast.Attribute(g, "expand_as"), [self._written["x"]], [])

    def _count(self) -> int:
        source, target = self._call.operands[0], self._call.outputs[0] or 0
        sizes = [1, 1]
        for k, number in enumerate((source, target)):
            for length in self._tape.values[number].shape:
                sizes[k] *= length
        return sizes[0] // max(sizes[1], 1)


def _number(written: ast.expr) -> float | None:
    """Return the number that an expression is, if it is one."""
    value = written.value if isinstance(written, ast.Constant) else None
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return cast("float", value) if is_one else None
