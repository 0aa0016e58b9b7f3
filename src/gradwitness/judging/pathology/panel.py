"""All detectors together; one that fails is dropped, with a note."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._printable import one_line
from gradwitness.judging.note import Note
from gradwitness.judging.pathology import DETECTORS
from gradwitness.judging.pathology.detector import Detector
from gradwitness.judging.pathology.lost_sums import LostSums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.judging.pathology.detector import Judgement
    from gradwitness.tape import Call, LeafUpdate, NodeRun, Tape


class Panel:
    """Shows every step to every detector, and collects the notes.

    Detectors run amid the program's own operations: an exception in one must stop neither the
    program nor the report.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    records : Records
    thorough : bool
        Whether those are asked that compute a step again.
    """

    def __init__(self, tape: Tape, records: Records, *, thorough: bool = True) -> None:
        asked = (d for d in DETECTORS if thorough or d is not LostSums)
        detectors: list[Detector] = [detector(tape, records) for detector in asked]
        # Those that heed an event, with what they do then: a step is shown to a few of all.
        self._heeding: dict[str, list[tuple[Detector, Callable[..., Any]]]] = {
            method: [(d, getattr(d, method)) for d in detectors if _is_own(d, method)]
            for method in ("called", "node_ran", "accumulated", "notes")
        }
        self._failures: list[Note] = []

    def called(self, call: Call, findings: Sequence[Finding]) -> None:
        """Pass a call on."""
        self._show("called", call, findings)

    def node_ran(
        self, sweep: int, node_run: NodeRun, update: LeafUpdate | None, findings: Sequence[Finding]
    ) -> None:
        """Pass a node run on."""
        self._show("node_ran", sweep, node_run, update, findings)
        if update is not None:
            self._show("accumulated", sweep, node_run, update)

    def notes(self, judgement: Judgement) -> tuple[Note, ...]:
        """Return the notes of all detectors, then those about failures."""
        notes: list[Note] = []
        self._show("notes", judgement, heard=notes.extend)
        return (*notes, *self._failures)

    def _show(self, method: str, *given: Any, heard: Callable[[Any], None] | None = None) -> None:
        """Call a method of the detectors that have their own, and pass on what it returned."""
        for detector, heed in self._heeding[method]:
            try:
                returned = heed(*given)
                if heard is not None:
                    heard(returned)
            except Exception as error:  # noqa: BLE001 (noted in the report, see the class)
                self._drop(detector, error)

    def _drop(self, detector: Detector, error: Exception) -> None:
        for method, heeding in self._heeding.items():
            self._heeding[method] = [(d, heed) for d, heed in heeding if d is not detector]
        reason = one_line(f"{type(error).__name__}: {error}")
        text = (
            f"{type(detector).__name__} stopped with {reason}. Its "
            "notes are missing; no verdict depends on them. This is a bug in gradwitness."
        )
        self._failures.append(Note("detector failed", text))


def _is_own(detector: Detector, method: str) -> bool:
    return getattr(type(detector), method) is not getattr(Detector, method)
