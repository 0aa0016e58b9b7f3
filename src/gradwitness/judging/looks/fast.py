"""A look at some numbers of each step, or at all where that costs less."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.distant import scalar
from gradwitness.engine.floats import wide
from gradwitness.judging.fan_in import added, adding
from gradwitness.judging.looks.close import is_clear
from gradwitness.judging.looks.norms import peak_of
from gradwitness.judging.looks.projecting import Projecting
from gradwitness.judging.looks.sampled import (
    Along,
    Scattered,
    agreement,
    along,
    brought,
    is_few,
    sample_size,
)
from gradwitness.judging.looks.some import gradient_at, results_at
from gradwitness.judging.looks.step import Formless, Step
from gradwitness.judging.looks.sums import PRODUCTS
from gradwitness.rules.user_rules import is_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.forms import Form
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.looks.some import Evaluate
    from gradwitness.judging.looks.step import Role
    from gradwitness.tape import Call, Value

# Where a number is so many times the largest of a sample, it is looked at, too.
_UNLIKE = 2.0
# Bounds cost so many times the numbers: of a larger share than this, more than the whole without.
_DEAR = 1 / 12
# So many numbers are compared in the time that a sample takes, or a projection, however small: of
# what goes by element and of products, and of rows, which cost more to sample.
_SMALL, _OF_ROWS = 2**14, 2**17


class Fast(Projecting):
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
    _all = False

    def _summed(self, value: Value, terms: Sequence[int]) -> Comparison | None:
        if is_clear(value) and math.prod(value.shape) <= _SMALL:
            return super()._summed(value, terms)
        arithmetic = adding(value.dtype)
        parts = [self._tape.values[n] for n in terms]

        def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
            part = brought(places)
            arrays = [part(0, term)[0] for term in parts]
            if any(array is None for array in arrays):
                raise Unjudgeable("not recorded")
            total = added(
                [Bounded(wide(array), arithmetic) for array in arrays if array is not None]
            )
            return [(0, part(0, value)[0], total, value)]

        found = self._sampled(value.shape, some)
        return None if found is None else found[0][1]

    def _for_all(self, call: Call, form: Form, judged: Iterable[Value]) -> bool:
        """Whether a sample of a step, with bounds, costs less than the whole without them."""
        if is_own(call.base_op) or not all(map(is_clear, judged)):
            return True
        by_rows = not form.by_element and form.rule.name not in PRODUCTS
        return form.largest > (_OF_ROWS if by_rows else _SMALL)

    def _parts(self, step: Step) -> list[tuple[int, Comparison]] | None:
        """Look at some of the results of a step for all."""
        with suppress(Formless):
            return super()._parts(step)
        some, first = results_at(step), step.outputs[0]
        assert first is not None  # noqa: S101 (else there is nothing to look at)
        if step.form.by_element:
            return self._sampled(first.shape, some)
        return self._judged(some, *self._drawn(step, "", first))

    def _gradient(
        self,
        step: Step,
        name: str,
        input_nr: int,
        arrived: Sequence[Value | None],
        arithmetic: Arithmetic | None,
        value: Value,
    ) -> Comparison | None:
        if step.operands[name].shape != value.shape:
            raise Formless
        with suppress(Formless):
            return super()._gradient(step, name, input_nr, arrived, arithmetic, value)
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
                near = places.beside(role, value, int(scalar(np.argmax(np.abs(value.array)))))
                if self._judged(some, near, 1.0) is None:
                    return None
        return found
