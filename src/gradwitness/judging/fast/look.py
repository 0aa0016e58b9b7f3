"""A look at each step; None where it has to be judged in full.

It refutes nothing by itself: whatever does not clearly agree is judged in full, at once and alone.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients, sending, vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import is_float, wide
from gradwitness.engine.foreach import is_foreach, members
from gradwitness.engine.forward import evaluate
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.carried_bounds import added, adding
from gradwitness.judging.fast.close import close, exact, is_clear
from gradwitness.judging.fast.moved import LOOKS_UP, MOVES, Views, is_same, kind_of
from gradwitness.judging.fast.norms import norm_of, peak_of
from gradwitness.judging.fast.projected import projected
from gradwitness.judging.fast.sampled import (
    Along,
    Scattered,
    agreement,
    along,
    is_few,
    sample_size,
)
from gradwitness.judging.fast.step import Formless, Step, raw, step_of
from gradwitness.rules.graph_terms import DRAWN
from gradwitness.rules.registry import ELEMENTWISE
from gradwitness.rules.user_rules import is_own
from gradwitness.tape import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.fast.step import Role
    from gradwitness.tape import Call, Node, NodeRun, Tape, Value

    Evaluate = Callable[[Scattered | Along], "list[tuple[Role, Any, Any, Value]]"]

# Products of operands that share no axis but what is summed: linear in each.
_PRODUCTS = frozenset(f"aten.{name}" for name in ("addmm", "baddbmm", "bmm", "convolution", "mm"))
# Where a number is so many times the largest of a sample, it is looked at, too.
_UNLIKE = 2.0
# Bounds cost so many times the numbers: of a larger share than this, more than the whole without.
_DEAR = 1 / 12
# So many numbers are compared in the time that a sample takes, however small.
_SMALL = 2**14


class Fast:
    """Looks at the steps of a tape.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    seed : int, optional
        Of the witness's own random numbers; by default from the system.
    """

    def __init__(self, tape: Tape, seed: int | None = None) -> None:
        self._tape = tape
        self._random = np.random.default_rng(seed)
        self._norms: dict[int, float] = {}
        self._views = Views()

    def results(self, call: Call) -> list[tuple[int, Comparison]] | None:
        """Look at the results of a call."""
        calls = members(call) if is_foreach(call) else [call]
        found: list[tuple[int, Comparison]] = []
        for member in calls:
            comparisons = self._attempt(partial(self._results, member))
            if comparisons is None:
                return None
            found += [(len(found) + k if len(calls) > 1 else k, c) for k, c in comparisons]
        return found or None

    def sent(self, node: Node, node_run: NodeRun) -> dict[int, Comparison]:
        """Look at what a node sent: by input, what clearly agrees."""
        if node.call is None or node.kind != Kind.OPERATION:
            return {}
        call = self._tape.calls[node.call]
        if call.base_op in DRAWN:
            return {}
        return self._attempt(lambda: self._sent(node, call, node_run)) or {}

    def total(self, terms: Sequence[int], ones: int, number: int) -> Comparison | None:
        """Look at a sum of recorded gradients."""
        values = self._tape.values
        value, parts = values[number], [values[n] for n in terms]
        if ones or value.array is None or not value.array.size or not is_float(value.dtype):
            return None
        if len(parts) == 1:
            same = terms[0] == number or is_same(value.array, parts[0].array)
            return self._screened(value, exact(math.prod(value.shape))) if same else None
        if any(p.shape != value.shape or p.dtype != value.dtype for p in parts):
            return None
        arithmetic = adding(value.dtype)

        def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
            arrays = [places.part(0, part)[0] for part in parts]
            if any(array is None for array in arrays):
                raise Unjudgeable("not recorded")
            total = added(
                [Bounded(wide(array), arithmetic) for array in arrays if array is not None]
            )
            return [(0, places.part(0, value)[0], total, value)]

        found = self._attempt(lambda: self._sampled(value.shape, some))
        return None if found is None else found[0][1]

    @staticmethod
    def _attempt(look: Callable[[], Any]) -> Any:
        try:
            return look()
        except Unjudgeable:
            return None

    def _results(self, call: Call) -> list[tuple[int, Comparison]] | None:
        values = self._tape.values
        if call.is_view or call.base_op in MOVES | LOOKS_UP:
            return self._moved(call)
        self._require_numbers((*call.operands, *call.outputs))
        if not self._is_small(call, (values[n] for n in call.outputs if n is not None)):
            with suppress(Formless):
                return self._parts(step_of(values, call))
        made = evaluate(self._tape, call, recorded(self._tape), bounded=False)
        found = []
        for place, (n, result) in enumerate(zip(call.outputs, made, strict=True)):
            # Of outputs without elements there is nothing to say, but where all are.
            if n is not None and result is not None and 0 not in values[n].shape:
                agrees = close(values[n], result)
                looked = None if agrees is None else self._screened(values[n], agrees)
                if looked is None:
                    return None
                found.append((place, looked))
        return found or None

    def _require_numbers(self, numbers: Iterable[int | None]) -> None:
        """Leave a step with a tensor without elements to the full judgement."""
        if any(n is not None and 0 in self._tape.values[n].shape for n in numbers):
            raise Unjudgeable("a tensor without elements")

    def _is_small(self, call: Call, judged: Iterable[Value]) -> bool:
        """Whether a step costs less as a whole, without bounds, than a sample of it with them."""
        if call.base_op in _PRODUCTS or is_own(call.base_op) or not all(map(is_clear, judged)):
            return False
        numbers = (*call.operands, *(n for n in call.outputs if n is not None))
        return all(math.prod(self._tape.values[n].shape) <= _SMALL for n in numbers)

    def _parts(self, step: Step) -> list[tuple[int, Comparison]] | None:
        """Look at some of the results of a step for all."""
        first = step.outputs[0] if step.outputs else None
        if first is None:
            return None
        if step.rule.name in _PRODUCTS:
            with suppress(Formless):
                looked = projected(step, "", None, first, self._random)
                looked = None if looked is None else self._remembered(first, looked)
                return None if looked is None else [(0, looked)]

        def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
            small = step.on(places.part, recorded)
            made = evaluate(small.tape, small.call, small.lookup, bounded=True)
            return [
                (place, small.tape.values[n or 0].array, result, value)
                for place, (n, result, value) in enumerate(
                    zip(small.call.outputs, made, step.outputs, strict=True)
                )
                if n is not None and result is not None and value is not None
            ]

        if step.rule.apart == ELEMENTWISE and first.shape == _broadcast(step):
            return self._sampled(first.shape, some)
        return self._judged(some, *self._drawn(step, "", first))

    def _moved(self, call: Call) -> list[tuple[int, Comparison]] | None:
        """Look at the results of a call that moves numbers."""
        values = self._tape.values
        given = next((a.value for a in call.arguments.values() if isinstance(a, Ref)), None)
        source = None if given is None else values[given].array
        outputs = [(k, values[n]) for k, n in enumerate(call.outputs) if n is not None]
        alone = source is not None and call.is_view and len(outputs) == 1
        kind = kind_of(call) if alone else None
        made: Sequence[Any] = ()
        found = []
        for place, value in outputs:
            if value.array is None:
                return None
            if not (
                source is not None and alone and self._views.are_known(kind, source, value.array)
            ):
                made = made or evaluate(self._tape, call, raw(self._tape), bounded=False)
                if not is_same(value.array, made[place]):
                    return None
                if source is not None and alone:
                    self._views.learn(kind, source, value.array, made[place])
            looked = self._passed_on(given, value)
            if looked is None:
                return None
            found.append((place, looked))
        return found

    def _passed_on(self, given: int | None, value: Value) -> Comparison | None:
        """Return the comparison of what equals the numbers that were moved."""
        known = None if given is None else self._norms.get(given)
        size = math.prod(value.shape)
        if known is not None and math.prod(self._tape.values[given or 0].shape) == size:
            self._norms.setdefault(value.id, known)
        return self._screened(value, exact(size))

    def _sent(self, node: Node, call: Call, node_run: NodeRun) -> dict[int, Comparison] | None:
        values = self._tape.values
        wanted = [
            k
            for k, edge in enumerate(node.edges)
            if edge is not None and node_run.outgoing[k : k + 1] not in ((), (None,))
        ]
        sent = {k: values[node_run.outgoing[k] or 0] for k in wanted}
        if not wanted or any(value.array is None for value in sent.values()):
            return None
        if call.is_view or call.base_op in MOVES:
            return self._sent_on(node, call, node_run, sent)
        self._require_numbers((*call.operands, *call.outputs))
        formless = set(sent)
        found: dict[int, Comparison] = {}
        if not self._is_small(call, sent.values()):
            with suppress(Formless):
                found = self._sent_parts(node, step_of(values, call), node_run, sent, formless)
        if not formless:
            return found
        numbers = recorded(self._tape)
        incoming = [None if n is None else numbers(n) for n in node_run.incoming]
        made = gradients(self._tape, sending(node, formless), incoming, numbers, None)
        for k in formless:
            agrees = close(sent[k], made[k])
            looked = None if agrees is None else self._screened(sent[k], agrees)
            if looked is not None:
                found[k] = looked
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
        if step.rule.name in _PRODUCTS:
            with suppress(Formless):
                looked = None if g is None else projected(step, name, g, value, self._random)
                return None if looked is None else self._remembered(value, looked)
        if arithmetic is None:
            return None
        wanted = [k == input_nr for k in range(len(step.inputs()))]

        def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
            small = step.on(places.part, recorded)
            parts = [None if v is None else places.part(k, v)[0] for k, v in enumerate(arrived)]
            incoming = [None if part is None else Bounded(wide(part), arithmetic) for part in parts]
            made = vjp(small.tape, small.call, incoming, small.lookup, arithmetic, wanted)
            return [(name, places.part(name, value)[0], made[input_nr], value)]

        first = step.outputs[0]
        by_element = step.rule.apart == ELEMENTWISE and value.shape == _broadcast(step)
        if by_element and first is not None and first.shape == value.shape:
            found = self._sampled(value.shape, some)
            return None if found is None else found[0][1]
        found = self._judged(some, *self._drawn(step, name, value))
        return None if found is None else found[0][1]

    def _sent_on(
        self, node: Node, call: Call, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        """Look at what a node sent that moves numbers."""
        numbers = raw(self._tape)
        incoming = [None if n is None else numbers(n) for n in node_run.incoming]
        source = incoming[0] if len(incoming) == len(node.edges) == 1 else None
        operands = (self._tape.values[n].shape for n in call.operands)
        kind = None if source is None else ("backward", *operands, *kind_of(call))
        made: Sequence[Any] = ()
        found = {}
        for k, value in sent.items():
            if value.array is None:
                continue
            if source is None or not self._views.are_known(kind, source, value.array):
                made = made or gradients(self._tape, node, incoming, numbers, None)
                if not is_same(value.array, made[k]):
                    continue
                if source is not None:
                    self._views.learn(kind, source, value.array, made[k])
            looked = self._passed_on(node_run.incoming[0] if source is not None else None, value)
            if looked is not None:
                found[k] = looked
        return found

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
        if value.id not in self._norms and value.array is not None:
            self._norms[value.id] = norm_of(value.array)
        norm = self._norms.get(value.id, math.nan)
        return replace(looked, norm=norm) if math.isfinite(norm) else None

    def _remembered(self, value: Value, looked: Comparison) -> Comparison | None:
        if math.isnan(looked.norm):
            return self._screened(value, looked)
        self._norms[value.id] = looked.norm
        return looked


def _broadcast(step: Step) -> tuple[int, ...] | None:
    """Return the shape that the operands of an elementwise step broadcast to."""
    try:
        return np.broadcast_shapes(*(value.shape for value in step.operands.values()))
    except ValueError:
        return None
