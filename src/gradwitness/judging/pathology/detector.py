"""What a detector is: it follows a program's steps and keeps what it needs for its notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.note import Note
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class Detector:
    """Looks for one pathology; a step's numbers are at hand while it is told of the step.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    records : Records
        Looks numbers up.
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        self.tape = tape
        self.records = records

    def called(self, call: Call, findings: Sequence[Finding]) -> None:
        """Hear of a call, and of what was found of its results."""

    def node_ran(
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        """Hear of a node's turn in a backward pass, and of what was found of it."""

    def notes(
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        """Return what to tell, once the tape grows no more."""
        raise NotImplementedError


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: the first few, and how many more."""
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
