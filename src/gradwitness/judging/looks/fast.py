"""A look at some numbers of each step, or at all where that costs less."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import wide
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.fan_in import added, adding
from gradwitness.judging.looks.close import is_clear
from gradwitness.judging.looks.norms import peak_of
from gradwitness.judging.looks.projected import projected
from gradwitness.judging.looks.sampled import (
    Along,
    Scattered,
    agreement,
    along,
    is_few,
    sample_size,
)
from gradwitness.judging.looks.some import gradient_at, results_at
from gradwitness.judging.looks.step import Formless, Step, step_of
from gradwitness.judging.looks.sums import PRODUCTS
from gradwitness.judging.looks.whole import Whole
from gradwitness.rules.user_rules import is_own
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.forms import Form
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.looks.some import Evaluate
    from gradwitness.judging.looks.step import Role
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, Node, NodeRun, Tape, Value

# Where a number is so many times the largest of a sample, it is looked at, too.
_UNLIKE = 2.0
# Bounds cost so many times the numbers: of a larger share than this, more than the whole without.
_DEAR = 1 / 12
# So many numbers are compared in the time that a sample takes, or a projection, however small: of
# what goes by element and of products, and of rows, which cost more to sample.
_SMALL, _OF_ROWS = 2**14, 2**17


class Fast(Whole):
    """Looks at some numbers of each step, if that costs less than all.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    records : Records
        Its numbers.
    seed : int, optional
        Of the witness's own random numbers; by default from the system.
    """

    # Without bounds even few numbers cost less.
    _few = 0

    def __init__(self, tape: Tape, records: Records, seed: int | None = None) -> None:
        super().__init__(tape, records)
        self._random = np.random.default_rng(seed)

    def _summed(self, value: Value, terms: Sequence[int]) -> Comparison | None:
        arithmetic = adding(value.dtype)
        parts = [self._tape.values[n] for n in terms]

        def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
            arrays = [places.part(0, part)[0] for part in parts]
            if any(array is None for array in arrays):
                raise Unjudgeable("not recorded")
            total = added(
                [Bounded(wide(array), arithmetic) for array in arrays if array is not None]
            )
            return [(0, places.part(0, value)[0], total, value)]

        found = self._sampled(value.shape, some)
        return None if found is None else found[0][1]

    def _made(self, call: Call, form: Form) -> list[tuple[int, Comparison]] | None:
        values = self._tape.values
        if not self._is_small(call, form, (values[n] for n in call.outputs if n is not None)):
            with suppress(Formless):
                return self._parts(step_of(values, call))
        return super()._made(call, form)

    def _is_small(self, call: Call, form: Form, judged: Iterable[Value]) -> bool:
        """Whether a step costs less as a whole, without bounds, than a sample of it with them."""
        if is_own(call.base_op) or not all(map(is_clear, judged)):
            return False
        by_rows = not form.by_element and form.rule.name not in PRODUCTS
        return form.largest <= (_OF_ROWS if by_rows else _SMALL)

    def _parts(self, step: Step) -> list[tuple[int, Comparison]] | None:
        """Look at some of the results of a step for all."""
        first = step.outputs[0] if step.outputs else None
        if first is None:
            return None
        if step.rule.name in PRODUCTS:
            with suppress(Formless):
                looked = projected(step, "", None, first, self._random)
                looked = None if looked is None else self._remembered(first, looked)
                return None if looked is None else [(0, looked)]

        some = results_at(step)
        if step.form.by_element:
            return self._sampled(first.shape, some)
        return self._judged(some, *self._drawn(step, "", first))

    def _gradients(
        self, node: Node, call: Call, form: Form, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        formless = set(sent)
        found: dict[int, Comparison] = {}
        if not self._is_small(call, form, sent.values()):
            with suppress(Formless):
                step = step_of(self._tape.values, call)
                found = self._sent_parts(node, step, node_run, sent, formless)
        if formless:
            rest = {k: value for k, value in sent.items() if k in formless}
            found |= super()._gradients(node, call, form, node_run, rest)
        return found

    def _sent_parts(
        self,
        node: Node,
        step: Step,
        node_run: NodeRun,
        sent: dict[int, Value],
        formless: set[int],
    ) -> dict[int, Comparison]:
        """Look at some of each gradient for all; leave in ``formless`` what cannot be."""
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
        arithmetic = backward_arithmetic(self._tape, node, node_run)
        found = {}
        for k, value in sent.items():
            name, index, argument = inputs[k]
            if index is not None or not isinstance(argument, Ref):
                continue
            with suppress(Formless):
                looked = self._attempt(
                    partial(self._gradient, step, name, k, arrived, arithmetic, value)
                )
                formless.discard(k)
                if looked is not None:
                    found[k] = looked
        return found

    def _gradient(
        self,
        step: Step,
        name: str,
        input_nr: int,
        arrived: Sequence[Value | None],
        arithmetic: Arithmetic | None,
        value: Value,
    ) -> Comparison | None:
        g = arrived[0] if len(arrived) == 1 else None
        if step.operands[name].shape != value.shape:
            raise Formless
        if step.rule.name in PRODUCTS:
            with suppress(Formless):
                looked = None if g is None else projected(step, name, g, value, self._random)
                return None if looked is None else self._remembered(value, looked)
        if arithmetic is None:
            return None
        first = step.outputs[0]
        some = gradient_at(step, name, input_nr, arrived, arithmetic, value)
        if step.form.by_element and first is not None and first.shape == value.shape:
            found = self._sampled(value.shape, some)
            return None if found is None else found[0][1]
        found = self._judged(some, *self._drawn(step, name, value))
        return None if found is None else found[0][1]

    def _drawn(self, step: Step, target: str, judged: Value) -> tuple[Along, float]:
        drawn = along(step, target, self._random)
        # Of few numbers made of many, as the gradient of a norm's weight, none is left out.
        few = is_few(math.prod(judged.shape)) and drawn[1] < 1
        if (few or drawn[1] > _DEAR) and is_clear(judged):
            raise Formless
        return drawn

    def _sampled(
        self, shape: tuple[int, ...], some: Evaluate
    ) -> list[tuple[int, Comparison]] | None:
        share = min(1.0, sample_size(math.prod(shape)) / max(1, math.prod(shape)))
        return self._judged(some, Scattered.drawn(self._random, shape), share)

    def _judged(
        self, some: Evaluate, places: Scattered | Along, share: float
    ) -> list[tuple[int, Comparison]] | None:
        """Compare some numbers of each result; None unless all clearly agree."""
        found: list[tuple[int, Comparison]] = []
        for role, numbers, expected, value in some(places):
            agrees = None if numbers is None else agreement(numbers, expected, value, share)
            looked = None if agrees is None else self._screened(value, agrees[0])
            if agrees is None or looked is None:
                return None
            found.append((role if isinstance(role, int) else 0, looked))
            if share < 1 and value.array is not None and peak_of(value.array) > _UNLIKE * agrees[1]:
                near = places.beside(role, value, int(np.argmax(np.abs(value.array))))
                if self._judged(some, near, 1.0) is None:
                    return None
        return found

    def _screened(self, value: Value, looked: Comparison) -> Comparison | None:
        """Return a comparison with the value's norm; None if that is not finite."""
        norm = self._norm(value)
        return replace(looked, norm=norm) if math.isfinite(norm) else None

    def _remembered(self, value: Value, looked: Comparison) -> Comparison | None:
        if math.isnan(looked.norm):
            return self._screened(value, looked)
        self._norms[value.id] = looked.norm
        return looked
