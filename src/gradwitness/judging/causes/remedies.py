"""What to write instead of a wrong backward, as one line of Python."""

from __future__ import annotations

import ast
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.hypotheses.arrangement import TRANSPOSED
from gradwitness.diagnose.hypotheses.cotangents import IGNORED, MISREAD
from gradwitness.judging.causes.torch_words import in_float32, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradwitness.diagnose.rank import Cause
    from gradwitness.diagnose.single_step import Sent
    from gradwitness.judging.custom.functions import Method

_RESULTS = 9  # of a function whose backward takes any number of gradients


class Returned:
    """The line of a backward that returns its gradients.

    Parameters
    ----------
    method : Method or None
    line : int
        That of the wrong gradient; the line that returns it is there or further down.
    positions : sequence of str
        The names of forward's arguments, for each of which backward returns something.
    """

    def __init__(self, method: Method | None, line: int, positions: Sequence[str]) -> None:
        self.arrived: list[str] = []
        self.assigned: set[str] = set()
        self.kept: set[str] = set()
        self._elements: list[ast.expr] = []
        self._positions = list(positions)
        if method is None or not method.text:
            return
        try:
            parsed = ast.parse(textwrap.dedent(method.text)).body[0]
        except (SyntaxError, IndexError):
            return
        if not isinstance(parsed, ast.FunctionDef):
            return
        several = parsed.args.vararg
        names = [a.arg for a in parsed.args.args]
        # A class method has its class before the context.
        self.arrived = names[names.index("ctx") + 1 if "ctx" in names else 1 :]
        self.arrived += [f"{several.arg}[{k}]" for k in range(_RESULTS)] if several else []
        for n in ast.walk(parsed):
            if isinstance(n, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                targets = n.targets if isinstance(n, ast.Assign) else [n.target]
                stored = {m.id for t in targets for m in ast.walk(t) if isinstance(m, ast.Name)}
                self.assigned |= stored
                self.kept |= stored if isinstance(n.value, ast.Attribute) else set()
        returns = [n for n in ast.walk(parsed) if isinstance(n, ast.Return) and n.value]
        after = [r for r in returns if (r.end_lineno or 0) + method.line - 1 >= line]
        value = min(after, key=lambda r: r.lineno).value if after else None
        elements = value.elts if isinstance(value, ast.Tuple) else [value] if value else []
        plain = not any(isinstance(e, ast.Starred | ast.IfExp) for e in elements)
        if plain and len(elements) == len(positions):
            self._elements = elements

    def with_(self, changed: Mapping[str, Callable[[ast.expr], ast.expr]]) -> str:
        """Return the line with other gradients for some arguments; empty if it is not known."""
        if not self._elements or not changed.keys() <= set(self._positions):
            return ""
        return self._line(
            [
                changed[name](element) if name in changed else element
                for name, element in zip(self._positions, self._elements, strict=True)
            ]
        )

    def swapped(self, a: str, b: str) -> str:
        """Return the line with the gradients of two arguments in each other's place."""
        if not self._elements or not {a, b} <= set(self._positions):
            return ""
        elements, at = list(self._elements), self._positions.index
        elements[at(a)], elements[at(b)] = elements[at(b)], elements[at(a)]
        return self._line(elements)

    def gradient(self, name: str, text: str, *, anew: bool) -> str:
        """Return a line with the gradient of an argument, and what it needs of forward's.

        Empty if that is what stands there. ``anew``: what backward computes anew is not what
        forward had.
        """
        read = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)} - {"torch"}
        present = {a.partition("[")[0] for a in self.arrived}
        missing = sorted(read - present - (self.kept if anew else self.assigned))
        there = dict(zip(self._positions, self._elements, strict=False)).get(name)
        if not missing and there is not None and text_of(there) == text:
            return ""
        needs = f"  # with {listed(missing)} saved in forward" if missing else ""
        return f"grad_{name} = {text}{needs}"

    @staticmethod
    def _line(elements: list[ast.expr]) -> str:
        text = ", ".join(text_of(element) for element in elements)
        return f"return {text}"


def remedy(cause: Cause, sent: Sent, returned: Returned, arrived: Sequence[Any], dtype: str) -> str:
    """Return the line that mends a cause, if a change of the returned line does.

    Each change is tried on the numbers that were sent, of some dtype, before it is proposed.
    """
    name = sent.name
    if cause.cause == MISREAD and returned.arrived:
        return f"{returned.arrived[0]} = {returned.arrived[0]}.contiguous()"
    if cause.cause.startswith("gradients of ") and len(cause.explains) == 2:
        return returned.swapped(*cause.explains)
    if sent.claim.shape != sent.right.shape:
        return ""
    if cause.cause == IGNORED and len(arrived) == 1 and arrived[0].shape == sent.claim.shape:
        g = ast.Name(returned.arrived[0] if returned.arrived else "g")
        if _mends(arrived[0] * sent.claim, sent):
            return returned.with_({name: lambda e: ast.BinOp(g, ast.Mult(), e)})
    if cause.cause == TRANSPOSED and sent.claim.ndim == 2 and _mends(sent.claim.T, sent):
        return returned.with_({name: lambda e: ast.Attribute(e, "T")})
    right = float(np.vdot(sent.right, sent.right))
    factor = float(np.vdot(sent.right, sent.claim)) / right if right else 0.0
    factor = factor if np.isnan(cause.coefficient) else cause.coefficient
    if not factor or not np.isfinite(factor) or not _mends(sent.claim / factor, sent):
        return ""
    if factor == -1:
        return returned.with_({name: lambda e: ast.UnaryOp(ast.USub(), e)})
    by, inverse = (_plain(number, dtype) for number in (factor, 1 / factor))
    if len(str(by)) > len(str(inverse)) or (abs(factor) < 1 and len(str(by)) == len(str(inverse))):
        return returned.with_({name: lambda e: ast.BinOp(ast.Constant(inverse), ast.Mult(), e)})
    return returned.with_({name: lambda e: ast.BinOp(e, ast.Div(), ast.Constant(by))})


def _mends(changed: Any, sent: Sent) -> bool:
    largest = float(np.max(np.abs(sent.right), initial=0.0)) or 1.0
    grown = max(1.0, float(np.max(np.abs(changed), initial=0.0)) / largest)
    return bool(np.all(np.abs(changed - sent.right) <= grown * 4 * np.max(sent.allowance)))


def _plain(number: float, dtype: str) -> float | int:
    """Return a factor with the digits that the format of the gradient tells apart."""
    rounded = number if dtype == "float64" else in_float32(number)
    return int(rounded) if rounded == int(rounded) else rounded
