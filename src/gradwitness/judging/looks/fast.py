"""A look at some numbers of each step, or at all where that costs less."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients, sending
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.distant import scalar
from gradwitness.engine.floats import wide
from gradwitness.judging.comparing.fan_in import added, adding
from gradwitness.judging.looks.close import is_clear
from gradwitness.judging.looks.listed import listed
from gradwitness.judging.looks.norms import peak_of
from gradwitness.judging.looks.projecting import Projecting
from gradwitness.judging.looks.recurrent import is_recurrent, through_time
from gradwitness.judging.looks.sampled import (
    Places,
    Scattered,
    agreement,
    along,
    brought,
    is_few,
    near,
    sample_size,
)
from gradwitness.judging.looks.some import gradient_at, results_at
from gradwitness.judging.looks.step import Formless, Step, raw
from gradwitness.judging.looks.sums import ATTENTION, PRODUCTS, Sums, sums_made, sums_sent
from gradwitness.rules.user_rules import is_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.forms import Form
    from gradwitness.engine.tiling import Index
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.looks.some import Evaluate
    from gradwitness.judging.looks.step import Role
    from gradwitness.tape import Call, Node, NodeRun, Value

# Where a number is so many times the largest of a sample, it is looked at, too.
_UNLIKE = 2.0
# Bounds cost so many times the numbers: of a larger share than this, more than the whole without.
_DEAR = 1 / 12
# A larger share costs about what the whole does.
_MOST = 1 / 2
# Sums of so many terms are long: 6 sqrt(n) roundings are no more than n / 4.
_LONG = 576
# So many numbers are compared in the time that a sample takes, or a projection, however small: of
# what goes by element and of products, and of rows, which cost more to sample.
_SMALL, _OF_ROWS = 2**14, 2**16


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

    def _summed(self, value: Value, terms: Sequence[int]) -> Comparison | None:
        if is_clear(value) and math.prod(value.shape) <= _SMALL:
            return super()._summed(value, terms)
        arithmetic = adding(value.dtype)
        parts = [self._tape.values[n] for n in terms]

        def some(places: Places, bounded: bool) -> list[tuple[Role, Any, Any, Value]]:
            part = brought(places)
            arrays = [part(0, term)[0] for term in parts]
            if any(array is None for array in arrays):
                raise Unjudgeable("not recorded")
            exact: list[Any] = [wide(array) for array in arrays if array is not None]
            total = (
                added([Bounded(array, arithmetic) for array in exact]) if bounded else sum(exact)
            )
            return [(0, part(0, value)[0], total, value)]

        with suppress(Formless):
            found = self._sampled(value.shape, some, Sums(len(terms)))
            return None if found is None else found[0][1]
        return super()._summed(value, terms)

    def _for_all(self, call: Call, form: Form, judged: Iterable[Value]) -> bool:
        """Whether a sample of a step, with bounds, costs less than the whole without them."""
        if is_own(call.base_op) or not all(map(is_clear, judged)):
            return True
        # Of attention all other rows go into each.
        dear = form.rule.name in PRODUCTS or form.rule.name.startswith(ATTENTION)
        by_rows = not form.by_element and not dear
        return form.largest > (_OF_ROWS if by_rows else _SMALL)

    def _parts(self, step: Step) -> list[tuple[int, Comparison]] | None:
        """Look at some of the results of a step for all."""
        try:
            return super()._parts(step)
        except Formless:
            # Of what is no product, a sample.
            pass
        some, first = results_at(step), step.outputs[0]
        assert first is not None  # noqa: S101 (else there is nothing to look at)
        sums = sums_made(self._tape.values, step.call, step.form, self._norm)
        if step.form.by_element:
            return self._sampled(first.shape, some, sums)
        return self._judged(some, *self._drawn(step, "", first), sums)

    def _at_once(
        self, step: Step, arrived: Sequence[Value | None], sent: dict[str, tuple[int, Value]]
    ) -> dict[int, Comparison | None]:
        values = {name: value for name, (_, value) in sent.items()}
        if not is_recurrent(step, values):
            return {}
        found: dict[int, Comparison | None] = dict.fromkeys(k for k, _ in sent.values())

        def look() -> None:
            for name, looked in through_time(self._tape, step, arrived, values, self._products):
                found[sent[name][0]] = looked

        self._attempt(look)
        return found

    def _gradient(
        self,
        step: Step,
        name: str,
        input_nr: int,
        arrived: Sequence[Value | None],
        arithmetic: Callable[[], Arithmetic | None],
        value: Value,
    ) -> Comparison | None:
        if step.operands[name].shape != value.shape:
            raise Formless
        try:
            return super()._gradient(step, name, input_nr, arrived, arithmetic, value)
        except Formless:
            pass
        if all(v is None for v in arrived):
            return None
        first = step.outputs[0]
        some = gradient_at(step, name, input_nr, arrived, arithmetic, value)
        came = [None if v is None else v.id for v in arrived]
        sums = sums_sent(self._tape.values, step.call, step.form, name, came, value, self._norm)
        if step.form.by_element and first is not None and first.shape == value.shape:
            found = self._sampled(value.shape, some, sums)
            return None if found is None else found[0][1]
        found = self._judged(some, *self._drawn(step, name, value), sums)
        return None if found is None else found[0][1]

    def _parts_sent(
        self, node: Node, node_run: NodeRun, wanted: set[int]
    ) -> Iterator[tuple[int, Index, Any]]:
        """Compute what a node sends; few long sums in the program's own format.

        Whatever its order, a sum of n terms is hardly ever off by more than 6 sqrt(n) u times what
        the sums would be at random (Higham and Mary 2019, theorem 3.1: by chance 2 exp(-18)). Where
        n is so large that this is less than the n / 4 u that are allowed, it counts as exact.
        """
        values = self._tape.values
        came = [values[n] for n in node_run.incoming if n is not None]
        sent = [values[node_run.outgoing[k] or 0] for k in wanted]
        most = max([math.prod(value.shape) for value in sent])
        terms = max([math.prod(value.shape) for value in came]) / most
        read = [*came, *sent]
        if terms >= _LONG:
            read += [values[n] for n in self._tape.calls[node.call or 0].operands]
        if terms < _LONG or not is_few(most) or any(value.dtype != "float32" for value in read):
            yield from super()._parts_sent(node, node_run, wanted)
            return
        numbers = raw(self._tape)
        incoming = [None if n is None else numbers(n) for n in node_run.incoming]
        made = gradients(self._tape, sending(node, wanted), incoming, numbers, None)
        yield from ((k, (), made[k]) for k in wanted)

    def _drawn(self, step: Step, target: str, judged: Value) -> tuple[Places, float]:
        # Of few numbers made of many, as the gradient of a norm's weight, none is left out.
        if is_few(math.prod(judged.shape)) and not step.is_convolution and is_clear(judged):
            raise Formless
        alike: Any = step.together(target)
        if alike:
            operands, _ = step.letters(target) or ({}, ())
            alike = alike, operands.get(target)
        drawn = step.drawn.get(alike) or listed(step, target, self._random)
        drawn = drawn or along(step, target, self._random)
        if alike:
            step.drawn[alike] = drawn
        if drawn[1] > _MOST and is_clear(judged):
            raise Formless
        return drawn

    def _sampled(
        self, shape: tuple[int, ...], some: Evaluate, sums: Sums
    ) -> list[tuple[int, Comparison]] | None:
        share = min(1.0, sample_size(math.prod(shape)) / max(1, math.prod(shape)))
        places = Scattered.drawn(self._random, shape)
        return self._judged(some, places, share, sums)

    def _judged(
        self, some: Evaluate, places: Places, share: float, sums: Sums
    ) -> list[tuple[int, Comparison]] | None:
        """Compare some numbers of each result; None unless all clearly agree.

        Their bounds are worked out only where float64 alone does not tell.
        """

        def close(numbers: Any, expected: Any, value: Value) -> tuple[Comparison, float] | None:
            return near(numbers, expected, value, share, sums, self._norm(value))

        def bounded(numbers: Any, expected: Any, value: Value) -> tuple[Comparison, float] | None:
            return agreement(numbers, expected, value, share, self._norm(value))

        looked = self._compared(some(places, False), close)
        if looked is None:
            if _DEAR < share < 1:
                raise Formless
            looked = self._compared(some(places, True), bounded)
        for role, value, _, largest in looked or ():
            if share < 1 and value.array is not None and peak_of(value.array) > _UNLIKE * largest:
                at = int(scalar(np.argmax(np.abs(value.array))))
                beside = places.beside(role, value, at)
                if self._judged(some, beside, 1.0, sums) is None:
                    return None
        if looked is None:
            return None
        return [(role if isinstance(role, int) else 0, found) for role, _, found, _ in looked]

    def _compared(
        self, parts: list[tuple[Role, Any, Any, Value]], agrees: Callable[..., Any]
    ) -> list[tuple[Role, Value, Comparison, float]] | None:
        """Compare what was computed of each value; None unless all clearly agree."""
        found = []
        for role, numbers, expected, value in parts:
            # All of it is screened for what is not finite.
            finite = numbers is not None and math.isfinite(self._norm(value))
            agreed = agrees(numbers, expected, value) if finite else None
            if agreed is None:
                return None
            found.append((role, value, *agreed))
        return found
