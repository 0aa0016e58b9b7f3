"""The base class of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding, Row
    from gradwitness.judging.note import Note
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


@dataclass(frozen=True)
class Judgement:
    """A complete tape and everything that was found.

    Attributes
    ----------
    replayed : Replay or None
        In float64; it may hold no more than the gradients of the rows.
    again : callable or None
        Makes the replay with every number; None if ``replayed`` is that.
    """

    tape: Tape
    findings: Sequence[Finding]
    rows: Sequence[Row]
    replayed: Replay | None
    again: Callable[[], Replay] | None

    @cached_property
    def whole_replay(self) -> Replay | None:
        """The replay with every number, if there is one: made when first asked for."""
        return self.again() if self.replayed is not None and self.again else self.replayed


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

    def accumulated(self, sweep: int, node_run: NodeRun, update: LeafUpdate) -> None:
        """Observe the node runs that add to a leaf's ``.grad``, which are few."""

    def notes(self, judged: Judgement) -> list[Note]:
        """Return the notes, once the tape is complete."""
        raise NotImplementedError
