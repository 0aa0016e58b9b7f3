"""The base class of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.note import Note
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


@dataclass(frozen=True)
class Judgement:
    """A complete tape, everything that was found, and the float64 replay if there is one."""

    tape: Tape
    findings: Sequence[Finding]
    rows: Sequence[Row]
    replayed: Replay | None


class Detector:
    """Looks for one pathology; a step's numbers are available while the step is observed.

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
        """Observe a call and the findings about its results."""

    def node_ran(
        self,
        sweep: int,
        node_run: NodeRun,
        update: LeafUpdate | None,
        findings: Sequence[Finding],
    ) -> None:
        """Observe a node run of a backward pass and the findings about it."""

    def notes(self, judged: Judgement) -> list[Note]:
        """Return the notes, once the tape is complete."""
        raise NotImplementedError
