"""A tensor changed in place between the forward pass and a backward step that uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.judging.finding import Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, Node, NodeRun, Tape

_KIND = "changed after it was saved"
# (An enumeration's members are looked up at a function's pace.)
_DISAGREES = Verdict.DISAGREES


class Overwritten(Detector):
    """Looks, where a backward step disagrees, for a write to memory that it read.

    Autograd refuses to use a changed tensor, unless the change went behind its back: through
    ``.data``, ``set_`` or memory shared with NumPy. The last leaves no call; it is noticed if torch
    handed the memory out, or the numbers of the forward pass are still cached.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # Nodes that disagree, by the guilty call; None: not a recorded call.
        self._blamed: dict[int | None, list[tuple[int, int]]] = {}
        # The calls that write to each piece of memory, and how many calls were searched for them.
        self._writes: dict[int, list[int]] = {}
        self._searched = 0

    def node_ran(  # noqa: D102
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        del update
        wrong = [f for f in findings if f.comparison.verdict is _DISAGREES]
        if not wrong or all(f.step is not Step.BACKWARD for f in wrong):
            return
        node = self.tape.nodes[node_run.node]
        calls = [self.tape.calls[n] for n in _calls(node)]
        self._search(node_run.after)
        own = set(node.inner)
        writes = (self._later_write(call, node_run.after, own) for call in calls)
        write = next((write for write in writes if write is not None), None)
        if write is not None:
            self._blamed.setdefault(write, []).append((sweep, node.id))
        elif any(self._is_changed(n) for call in calls for n in _values(call)):
            self._blamed.setdefault(None, []).append((sweep, node.id))

    def _is_changed(self, number: int) -> bool:
        rewritten = self.tape.rewritten
        return (rewritten is not None and rewritten(number)) or self.records.changed(number)

    def _search(self, count: int) -> None:
        """Note which memory the calls up to a count write to."""
        for number in range(self._searched, count):
            call = self.tape.calls[number]
            for storage in storages(self.tape, call.outputs) if call.writes else ():
                self._writes.setdefault(storage, []).append(number)
        self._searched = max(self._searched, count)

    def _later_write(self, call: Call, count: int, inner: Collection[int]) -> int | None:
        """Return the first later call, up to a count, that writes to memory that a call used.

        A function's own calls do not count: it writes before it saves anything.
        """
        found = (
            number
            for storage in storages(self.tape, _values(call))
            for number in self._writes.get(storage, ())
            if call.id < number < count and number not in inner
        )
        return min(found, default=None)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        notes: dict[tuple[str, str], Note] = {}
        # What a function's slopes or the leaves have acquitted needs no explanation.
        wrong = {(f.sweep, f.node) for f in judged.findings if f.verdict is Verdict.DISAGREES}
        for number, suspected in self._blamed.items():
            blamed = [pair for pair in suspected if pair in wrong]
            if not blamed:
                continue
            write = None if number is None else tape.calls[number]
            readers = listed([f"{tape.nodes[node].name} #{node}" for _, node in blamed])
            text = (
                f"{named(write)} overwrote a tensor that the backward of {readers} still needed, "
                "and torch did not notice. Change a copy, or change it after backward."
            )
            sweep, node = blamed[0]
            source = write.source if write else None
            note = Note(_KIND, text, source, write.id if write else None, node, sweep)
            # A line does it in every training step: one note each.
            notes.setdefault((write.op if write else "", source.line if source else ""), note)
        return list(notes.values())


def _calls(node: Node) -> list[int]:
    return [*node.inner, *([] if node.call is None else [node.call])]


def _values(call: Call) -> set[int]:
    numbers = {*call.operands}
    return numbers | {n for n in call.outputs if n is not None}


def named(write: Call | None) -> str:
    """Return what wrote to a tensor, in words: a call, or what left none."""
    if write is None:
        return "something other than a torch operation (a NumPy view, a C extension)"
    return f"{write.op} (call {write.id})"
