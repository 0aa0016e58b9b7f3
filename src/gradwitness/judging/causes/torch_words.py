"""Recorded operations, and their derivatives, in torch's words and the program's own names."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._cells import line_of
from gradwitness._errors import Unjudgeable
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.tape import Argument, Call, Tape

_INFIX: dict[str, tuple[type[ast.operator], bool]] = {
    "add": (ast.Add, False),
    "sub": (ast.Sub, False),
    "rsub": (ast.Sub, True),
    "mul": (ast.Mult, False),
    "div": (ast.Div, False),
    "pow": (ast.Pow, False),
    "mm": (ast.MatMult, False),
    "bmm": (ast.MatMult, False),
    "mv": (ast.MatMult, False),
}
_COMPARED: dict[str, type[ast.cmpop]] = {
    "gt": ast.Gt, "ge": ast.GtE, "lt": ast.Lt, "le": ast.LtE, "eq": ast.Eq, "ne": ast.NotEq,
}  # fmt: skip
# Passed on as they are, for who reads.
_SILENT = frozenset(("detach", "alias", "clone", "lift_fresh", "contiguous"))
# Written as methods: `x.sum(-1, keepdim=True)`.
_METHODS = frozenset(
    [
        "sum",
        "mean",
        "view",
        "reshape",
        "expand",
        "transpose",
        "permute",
        "unsqueeze",
        "squeeze",
        "select",
        "amax",
        "amin",
        "var",
        "std",
        "cumsum",
        "index_select",
        "gather",
        "masked_fill",
    ]
)
# Operations in one expression.
_LONGEST = 40
DOTS = "..."
_TORCH = {"_softmax": "softmax", "_log_softmax": "log_softmax", "_unsafe_view": "view"}


class Words:
    """Writes the forward of one function.

    Parameters
    ----------
    tape : Tape
    calls : sequence of Call
        Those of the forward.
    names : mapping of int to str
        What values are called: the inputs.
    within : bool
        Whether functions are written as in a program, ``torch.exp``.
    """

    def __init__(
        self, tape: Tape, calls: Sequence[Call], names: Mapping[int, str], *, within: bool
    ) -> None:
        self._tape = tape
        self._makers = {n: call for call in calls for n in call.outputs if n is not None}
        self._prefix = "torch." * within
        self._names = {**_assigned(calls), **names}
        # How many operations it takes to write a value out: a step of a loop repeats those before.
        self._sizes: dict[int, int] = {}
        for call in calls:
            self.measure(call)

    def measure(self, call: Call) -> None:
        """Work out how long a call's results are, with the names that values before it have now."""
        parts = (0 if n in self._names else self._sizes.get(n, 0) for n in call.operands)
        size = min(1 + sum(parts), _LONGEST + 1)
        self._sizes.update((n, size) for n in call.outputs if n is not None)

    def name(self, number: int, name: str) -> None:
        """Give a value a name; calls that use it are shorter when they are next measured."""
        self._names[number] = name

    def named(self, number: int) -> str:
        """Return what the program calls a value, or an empty string."""
        return self._names.get(number, "")

    def line(self, call: Call) -> str:
        """Return a call as the program might have it: ``s = sigmoid(x)``."""
        name = next((self._names[n] for n in call.outputs if n in self._names), "")
        text = text_of(self.call(call))
        return f"{name} = {text}" if name else text

    def value(self, number: int) -> ast.expr:
        """Return a value: by its name, or as what made it; of very many operations as dots."""
        if number in self._names:
            return ast.Name(self._names[number])
        if self._sizes.get(number, 0) > _LONGEST:
            return ast.Name(DOTS)
        if number in self._makers:
            return self.call(self._makers[number])
        value = self._tape.values[number]
        if value.array is not None and value.shape == ():
            return ast.Constant(self._plain(value.array[()].item()))
        if self._prefix and not value.name:
            raise Unjudgeable("a program cannot write a constant that has no name")
        return ast.Name(value.name or f"constant{number}")

    def call(self, call: Call) -> ast.expr:
        """Return what a call computes."""
        name = call.base_op.partition(".")[2]
        arguments = call.arguments
        given = [self.argument(a) for a in arguments.values()]
        if name in _SILENT or (name == "_to_copy" and not self._prefix):
            return given[0]
        if name in _COMPARED:
            return ast.Compare(given[0], [_COMPARED[name]()], [given[1]])
        if name in _INFIX and arguments.get("rounding_mode") is None:
            operator, turned = _INFIX[name]
            left, right = given[:2]
            if arguments.get("alpha", 1) != 1:
                alpha = self.argument(arguments["alpha"])
                left = ast.BinOp(alpha, ast.Mult(), left) if turned else left
                right = right if turned else ast.BinOp(alpha, ast.Mult(), right)
            return ast.BinOp(*((right, operator(), left) if turned else (left, operator(), right)))
        if name == "neg":
            return ast.UnaryOp(ast.USub(), given[0])
        if name == "t":
            return ast.Attribute(given[0], "T")
        return self._function(_TORCH.get(name, name), arguments)

    def _function(self, name: str, arguments: Mapping[str, Argument]) -> ast.expr:
        """Return a call with its arguments, but for those that are left out."""
        positional: list[ast.expr] = []
        keywords: list[ast.keyword] = []
        for key, argument in arguments.items():
            if argument is None or argument is False or key in _UNSAID:
                continue
            by_name = keywords or len(positional) < list(arguments).index(key)
            if by_name or argument is True:
                keywords.append(ast.keyword(key, self.argument(argument)))
            else:
                positional.append(self.argument(argument))
        if name in _METHODS and positional:
            return ast.Call(ast.Attribute(positional[0], name), _spread(positional[1:]), keywords)
        return ast.Call(ast.Name(self._prefix + name), positional, keywords)

    def argument(self, argument: Argument) -> ast.expr:
        """Return an argument of a call."""
        if isinstance(argument, Ref):
            return self.value(argument.value)
        if isinstance(argument, tuple):
            return ast.List([self.argument(element) for element in argument])
        if isinstance(argument, float):
            return ast.Constant(self._plain(argument))
        return ast.Constant(argument)

    def _plain(self, number: Any) -> Any:
        """Return a number as a program needs it, and for who reads as float32 prints it."""
        return number if self._prefix or not isinstance(number, float) else in_float32(number)


