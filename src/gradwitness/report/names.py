"""Symbols for values, as written on paper: x2, W1, b1, W1^T."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness._printable import one_line
from gradwitness.engine.binding import Bound, bind, over_complex, recorded
from gradwitness.judging.finding import Step
from gradwitness.report.expressions import expression, transposed
from gradwitness.rules.elementwise.complex_numbers import gradient_text
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Argument, Call, Node, Tape


class Names:
    """Gives every value of a tape a symbol.

    Parameters are numbered by module in the order of use: a module's weight and bias share a
    number. Results of calls are x1, x2, ...; the transpose of a named value keeps its name with ^T.
    Data keeps the user's name; the root of a backward pass is L.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._symbols: dict[int, str] = {}
        self._owners: dict[str, int] = {}
        self._results = 0
        roots = [tape.nodes[e.node].outputs[e.index] for s in tape.sweeps for e, _ in s.roots]
        symbols = dict.fromkeys(root for root in roots if root is not None)
        for count, root in enumerate(symbols, start=1):
            self._symbols[root] = "L" if len(symbols) == 1 else f"L{count}"
        for call in tape.calls:
            if call.during is None:
                self._name_call(call)

    def of(self, value: int | None) -> str:
        """Return a value's symbol."""
        if value is None:
            return "nothing"
        if value not in self._symbols:
            self._symbols[value] = self._outside(value)
        return self._symbols[value]

    def result(self, finding: Finding) -> str:
        """Return which result of its call a finding is about, if it has several."""
        of_call = finding.step is Step.FORWARD and finding.call is not None
        outputs = self._tape.calls[finding.call or 0].outputs if of_call else ()
        number = outputs[finding.tensor_nr] if len(outputs) > 1 else None
        return "" if number is None else self._tape.values[number].name or self.of(number)

    def equation(self, call: Call) -> str:
        """Return a call as an equation: ``x3 = x2 W1^T + b1``."""
        outputs = ", ".join(self.of(n) for n in call.outputs if n is not None)
        formula = self.expression(call)
        if formula == outputs:
            # The symbol already says it: use words instead.
            formula = f"transpose({transposed(formula)})" if "^T" in formula else "the same numbers"
        return f"{outputs} = {formula}"

    def expression(self, call: Call) -> str:
        """Return a call's formula over the symbols of its operands."""
        bound = self.bound(call)
        if bound is None:
            operands = ", ".join(
                self._argument(a) for a in call.arguments.values() if a is not None
            )
            return f"{call.base_op.partition('.')[2]}({operands})"
        return expression(bound.rule.text, self._operands(bound), self._settings(bound))

    def gradients(self, call: Call) -> list[tuple[str, str]]:
        """Return, for each differentiable operand, its symbol and the formula of its gradient."""
        bound = self.bound(call)
        if bound is None:
            return []
        outputs = ", ".join(self.of(n) for n in call.outputs if n is not None)
        names = {**self._operands(bound), "g": "g", "y": outputs}
        pairs = []
        for name, _, argument in bound.inputs():
            text = gradient_text(bound.rule, name, over_complex(self._tape, call))
            formula = expression(text, names, self._settings(bound))
            pairs.append((self._argument(argument), formula))
        return pairs

    def sent(self, node: Node) -> list[str]:
        """Return what a node sends as equations; an equal one, of x * x, is told once."""
        if node.leaf is not None:
            return [f"{self.of(node.leaf)}.grad += g"]
        if node.call is None:
            return []
        pairs = zip(self.gradients(self._tape.calls[node.call]), node.edges, strict=False)
        told = Counter(f"d{symbol} = {formula}" for (symbol, formula), edge in pairs if edge)
        return [f"{one}, {count} times" if count > 1 else one for one, count in told.items()]

    def bound(self, call: Call) -> Bound | None:
        """Return a call with its rule, without numbers; None if it has no rule."""
        try:
            return bind(self._tape, call, recorded(self._tape), arithmetic=None, skip=True)
        except Unjudgeable:
            return None

    def _operands(self, bound: Bound) -> dict[str, str]:
        pairs = zip(bound.rule.operands, bound.arguments, strict=True)
        return {name: self._argument(a) for name, a in pairs if not _is_setting(a)}

    def _settings(self, bound: Bound) -> dict[str, Any]:
        pairs = zip(bound.rule.operands, bound.arguments, strict=True)
        settings = bound.rule.defaults | bound.parameters
        return settings | {name: a for name, a in pairs if _is_setting(a)}

    def _argument(self, argument: Argument) -> str:
        if isinstance(argument, Ref):
            return self.of(argument.value)
        if isinstance(argument, tuple):
            return "(" + ", ".join(map(self._argument, argument)) + ")"
        return one_line(f"{argument}")

    def _name_call(self, call: Call) -> None:
        for argument in call.arguments.values():
            self._argument(argument)
        first = next(iter(call.arguments.values()), None)
        source = self.of(first.value) if isinstance(first, Ref) else ""
        for output in call.outputs:
            if output is None or output in self._symbols:
                continue
            if self._tape.values[output].requires_grad:
                # A parameter created inside the recorded block.
                self.of(output)
                continue
            if call.base_op == "aten.t" and source[:1] in "WbP":
                self._symbols[output] = transposed(source)
            elif call.base_op == "aten.detach":
                self._symbols[output] = source
            else:
                self._results += 1
                self._symbols[output] = f"x{self._results}"

    def _outside(self, number: int) -> str:
        value = self._tape.values[number]
        if value.requires_grad and "." in value.name:
            owner, _, part = value.name.rpartition(".")
            index = self._owners.setdefault(owner, len(self._owners) + 1)
            letter = {"weight": "W", "bias": "b"}.get(part)
            return f"{letter}{index}" if letter else f"P{index}.{part}"
        if value.name:
            return value.name.replace("weight", "W").replace("bias", "b")
        if value.array is not None and value.shape == ():
            return f"{value.array[()]:.6g}"
        kind = "p" if value.requires_grad else "c"
        return f"{kind}{number}"


def _is_setting(argument: Argument) -> bool:
    """Whether an operand is a plain number, which is printed as it is."""
    return isinstance(argument, (int, float)) and not isinstance(argument, bool)
