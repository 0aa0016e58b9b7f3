"""The witness's own gradients, carried with their bounds through steps that round nothing.

So a parameter's row shows the bound of the last arithmetic on its way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, is_inexact, part
from gradwitness.judging.comparison import (
    CANCELS,
    IN_TURN,
    TOO_LITTLE,
    by_distance,
    by_probable,
    unjudged,
)
from gradwitness.judging.large_steps import Reach
from gradwitness.judging.piecewise import Pieces
from gradwitness.rules.kernel_ops import added_in_turn
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.records import Records
    from gradwitness.tape import Edge, Node, NodeRun, Tape

NodeInput = tuple[int, int]  # node, input of the node


class Carried:
    """The witness's gradients on their way to the inputs of nodes, where they will be needed.

    Parameters
    ----------
    tape : Tape
    records : Records
    captured : container of (node, input)
        Where a pass returns gradients other than at the leaves; what is carried there stays.
    seeds : mapping of (node, input) to sequence of int or None
        The gradients that a pass starts from; None for ones.
    needed : bool
        Whether anything is to be carried.
    """

    def __init__(
        self,
        tape: Tape,
        records: Records,
        captured: Container[NodeInput],
        seeds: Mapping[NodeInput, Sequence[int | None]],
        *,
        needed: bool = True,
    ) -> None:
        self._is_needed = needed
        self._tape = tape
        self._records = records
        self._captured = captured
        self._seeds = seeds
        self._parts: dict[NodeInput, list[Any]] = {}
        self._reach = Reach(tape, captured)
        # Inputs where part of what was sent is unknown.
        self._lost: set[NodeInput] = set()
        # What the agreement of the last step that rounds rests on.
        self._bases: dict[NodeInput, str] = {}

    def reaches(self, edge: Edge | None) -> bool:
        """Whether a gradient carried through an edge may be needed later."""
        return self._is_needed and edge is not None and self._reach(edge)

    def add(self, edge: Edge | None, result: Any) -> None:
        """Carry a gradient through an edge; None is ignored."""
        if edge is None or not self.reaches(edge):
            return
        if isinstance(result, Pieces):
            result = result.whole()
        if result is not None:
            self._parts.setdefault((edge.node, edge.index), []).append(result)

    def add_recorded(self, edge: Edge | None, number: int | None) -> None:
        """Carry a recorded gradient as it is, if its numbers were recorded."""
        if number is not None and edge is not None and self.reaches(edge):
            exact = self._exact(number)
            if exact is None:
                self.lose(edge)
            self.add(edge, exact)

    def lose(self, edge: Edge) -> None:
        """Drop what is carried through an edge: part of it is unknown."""
        self._lost.add((edge.node, edge.index))

    def rests(self, edge: Edge, reason: str) -> None:
        """Keep what an agreement about a gradient sent through an edge rests on."""
        if reason in (CANCELS, IN_TURN):
            self._bases[edge.node, edge.index] = reason

    def _hand_on(self, node: Node) -> None:
        """Keep that of what a node sends which rounds nothing."""
        for k in range(len(node.outputs)):
            for edge in node.edges:
                if edge is not None:
                    self.rests(edge, self._bases.get((node.id, k), ""))

    def carry_on(self, node: Node, node_run: NodeRun, expected: tuple[Any, ...]) -> None:
        """Carry what a node should have sent, or what arrived there if it rounds nothing."""
        if narrows(self._tape, node_run):
            # A cast: the formula rounds nothing, but the store does.
            self._add_all_recorded(node, node_run)
            return
        if not any(map(self.reaches, node.edges)):
            return
        onward = expected
        results = [e for e in expected if e is not None]
        if results and all(isinstance(e, Bounded | Pieces) and e.is_exact for e in results):
            incoming = [
                None if number is None else self.at((node.id, index), number)
                for index, number in enumerate(node_run.incoming)
            ]
            arithmetic = next(g.arithmetic for g in incoming if g is not None)
            try:
                onward = gradients(self._tape, node, incoming, self._records, arithmetic)
            except Unjudgeable:
                # A rule that goes another way where its numbers are not exact.
                self._add_all_recorded(node, node_run)
                return
            self._hand_on(node)
        for input_nr, result in enumerate(onward):
            self.add(node.edges[input_nr], result)

    def _add_all_recorded(self, node: Node, node_run: NodeRun) -> None:
        for input_nr, sent in enumerate(node_run.outgoing):
            if sent is not None:
                self.add_recorded(node.edges[input_nr], sent)

    def keep(self, input_nr: NodeInput, number: int) -> None:
        """Keep the recorded gradient at a captured input, unless one was carried there."""
        exact = self._exact(number) if self._is_needed and input_nr in self._captured else None
        if exact is not None:
            self._parts.setdefault(input_nr, [exact])

    def at(self, input_nr: NodeInput, number: int) -> Any:
        """Return the gradient carried to an input; where there is none, the recorded one as exact.

        Raises
        ------
        Unjudgeable
            If the tape does not hold its numbers.
        """
        parts, seeds = self._parts.get(input_nr), self._seeds.get(input_nr, ())
        if not parts or input_nr in self._lost or None in seeds:
            return self._records.exact(number)
        # A root may be on the way from another one.
        parts = [*parts, *(self._records.exact(seed) for seed in seeds if seed is not None)]
        if len(parts) == 1:
            return parts[0]
        # Torch adds them one by one, and stores each partial sum in the tensor's format.
        arithmetic = adding(self._tape.values[number].dtype)
        return added([Bounded(part.value, arithmetic, *part.errors) for part in parts])

    def against(self, input_nr: NodeInput, number: int) -> Comparison:
        """Compare a recorded gradient with the one that was carried to an input.

        Each step on the way was judged for its signal.
        """
        try:
            expected = self.at(input_nr, number)
        except Unjudgeable as reason:
            return unjudged(str(reason), self._tape.values[number].array)
        comparison = by_probable(self._records.against(number, expected))
        basis = self._bases.get(input_nr)
        if basis is None:
            comparison = by_distance(comparison)
        if comparison.reason == TOO_LITTLE:
            return replace(comparison, verdict=Verdict.AGREES, reason=CANCELS)
        if basis == IN_TURN and comparison.verdict is Verdict.AGREES:
            return replace(comparison, reason=IN_TURN)
        return comparison

    def used(self, node: int, inputs: int) -> None:
        """Drop what was carried to a node, except at captured inputs."""
        for index in range(inputs):
            if (node, index) not in self._captured:
                self._parts.pop((node, index), None)
                self._lost.discard((node, index))

    def clear(self) -> None:
        """Drop everything."""
        self._parts.clear()

    def _exact(self, number: int) -> Bounded | None:
        try:
            return self._records.exact(number)
        except Unjudgeable:
            return None


def narrows(tape: Tape, node_run: NodeRun) -> bool:
    """Whether a node sends numbers of another format than it got."""
    numbers = (*node_run.incoming, *node_run.outgoing)
    return len({part(tape.values[n].dtype) for n in numbers if n is not None}) > 1


def total(tape: Tape, records: Records, terms: Sequence[int], ones: int, arrived: int) -> Any:
    """Add up recorded gradients; a root without a seed starts from ones.

    Raises
    ------
    Unjudgeable
        If the tape does not hold their numbers.
    """
    if len(terms) == 1 and not ones:
        return records.as_recorded(terms[0])
    like = tape.values[terms[0] if terms else arrived]
    arithmetic = adding(like.dtype)
    parts = [records.exact(term, arithmetic) for term in terms]
    return added([*parts, *[Bounded(np.ones(like.shape), arithmetic)] * ones])


def arrived_in_turn(
    tape: Tape, records: Records, terms: Sequence[int], number: int, threads: int
) -> tuple[Comparison, Any]:
    """Compare with recorded gradients that are added in the order in which they arrived."""
    arithmetic = replace(Arithmetic.stepwise(tape.values[terms[0]].dtype), stretches=threads)
    stacked: Any = [records.exact(term, arithmetic) for term in terms]
    expected = added_in_turn(np.stack(stacked))
    return records.against(number, expected), expected


def added(parts: list[Bounded]) -> Any:
    """Return the sum of gradients, in any order."""
    stacked: Any = parts
    return parts[0] if len(parts) == 1 else np.sum(np.stack(stacked), axis=(0,))


def adding(dtype: str) -> Arithmetic:
    """Return the arithmetic in which gradients are added one by one."""
    return Arithmetic.sequential(dtype if is_inexact(dtype) else "float32")
