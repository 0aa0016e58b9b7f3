"""Where one number of one gradient comes from, step by step back to the result.

Backward is linear in the incoming gradient, so each entry that a node sends is a sum of
coefficients times incoming entries. The coefficients are found by sending unit cotangents through
the rule. Of a sum with many terms the largest are written out, and the largest one is followed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import InputError, Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.judging.finding import Step
from gradwitness.judging.numbers import short, subscript
from gradwitness.report.names import Names
from gradwitness.tape import Edge, Kind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.finding import Report, Row
    from gradwitness.tape import Node, NodeRun, Sweep, Tape

Index = tuple[int, ...]
# Terms of a sum that are written out, and the most entries that unit cotangents are sent for.
_MOST_TERMS = 4
_MOST_ENTRIES = 4096
# What sending one unit cotangent costs besides, in numbers read.
_OVERHEAD = 20_000
# What one step costs besides.
_STEP = 200_000


def trace(tape: Tape, report: Report, target: str) -> str:
    """Explain one entry of one gradient, given as ``hidden3.weight[2,5]``.

    Raises `InputError` if there is no such gradient or entry.
    """
    return Trace(tape, report).text(*_target(report, target))


def _target(report: Report, target: str) -> tuple[Row, Index]:
    match = re.fullmatch(r"\s*(.+?)\s*(?:\[([\d,\s]*)\])?\s*", target)
    name, inside = match.groups() if match else (target, None)
    rows = _by_unique_name(report.rows)
    if name not in rows:
        several = [unique for unique, row in rows.items() if row.name == name]
        if several:
            raise InputError(
                f"{len(several)} gradients are named {name!r}; say which one, in the order of the "
                f"report: {', '.join(several)}"
            )
        raise InputError(f"no gradient named {name!r}; there are: {', '.join(rows)}")
    row = rows[name]
    example = f"{name}[{','.join('0' * len(row.shape))}]"
    try:
        index = tuple(int(word) for word in (inside or "").split(",") if word.strip())
    except ValueError:
        raise InputError(f"{target!r} is not an entry (example: {example})") from None
    inside_shape = all(i < n for i, n in zip(index, row.shape, strict=False))
    if len(index) != len(row.shape) or not inside_shape:
        raise InputError(
            f"{name} has shape {row.shape} and no entry {target!r} (example: {example})"
        )
    if row.value is None:
        raise InputError(f"{name} received no gradient: {row.comparison.reason}")
    return row, index


def _by_unique_name(rows: Sequence[Row]) -> dict[str, Row]:
    """Return rows by name, and those that share one as ``weight#1``, ``weight#2`` and so on."""
    counts = Counter(row.name for row in rows)
    nth: Counter[str] = Counter()
    unique = {}
    for row in rows:
        nth[row.name] += 1
        several = counts[row.name] > 1
        unique[f"{row.name}#{nth[row.name]}" if several else row.name] = row
    return unique


@dataclass(frozen=True)
class _Term:
    """One summand: a coefficient times an entry of an incoming gradient."""

    coefficient: float
    incoming: float
    input_nr: int
    index: Index

    @property
    def product(self) -> float:
        return self.coefficient * self.incoming


