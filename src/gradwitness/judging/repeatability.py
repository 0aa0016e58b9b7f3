"""Whether a backward pass, run twice from the same state, gives the same bits twice."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.judging.note import Note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.tape import Edge, NodeRun, Tape

Prints = tuple[bytes | None, ...]
# For numbers that could not be read: never counts as a difference.
_UNREADABLE = b""
KIND = "backward is not deterministic"


@dataclass
class _Pass:
    """A backward pass as fingerprints: what arrived at each node, and what the node sent."""

    node_runs: dict[int, tuple[Prints, Prints]]
    arrived: dict[tuple[int, int], bytes | None]


class Fingerprints:
    """Keeps a few bytes of each gradient, so that passes can be compared.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._passes: dict[int, _Pass] = {}
        # For each pass of the program: the passes within it, and those within its repetition.
        self._groups: dict[int, tuple[list[_Pass], list[_Pass]]] = {}

    def begins(self, sweep: int, group: int, *, again: bool) -> None:
        """Begin one of the program's own passes, or its repetition."""
        self._passes[sweep] = _Pass({}, {})
        self._groups.setdefault(group, ([], []))[again].append(self._passes[sweep])

    def node_ran(self, sweep: int, node_run: NodeRun) -> None:
        """Fingerprint a node run."""
        own_pass = self._passes[sweep]
        arrived = self._prints(node_run.incoming)
        own_pass.node_runs[node_run.node] = (arrived, self._prints(node_run.outgoing))
        for index, fingerprint in enumerate(arrived):
            own_pass.arrived[node_run.node, index] = fingerprint

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Fingerprint the gradients that the pass returned."""
        for edge, value in captured:
            self._passes[sweep].arrived[edge.node, edge.index] = self._print(value)

    def _prints(self, values: Sequence[int | None]) -> Prints:
        return tuple(self._print(value) for value in values)

    def _print(self, value: int | None) -> bytes | None:
        if value is None:
            return None
        array = self._tape.values[value].array
        if array is None:
            return _UNREADABLE
        # The bits of a NaN are not specified.
        plain = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        return blake2b(plain.tobytes(), digest_size=16).digest()

    def notes(self, tape: Tape) -> list[Note]:
        """Compare each pass with its repetition.

        Returns
        -------
        list of Note
            One for each pair that differs: the parameters whose gradients differ, and the first
            node that sent different gradients for the same incoming ones.
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
    where = f"of {listed(differs)}" if differs else "inside the graph, not at its ends,"
    text = f"Run twice from the same state, the pass gives gradients {where} with different bits. "
    if guilty is None:
        return [Note(KIND, text + "No single node is known to be the first.")]
    node = tape.nodes[guilty]
    text += f"The first to differ for the same incoming gradient is {node.name} #{guilty}."
    calls = [*node.inner, *([] if node.call is None else [node.call])]
    source = tape.calls[calls[0]].source if calls else None
    return [Note(KIND, text, source, node=guilty)]


def _differs(a: bytes | None, b: bytes | None) -> bool:
    return a != b and _UNREADABLE not in (a, b)