_UNSAID = frozenset(
    ("dtype", "layout", "device", "pin_memory", "memory_format", "half_to_float", "non_blocking")
)


def _spread(arguments: list[ast.expr]) -> list[ast.expr]:
    """Return arguments of a method: one axis without its list."""
    return [a.elts[0] if isinstance(a, ast.List) and len(a.elts) == 1 else a for a in arguments]


def in_float32(number: float) -> float:
    """Return a number with as many digits as tell it apart from its neighbours in float32."""
    with np.errstate(over="ignore", under="ignore"):
        short = float(str(np.float32(number)))
    return short if short and np.isfinite(short) else number


def text_of(written: ast.expr) -> str:
    """Return code as text."""
    return ast.unparse(ast.fix_missing_locations(written))


def _assigned(calls: Sequence[Call]) -> dict[int, str]:
    """Return the variables that the program's lines assign results to."""
    last = {call.source.line: call for call in calls if not call.base_op.endswith(".detach")}
    names = {}
    for line, call in last.items():
        file, _, number = line.rpartition(":")
        text = line_of(file, int(number)) if number.isdecimal() else ""
        try:
            parsed = ast.parse(text).body
        except SyntaxError:
            continue
        match parsed:
            case [ast.Assign(targets=[ast.Name(id=name)])] if call.outputs[0] is not None:
                names[call.outputs[0]] = name
    return names
