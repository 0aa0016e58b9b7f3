"""A look at all numbers of each step, and at products by random projections where they are dear.

On a device float64 takes many times as long as the program's own format.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.distant import lives_elsewhere, scalar
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.looks.convolved import Convolutions
from gradwitness.judging.looks.products import Products
from gradwitness.judging.looks.step import Formless, Step, step_of
from gradwitness.judging.looks.sums import PRODUCTS, sums_made, sums_sent
from gradwitness.judging.looks.whole import Whole
from gradwitness.judging.note import Note
from gradwitness.rules.registry import ADDED
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.forms import Form
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, Node, NodeRun, Tape, Value


def elsewhere(tape: Tape, failure: str) -> Iterator[Note]:
    """Yield notes on what should have been computed where it lives, and was not."""
    if "CuPy" in tape.about:
        text = f"CuPy is installed, but cannot be used: {tape.about['CuPy']}. "
        yield Note("copied to the host", text + _ON_HOST)
    if failure:
        text = f"A look at a step on its device failed: {failure}. "
        yield Note("judged on the host", text + _ON_HOST)


_ON_HOST = "What this is about was copied to the host and judged there: no verdict depends on it."


class Projecting(Whole):
    """Looks at all numbers of a step, but at products on a device by random projections.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    records : Records
        Its numbers.
    seed : int, optional
        Of the witness's own random numbers; by default from the system.
    """

    def __init__(self, tape: Tape, records: Records, seed: int | None = None) -> None:
        super().__init__(tape, records)
        self._random = np.random.default_rng(seed)
        self._convolutions = Convolutions(self._random)
        self._products = Products(self._random, records.exposed)

    def _for_all(self, call: Call, form: Form, judged: Iterable[Value]) -> bool:
        """Whether some of a step may stand for all."""
        del judged
        if form.rule.name not in PRODUCTS or form.largest <= self._few:
            return False
        return any(lives_elsewhere(self._tape.values[n]) for n in call.operands)

    def _made(self, call: Call, form: Form) -> list[tuple[int, Comparison]] | None:
        values = self._tape.values
        if self._for_all(call, form, (values[n] for n in call.outputs if n is not None)):
            with suppress(Formless):
                step = step_of(values, call)
                looked: list[tuple[int, Comparison]] | None = self._attempt(self._parts, step)
                if looked is not None:
                    return looked
        return super()._made(call, form)

    def _moved(self, call: Call) -> list[tuple[int, Comparison]] | None:
        found = super()._moved(call)
        if found and call.base_op == "aten.t":
            (given,), (made,) = call.operands, call.outputs
            if made is not None and self._tape.values[given].requires_grad:
                self._products.transposed(given, made)
        return found

    def _parts(self, step: Step) -> list[tuple[int, Comparison]] | None:
        """Look at some of the results of a step for all."""
        first = step.outputs[0] if step.outputs else None
        if first is None:
            return None
        if step.rule.name not in PRODUCTS:
            raise Formless
        looked = self._projected(step, "", None, first)
        return None if looked is None else [(0, looked)]

    def _gradients(
        self, node: Node, call: Call, form: Form, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        found: dict[int, Comparison] = {}
        if self._for_all(call, form, sent.values()):
            with suppress(Formless):
                step = step_of(self._tape.values, call)
                found = self._sent_parts(node, step, node_run, sent)
        rest = {k: value for k, value in sent.items() if k not in found}
        if rest:
            found |= super()._gradients(node, call, form, node_run, rest)
        return found

    def _sent_parts(
        self, node: Node, step: Step, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        """Look at some of each gradient for all."""
        call, values = step.call, self._tape.values
        begun = node.outputs[0] if node.outputs else None
        constants = call.outputs.index(begun) if begun in call.outputs else 0
        arrived = [None] * constants + [None if n is None else values[n] for n in node_run.incoming]
        for value, output in zip(arrived, step.outputs, strict=False):
            if value is not None and (output is None or output.shape != value.shape):
                raise Unjudgeable("a gradient of another shape")
        inputs = step.inputs()
        if len(inputs) != len(node.edges):
            raise Unjudgeable("edges that the rule does not know")
        # Only bounds need it.
        arithmetic = partial(backward_arithmetic, self._tape, node, node_run)
        at_once = self._at_once(step, arrived, {inputs[k][0]: (k, v) for k, v in sent.items()})
        found = {k: looked for k, looked in at_once.items() if looked is not None}
        for k, value in sent.items():
            if k in at_once:
                continue
            name, index, argument = inputs[k]
            if index is not None or not isinstance(argument, Ref):
                continue
            given = step, name, k, arrived, arithmetic, value
            try:
                looked = self._attempt(self._gradient, *given)
            except Formless:
                continue
            if looked is not None:
                found[k] = looked
        return found

    def _at_once(
        self, step: Step, arrived: Sequence[Value | None], sent: dict[str, tuple[int, Value]]
    ) -> dict[int, Comparison | None]:
        """Look at gradients that are made in one go, given with their inputs by operand."""
        del step, arrived, sent
        return {}

    def _gradient(
        self,
        step: Step,
        name: str,
        input_nr: int,
        arrived: Sequence[Value | None],
        arithmetic: Callable[[], Arithmetic | None],
        value: Value,
    ) -> Comparison | None:
        """Look at some of a gradient for all."""
        del input_nr, arithmetic
        g = arrived[0] if len(arrived) == 1 else None
        if step.rule.name not in PRODUCTS or step.operands[name].shape != value.shape:
            raise Formless
        return None if g is None else self._projected(step, name, g, value)

    def _projected(
        self, step: Step, target: str, g: Value | None, value: Value
    ) -> Comparison | None:
        if step.form.over_complex:
            raise Formless
        if not step.is_convolution:
            looked = self._products.look(step, target, g, value, self._norms.get(value.id))
            if looked is None:
                return self._without_a_factor(step, target, g, value)
            self._norms.setdefault(value.id, looked.norm)
            return looked
        values, call, form = self._tape.values, step.call, step.form
        if g is None:
            sums = sums_made(values, call, form, self._norm)
        else:
            sums = sums_sent(values, call, form, target, [g.id], value, self._norm)
        return self._convolutions.look(step, target, g, value, sums, self._norm(value))

    def _without_a_factor(
        self, step: Step, target: str, g: Value | None, value: Value
    ) -> Comparison | None:
        """Return the comparison of the zeros that a factor of zeros makes, as a first state is."""
        scale = step.call.arguments.get("alpha", 1)
        whole = target != ADDED and (g is not None or ADDED not in step.operands)
        if not (whole and _is_zero(value) and isinstance(scale, int | float)):
            return None
        others = [v for name, v in step.operands.items() if name not in (target, ADDED)]
        factors = others if g is None else [g, *others]
        finite = math.isfinite(scale) and all(math.isfinite(self._norm(v)) for v in factors)
        return self._exactly(value) if finite and any(map(_is_zero, factors)) else None


def _is_zero(value: Value) -> bool:
    return value.array is not None and not scalar(value.array.any())
