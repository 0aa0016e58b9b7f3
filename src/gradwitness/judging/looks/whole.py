"""A look at all numbers of each step; None where bounds have to tell.

It refutes nothing by itself: whatever does not clearly agree is judged with bounds, at once and
alone.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._failure import kind_and_message
from gradwitness.engine.backward import gradients, sending
from gradwitness.engine.distant import lives_elsewhere
from gradwitness.engine.floats import is_inexact
from gradwitness.engine.foreach import is_foreach, members
from gradwitness.engine.forms import form_of
from gradwitness.engine.forward import evaluate
from gradwitness.engine.in_pieces import gradient_cuts, parts_sent
from gradwitness.engine.tiling import slabs
from gradwitness.judging.looks.cancelled import left_of_sums
from gradwitness.judging.looks.close import Closeness, exact, is_clear, together
from gradwitness.judging.looks.direct import made_in_parts, moved_back
from gradwitness.judging.looks.moved import (
    COPIES,
    MOVED,
    MOVES,
    Views,
    handed_on,
    is_rearranged,
    is_same,
    kind_of,
)
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.once import result_once, rounded_once, sent_once, sum_once
from gradwitness.judging.looks.sampled import Scattered, agreement
from gradwitness.judging.looks.some import gradient_of, results_at
from gradwitness.judging.looks.step import Formless, raw, step_of
from gradwitness.judging.looks.sums import Sums, sums_made, sums_sent
from gradwitness.rules.graph_terms import DRAWN
from gradwitness.rules.user_rules import is_own
from gradwitness.tape import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradwitness.engine.forms import Form
    from gradwitness.engine.tiling import Cut, Index
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.looks.some import Evaluate
    from gradwitness.tape import Call, Node, NodeRun, Tape, Value

# Of more numbers than one in so many, bounds cost as much as of all.
_ONE_IN = 3


class Whole:
    """Looks at all numbers of the steps of a tape.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    records : Records
        Its numbers.

    Attributes
    ----------
    failure : str
        The first failure on a device, which leaves no step without a verdict.
    """

    failure = ""
    # The bounds of so few numbers cost little more than they do.
    _few = 2**9

    def __init__(self, tape: Tape, records: Records) -> None:
        self._tape = tape
        self._records = records
        self._norms: dict[int, float] = {}
        self._exact: dict[int, Comparison] = {}
        self._views = Views()

    def results(self, call: Call) -> list[tuple[int, Comparison]] | None:
        """Look at the results of a call."""
        if not is_foreach(call):
            return self._attempt(self._results, call) or None
        calls = members(call)
        found: list[tuple[int, Comparison]] = []
        for member in calls:
            comparisons = self._attempt(self._results, member)
            if comparisons is None:
                return None
            found += [(len(found) + k if len(calls) > 1 else k, c) for k, c in comparisons]
        return found or None

    def sent(self, node: Node, call: Call | None, node_run: NodeRun) -> dict[int, Comparison]:
        """Look at what the node of a call sent: by input, what clearly agrees."""
        if call is None or node.kind != Kind.OPERATION or call.base_op in DRAWN:
            return {}
        return self._attempt(self._sent, node, call, node_run) or {}

    def total(self, terms: Sequence[int], ones: int, number: int) -> Comparison | None:
        """Look at a sum of recorded gradients."""
        if terms == [number] and not ones:
            # It arrived as it was sent.
            known = self._exact.get(number)
            if known is not None:
                return known
            value = self._tape.values[number]
            counts = value.array is not None and value.array.size and is_inexact(value.dtype)
            return self._exactly(value) if counts else None
        looked: Comparison | None = self._attempt(self._total, terms, ones, number)
        return looked

    def _total(self, terms: Sequence[int], ones: int, number: int) -> Comparison | None:
        values = self._tape.values
        value, parts = values[number], [values[n] for n in terms]
        if ones or value.array is None or not value.array.size or not is_inexact(value.dtype):
            return None
        if len(parts) == 1:
            return self._exactly(value) if is_same(value.array, parts[0].array) else None
        if any(p.shape != value.shape or p.dtype != value.dtype for p in parts):
            return None
        if value.array.size > self._few:
            looked = sum_once(value, parts, self._norm)
            if looked is not None:
                return looked
        return self._summed(value, terms)

    def _attempt(self, look: Callable[..., Any], *given: Any) -> Any:
        """Look at what is given; what fails on a device is judged on the host."""
        try:
            return look(*given)
        except Unjudgeable:
            return None
        except Formless:
            raise
        except Exception as error:
            if not getattr(self._tape.values, "met", False):
                raise
            self.failure = self.failure or kind_and_message(error)
            return None

    def _summed(self, value: Value, terms: Sequence[int]) -> Comparison | None:
        """Look at a sum of recorded gradients of one shape."""
        if math.prod(value.shape) <= self._few or not is_clear(value):
            return None
        close = self._closeness(value, Sums(len(terms)))
        for index in slabs(value.shape, on_device=lives_elsewhere(value)):
            total = self._records.part(terms[0], index) + self._records.part(terms[1], index)
            for number in terms[2:]:
                total += self._records.part(number, index)
            if not close.take(total, index):
                return None
        return close.result()

    def _results(self, call: Call) -> list[tuple[int, Comparison]] | None:
        if call.is_view or call.base_op in MOVED:
            return self._moved(call)
        form = self._form(call)
        if "" in self._once(call, form):
            looked = result_once(self._tape.values, call, form, self._norm)
            return None if looked is None else [(0, looked)]
        return self._made(call, form)

    def _once(self, call: Call, form: Form) -> tuple[str, ...]:
        return () if form.largest <= self._few else rounded_once(call, form)

    def _made(self, call: Call, form: Form) -> list[tuple[int, Comparison]] | None:
        """Look at the results of a call that computes."""
        values = self._tape.values
        outputs = {k: values[n] for k, n in enumerate(call.outputs) if n is not None}
        self._require_clear(call, form, outputs.values())
        sums = sums_made(values, call, form, self._norm)
        close: dict[int, Closeness] = {}
        for k, index, part in made_in_parts(self._tape, call, form, self._records):
            # Of outputs without elements there is nothing to say, but where all are.
            if part is None or k not in outputs or 0 in outputs[k].shape:
                continue
            if k not in close:
                close[k] = self._closeness(outputs[k], sums, by_element=form.by_element)
            if not close[k].take(part, index):
                return None
        found: list[tuple[int, Comparison]] = []
        for k, held in close.items():
            looked = held.result()
            if looked is not None and held.left:
                looked = self._settled(held, looked, lambda: results_at(step_of(values, call)))
            if looked is None:
                return None
            found.append((k, looked))
        return found or None

    def _moved(self, call: Call) -> list[tuple[int, Comparison]] | None:
        """Look at the results of a call that moves numbers."""
        values = self._tape.values
        given = next((a.value for a in call.arguments.values() if isinstance(a, Ref)), None)
        source = None if given is None else values[given].array
        outputs = [(k, values[n]) for k, n in enumerate(call.outputs) if n is not None]
        kind = kind_of(call) if call.is_view and source is not None else ()
        made: Sequence[Any] = (source,) if source is not None and call.base_op in COPIES else ()
        found = []
        for place, value in outputs:
            if value.array is None or not value.array.size:
                return None
            of_view = (place, *kind)
            if not (kind and self._views.are_known(of_view, source, value.array)):
                made = made or evaluate(self._tape, call, raw(self._tape), bounded=False)
                if not is_same(value.array, made[place]):
                    return None
                if kind:
                    self._views.learn(of_view, source, value.array, made[place])
            looked = self._passed_on(given if is_rearranged(call) else None, value)
            if looked is None:
                return None
            found.append((place, looked))
        return found

    def _passed_on(self, given: int | None, value: Value) -> Comparison | None:
        """Return the comparison of what was moved rightly: of given numbers, each of them once."""
        known = None if given is None else self._norms.get(given)
        size = math.prod(value.shape)
        if known is not None and math.prod(self._tape.values[given or 0].shape) == size:
            self._norms.setdefault(value.id, known)
        return self._exactly(value)

    def _sent(self, node: Node, call: Call, node_run: NodeRun) -> dict[int, Comparison] | None:
        values = self._tape.values
        sent: dict[int, Value] = {}
        for k, (edge, number) in enumerate(zip(node.edges, node_run.outgoing, strict=False)):
            if edge is not None and number is not None:
                sent[k] = values[number]
                if sent[k].array is None:
                    return None
        if not sent:
            return None
        if call.is_view or call.base_op in MOVES:
            return self._sent_on(node, call, node_run, sent)
        form = self._form(call)
        came = node_run.incoming[0] if node_run.incoming else None
        found: dict[int, Comparison] = {}
        rest = sent

        def looked(at: dict[int, Comparison | None]) -> dict[int, Value]:
            """Keep what clearly agrees, and return what was not looked at."""
            found.update((k, c) for k, c in at.items() if c is not None)
            return {k: value for k, value in rest.items() if k not in at}

        handed = handed_on(values, call, form, node_run, sent)
        if handed:
            same = {k: self._passed_on(came, sent[k]) if s else None for k, s in handed.items()}
            rest = looked(same)
        names = self._once(call, form) if rest else ()
        if names:
            rest = looked(sent_once(values, call, form, node_run, rest, names, self._norm))
        return found | self._gradients(node, call, form, node_run, rest) if rest else found

    def _gradients(
        self, node: Node, call: Call, form: Form, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        """Look at the gradients that a node computes: by input, what clearly agrees."""
        values = self._tape.values
        self._require_clear(call, form, sent.values())
        whole = form.outputs[0] and form.outputs[0][0]
        edges = form.edges()
        close, names = {}, {}
        for k, value in sent.items():
            names[k] = name = edges[k][0][0] if k < len(edges) else ""
            sums = sums_sent(values, call, form, name, node_run.incoming, value, self._norm)
            by_element = form.by_element and value.shape == whole
            close[k] = self._closeness(value, sums, by_element=by_element)
        for k, index, part in self._parts_sent(node, node_run, set(close)):
            if k in close and not close[k].take(part, index):
                del close[k]
        found = {}
        for k, held in close.items():
            looked = held.result()
            looked = looked or left_of_sums(self._tape, node, node_run, k, names[k], held)
            if looked is not None and held.left:
                bounded = partial(gradient_of, self._tape, node, call, node_run, k)
                looked = self._attempt(self._settled, held, looked, bounded)
            if looked is not None:
                found[k] = looked
        return found

    def _parts_sent(
        self, node: Node, node_run: NodeRun, wanted: set[int]
    ) -> Iterator[tuple[int, Index, Any]]:
        """Compute what a node sends to some inputs, piece by piece if that is large."""
        values, records = self._tape.values, self._records
        shapes = [None if n is None else values[n].shape for n in node_run.incoming]
        asked = sending(node, wanted)
        cut = gradient_cuts(self._tape, asked, shapes, added=True)
        at_once = wanted.difference(cut)
        if at_once:
            incoming = [None if n is None else records(n) for n in node_run.incoming]
            once = sending(node, at_once) if cut else asked
            made = gradients(self._tape, once, incoming, records, None)
            for k in at_once:
                yield k, (), made[k]
        if not cut:
            return

        def arrived_in(piece: Cut) -> list[Any]:
            return [
                None if n is None else records.part(n, piece.result(k, values[n].shape))
                for k, n in enumerate(node_run.incoming)
            ]

        yield from parts_sent(self._tape, node, cut, arrived_in, records)

    def _sent_on(
        self, node: Node, call: Call, node_run: NodeRun, sent: dict[int, Value]
    ) -> dict[int, Comparison]:
        """Look at what a node sent that moves numbers."""
        numbers = raw(self._tape)
        incoming = [None if n is None else numbers(n) for n in node_run.incoming]
        source = incoming[0] if len(incoming) == len(node.edges) == 1 else None
        alike = source is not None and is_rearranged(call)
        operands = (self._tape.values[n].shape for n in call.operands)
        kind = None if source is None else ("backward", *operands, *kind_of(call))
        made: Sequence[Any] = ()
        found = {}
        for k, value in sent.items():
            if value.array is None or not value.array.size:
                continue
            if source is None or not self._views.are_known(kind, source, value.array):
                made = made or moved_back(self._tape, node, call, incoming)
                if not is_same(value.array, made[k]):
                    continue
                if source is not None:
                    self._views.learn(kind, source, value.array, made[k])
            looked = self._passed_on(node_run.incoming[0] if alike else None, value)
            if looked is not None:
                found[k] = looked
        return found

    @staticmethod
    def _settled(
        close: Closeness, looked: Comparison, bounded: Callable[[], Evaluate]
    ) -> Comparison | None:
        """Return what numbers say that are near, and the bounds of what was left."""
        left = np.concatenate(close.left)
        if left.size * _ONE_IN > math.prod(close.value.shape):
            return None
        try:
            some = bounded()
        except Formless:
            return None
        for _, numbers, expected, value in some(Scattered(close.value.shape, left), True):
            if value.id == close.value.id and numbers is not None:
                agrees = agreement(numbers, expected, value, 1.0)
                return None if agrees is None else together(looked, agrees[0])
        return None

    def _form(self, call: Call) -> Form:
        """Return a call's form; leave a step with a tensor without elements to the bounds."""
        form = form_of(self._tape.values, call)
        if form.is_empty:
            raise Unjudgeable("a tensor without elements")
        return form

    def _require_clear(self, call: Call, form: Form, judged: Iterable[Value]) -> None:
        """Leave a step of few numbers, or of which float64 does not tell, to the bounds."""
        if is_own(call.base_op) or not all(map(is_clear, judged)) or form.largest <= self._few:
            raise Unjudgeable("a step that bounds have to judge")

    def _closeness(self, value: Value, sums: Sums, *, by_element: bool = False) -> Closeness:
        if value.array is None or not value.array.size or value.sparse > 1:
            # A sparse tensor that names a place twice has terms that are not known.
            raise Unjudgeable("numbers that were not recorded")
        return Closeness(value, self._norm(value), sums, by_element=by_element)

    def _norm(self, value: Value) -> float:
        norm = self._norms.get(value.id)
        if norm is None:
            if value.array is None:
                return math.nan
            norm = self._norms[value.id] = norm_of(value.array)
        return norm

    def _exactly(self, value: Value) -> Comparison | None:
        """Return the comparison of numbers that are those expected; None if not all are finite."""
        # One value is often passed on by many steps.
        known = self._exact.get(value.id)
        if known is None:
            norm = self._norm(value)
            if not math.isfinite(norm):
                return None
            known = self._exact[value.id] = exact(math.prod(value.shape), norm)
        return known