class Trace:
    """Traces entries of gradients, as long as there is room for the numbers that this reads."""

    def __init__(self, tape: Tape, report: Report, room: float = math.inf) -> None:
        self._tape = tape
        self._report = report
        self._names = Names(tape)
        self._lookup = recorded(tape)
        self._senders = [_senders(tape, sweep) for sweep in tape.sweeps]
        self._known: dict[tuple[int, int, int, Index], list[_Term]] = {}
        self.room = room

    def text(self, row: Row, index: Index) -> str:
        """Return the whole trace of one entry."""
        self._row = row
        self._sweep = self._tape.sweeps[row.sweep]
        self._wrong = {
            (finding.node, finding.tensor_nr)
            for finding in self._report.wrong
            if finding.step is Step.BACKWARD and finding.sweep == row.sweep
        }
        self._step = 0
        return "\n".join(self._lines(index)) + "\n"

    def _lines(self, index: Index) -> Iterator[str]:
        row = self._row
        c = row.comparison
        recorded_entry = self._entry(row.value, index)
        yield f"{row.name}{subscript(index)}: torch has {recorded_entry:.9g}"
        verdict = " ".join(filter(None, (row.verdict.value, row.basis)))
        yield f"the whole gradient: {verdict}, at worst {short(c.ratio)} x bound"
        at: tuple[Edge, Index] | None = (Edge(row.node, 0), index)
        if self._tape.nodes[row.node].kind != Kind.ACCUMULATE:
            at = (next(e for e, v in self._sweep.captured if v == row.value), index)
        while at is not None:
            edge, entry = at
            at = yield from self._origin(edge, entry, self._senders[row.sweep].get(edge, []))

    def _origin(
        self, edge: Edge, index: Index, senders: list[tuple[NodeRun, int]]
    ) -> Generator[str, None, tuple[Edge, Index] | None]:
        """Yield where an arriving entry came from; return the next entry to follow."""
        roots = [seed for root, seed in self._sweep.roots if root == edge]
        for seed in roots:
            value = 1.0 if seed is None else self._entry(seed, index)
            yield ""
            symbol = self._names.of(self._tape.nodes[edge.node].outputs[edge.index])
            yield f"{symbol} is the result: its gradient is {value:.6g}. The chain ends here."
        if not senders:
            return None
        if len(senders) > 1:
            parts = [self._entry(f.outgoing[input_nr], index) for f, input_nr in senders]
            yield ""
            yield f"   {len(senders)} gradients meet: " + " + ".join(f"{p:.6g}" for p in parts)
            largest = int(np.argmax(np.abs(parts)))
            sender = self._tape.nodes[senders[largest][0].node]
            yield f"   followed: the largest, from #{sender.id} {sender.name}"
            senders = [senders[largest]]
        node_run, input_nr = senders[0]
        return (yield from self._through(node_run, input_nr, index))

    def _through(
        self, node_run: NodeRun, input_nr: int, index: Index
    ) -> Generator[str, None, tuple[Edge, Index] | None]:
        node = self._tape.nodes[node_run.node]
        self._step += 1
        self.room -= _STEP
        yield ""
        symbol, formula = self._formula(node, input_nr)
        where = self._where(node)
        yield f"{self._step:2}  #{node.id} {node.name}{where}: d{symbol} = {formula}"
        try:
            terms = self._known_terms(node, node_run, input_nr, index)
        except Unjudgeable as reason:
            yield f"    not written out: {reason}"
            return None
        sent = self._entry(node_run.outgoing[input_nr], index)
        if not terms:
            yield f"    d{symbol}{subscript(index)} = 0   torch sent {sent:.6g}"
            yield "    the factor of every arriving entry is 0, as for a unit that did not fire"
            return None
        total = sum(term.product for term in terms)
        yield f"    d{symbol}{subscript(index)} = {self._sum(node, terms)}"
        blank = " " * len(f"d{symbol}{subscript(index)}")
        mark = "   <- DISAGREES" if (node_run.node, input_nr) in self._wrong else ""
        yield f"    {blank} = {total:.9g}   torch sent {sent:.9g}{mark}"
        largest = terms[0]
        if len(terms) > 1:
            yield f"    followed: the largest term, g{subscript(largest.index)}"
        return Edge(node.id, largest.input_nr), largest.index

    def _sum(self, node: Node, terms: list[_Term]) -> str:
        summands = []
        for term in terms[:_MOST_TERMS]:
            factor = self._factor(node, term.coefficient)
            arriving = f"g{subscript(term.index)} ({term.incoming:.6g})"
            summands.append(arriving if term.coefficient == 1 else f"{factor} * {arriving}")
        rest = terms[_MOST_TERMS:]
        if rest:
            summands.append(f"{len(rest)} smaller terms ({sum(t.product for t in rest):.6g})")
        return " + ".join(summands)

    def _factor(self, node: Node, coefficient: float) -> str:
        """Return a coefficient, named if exactly one entry of an operand equals it."""
        entries: list[str] = []
        for call in [] if node.call is None else [self._tape.calls[node.call]]:
            operands = {*call.operands}
            for operand in operands | {n for n in call.outputs if n is not None}:
                array = self._tape.values[operand].array
                if array is None or array.dtype.kind not in "fV":
                    continue
                indices = np.argwhere(array.astype(np.float64) == coefficient)[:2]
                symbol = self._names.of(operand)
                entries += [f"{symbol}{subscript(tuple(map(int, index)))}" for index in indices]
        written = f"{coefficient:.6g}"
        return f"{entries[0]} ({written})" if len(entries) == 1 else written

    def _known_terms(
        self, node: Node, node_run: NodeRun, input_nr: int, index: Index
    ) -> list[_Term]:
        """Return the terms of an entry; traces of several gradients meet on their way back."""
        key = (self._row.sweep, node.id, input_nr, index)
        if key not in self._known:
            self._known[key] = self._terms(node, node_run, input_nr, index)
        return self._known[key]

    def _terms(self, node: Node, node_run: NodeRun, input_nr: int, index: Index) -> list[_Term]:
        """Return the non-zero terms of an entry that a node sends, largest first."""
        terms = []
        arrays = [None if n is None else self._lookup(n) for n in node_run.incoming]
        arriving = sum(a.size for a in arrays if a is not None)
        if arriving > _MOST_ENTRIES:
            raise Unjudgeable(f"more than {_MOST_ENTRIES} entries arrive here")
        self.room -= arriving * (_OVERHEAD + self._operands(node))
        if self.room < 0:
            raise Unjudgeable("it takes too long for a page; `--explain` writes it")
        for k, array in enumerate(arrays):
            if array is None:
                continue
            if array.dtype.kind == "c":
                raise Unjudgeable("complex gradients are not split into terms")
            for q in np.ndindex(array.shape):
                unit = np.zeros(array.shape)
                unit[q] = 1.0
                probe: list[NDArray[Any] | None] = [None] * len(arrays)
                probe[k] = unit
                sent = gradients(self._tape, node, probe, self._lookup, None)[input_nr]
                if sent is not None and sent.dtype.kind == "c":
                    raise Unjudgeable("complex gradients are not split into terms")
                coefficient = 0.0 if sent is None else float(sent[index])
                if coefficient:
                    terms.append(_Term(coefficient, float(array[q]), k, q))
        return sorted(terms, key=lambda term: -abs(term.product))

    def _operands(self, node: Node) -> int:
        """Return how many numbers the calls read that a node stands for."""
        calls = node.inner if node.call is None else (node.call,)
        values = [self._tape.values[n] for call in calls for n in self._tape.calls[call].operands]
        return sum(math.prod(value.shape) for value in values)

    def _formula(self, node: Node, input_nr: int) -> tuple[str, str]:
        if node.call is None:
            edge = node.edges[input_nr]
            value = None if edge is None else self._tape.nodes[edge.node].outputs[edge.index]
            return self._names.of(value), "the derivative of the function's recorded forward"
        pairs = self._names.gradients(self._tape.calls[node.call])
        # A recording may say that an operation sends more than its rule knows of.
        return pairs[input_nr] if input_nr < len(pairs) else ("", "no rule has it")

    def _where(self, node: Node) -> str:
        module = "" if node.call is None else self._tape.calls[node.call].source.module
        return f" in {module}" if module else ""

    def _entry(self, value: int | None, index: Index) -> Any:
        return float("nan") if value is None else self._lookup(value)[index].item()


def _senders(tape: Tape, sweep: Sweep) -> dict[Edge, list[tuple[NodeRun, int]]]:
    """Return which nodes sent gradients along each edge, and as which of their outgoing ones."""
    senders: dict[Edge, list[tuple[NodeRun, int]]] = {}
    for run in sweep.node_runs:
        for input_nr, edge in enumerate(tape.nodes[run.node].edges):
            if edge is not None and run.outgoing[input_nr] is not None:
                senders.setdefault(edge, []).append((run, input_nr))
    return senders
