"""A ``.grad`` still holding an earlier step's gradient, to which a backward pass added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.engine.distant import scalar, where_it_lives
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import AFTERWARDS, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class Stale(Detector):
    """Distinguishes intended accumulation, several passes for one update, from stale gradients.

    A stale gradient that is cleared before an update uses it, as a GAN's generator pass leaves in
    the discriminator, does no harm and is not noted. Neither is one from before the block: programs
    accumulate over blocks.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape, records)
        # Storages of parameters with a gradient from this block, and the writes to storages since.
        self._used: set[int] = set()
        self._written: dict[int, Source] = {}
        # Stale gradients not yet used by an update: leaf, pass, source of the update before.
        self._pending: dict[int, list[tuple[int, int, Source]]] = {}
        # Leaves, passes, source of the first update.
        self._leaves: dict[int, None] = {}
        self._passes: dict[int, None] = {}
        self._source: Source | None = None

    def called(self, call: Call, findings: Sequence[Finding]) -> None:  # noqa: D102
        del findings
        if call.writes:
            for number in call.outputs:
                layout = None if number is None else self.tape.values[number].layout
                if layout is not None:
                    self._written.setdefault(layout.storage, call.source)
                    for leaf, sweep, source in self._pending.pop(layout.storage, ()):
                        self._leaves[leaf] = self._passes[sweep] = None
                        self._source = self._source or source

    def accumulated(  # noqa: D102
        self, sweep: int, node_run: NodeRun, update: LeafUpdate
    ) -> None:
        leaf = self.tape.nodes[node_run.node].leaf
        if leaf is None:
            return
        layout = self.tape.values[leaf].layout
        storage = -1 if layout is None else layout.storage
        again, changed = storage in self._used, self._written.pop(storage, None)
        self._used.add(storage)
        if update.before is None or self._is_zero(update.before):
            self._pending.pop(storage, None)
        elif again and changed is not None:
            self._pending.setdefault(storage, []).append((leaf, sweep, changed))

    def _is_zero(self, number: int) -> bool:
        array = where_it_lives(self.tape.values[number]).array
        return array is not None and not scalar(np.any(array))

    def _find_hooks(self, tape: Tape) -> None:
        """Find gradients that a hook's update had used: what it computes in a pass leaves no calls.

        It shows in the numbers of the parameter, which are others in the next forward pass.
        """
        before: dict[int, int] = {}
        for number, sweep in enumerate(tape.sweeps):
            hooks = {edge.node: text for edge, text in sweep.hooks if text.startswith(AFTERWARDS)}
            for update in sweep.leaves:
                earlier, leaf = before.get(update.node), tape.nodes[update.node].leaf
                if update.node not in hooks or leaf is None:
                    continue
                before[update.node] = sweep.after
                used = earlier is not None and _moved(tape, leaf, earlier, sweep.after)
                if used and update.before is not None and not self._is_zero(update.before):
                    self._leaves[leaf] = self._passes[number] = None
                    line = hooks[update.node].rpartition(" at ")[2]
                    self._source = self._source or Source(line=line)

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        self._find_hooks(judged.tape)
        if not self._leaves:
            return []
        # An updated parameter is another value of the same name.
        names = dict.fromkeys(
            judged.tape.values[n].name or f"value {n}" for n in sorted(self._leaves)
        )
        passes = list(self._passes)
        numbers = "es " if len(passes) > 1 else " "
        numbers += ", ".join(str(number + 1) for number in passes[:4])
        numbers += f" and {len(passes) - 4} more" if len(passes) > 4 else ""
        text = (
            f"{listed(list(names))}: backward pass{numbers} added to a .grad that an update had "
            "already used. Call zero_grad() between steps."
        )
        return [Note("stale gradient", text, self._source, sweep=passes[0])]


def _moved(tape: Tape, leaf: int, begin: int, end: int) -> bool:
    """Whether calls after a pass take other numbers of a leaf than before, and none wrote them."""
    memory = storages(tape, [leaf])
    calls = tape.calls[begin:end]
    if any(call.writes and memory & storages(tape, call.outputs) for call in calls):
        return False
    # What calls made shows the leaf as it is: its views.
    known = {leaf}.union(*((*c.operands, *c.outputs) for c in tape.calls[:begin]))
    known |= {n for call in calls for n in call.outputs if n is not None}
    return any(memory & storages(tape, [n]) for c in calls for n in c.operands if n not in known)
