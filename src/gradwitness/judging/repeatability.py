"""Whether a backward pass that is run twice from one state gives the same bits twice."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.tape import Edge, NodeRun, Tape

Prints = tuple[bytes | None, ...]
# Stands for numbers that could not be read: equal to nothing.
_UNKNOWN = b""
KIND = "backward is not deterministic"


@dataclass
class _Pass:
    """A backward pass as fingerprints: of each node what arrived and what it sent."""

    node_runs: dict[int, tuple[Prints, Prints]]
    arrived: dict[tuple[int, int], bytes | None]


class Fingerprints:
    """Keeps a few bytes of each gradient that passes by, so that passes can be compared.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._passes: dict[int, _Pass] = {}
        # By the program's own pass: it, and its repetition, each with the passes within it.
        self._groups: dict[int, tuple[list[_Pass], list[_Pass]]] = {}

    def begins(self, sweep: int, group: int, *, again: bool) -> None:
        """Begin a pass of the program's own, or of its repetition."""
        self._passes[sweep] = _Pass({}, {})
        self._groups.setdefault(group, ([], []))[again].append(self._passes[sweep])

    def node_ran(self, sweep: int, node_run: NodeRun) -> None:
        """Take a node's turn in."""
        made = self._passes[sweep]
        arrived = self._prints(node_run.incoming)
        made.node_runs[node_run.node] = (arrived, self._prints(node_run.outgoing))
        for index, one in enumerate(arrived):
            made.arrived[node_run.node, index] = one

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Take in what the pass returned."""
        for edge, value in captured:
            self._passes[sweep].arrived[edge.node, edge.index] = self._print(value)

    def _prints(self, values: Sequence[int | None]) -> Prints:
        return tuple(self._print(value) for value in values)

    def _print(self, value: int | None) -> bytes | None:
        if value is None:
            return None
        array = self._tape.values[value].array
        if array is None:
            return _UNKNOWN
        # Which bits a NaN has is nobody's promise.
        plain = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        return blake2b(plain.tobytes(), digest_size=16).digest()

    def notes(self, tape: Tape) -> list[Note]:
        """Compare each pass with its repetition.

        Returns
        -------
        list of Note
            One for each pair that differs: the parameters whose gradients do, and the first node
            that made two things of one.
        """
        return [
            note
            for group in self._groups.values()
            for pair in zip(*group, strict=False)
            for note in _compared(tape, *pair)
        ]


def _compared(tape: Tape, first: _Pass, again: _Pass) -> list[Note]:
    differs = [
        leaf.name or f"value {leaf.id}"
        for node, leaf in tape.leaves()
        if _differs(first.arrived.get((node.id, 0)), again.arrived.get((node.id, 0)))
    ]
    guilty = next(
        (
            number
            for number, (arrived, sent) in first.node_runs.items()
            if number in again.node_runs
            and again.node_runs[number][0] == arrived
            and any(map(_differs, sent, again.node_runs[number][1]))
        ),
        None,
    )
    if guilty is None and not differs:
        return []
    which = f"of {listed(differs)}" if differs else "inside the graph, though not at its ends"
    text = f"The same pass, run twice from one state, gives gradients {which} with other bits. "
    if guilty is None:
        return [Note(KIND, text + "No single node could be told to begin it.")]
    node = tape.nodes[guilty]
    text += f"The first that makes two things of one is {node.name} #{guilty}."
    calls = [*node.inner, *([] if node.call is None else [node.call])]
    source = tape.calls[calls[0]].source if calls else None
    return [Note(KIND, text, source, node=guilty)]


def _differs(one: bytes | None, other: bytes | None) -> bool:
    return one != other and _UNKNOWN not in (one, other)
