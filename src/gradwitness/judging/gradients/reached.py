"""What is left in the program's gradients of errors that steps were allowed as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.binding import recorded
from gradwitness.judging.comparing.compare import SHARE, unjudged
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.accused import NORMWISE, Along
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.gradients.unfelt import Trusting, changes_of, error_of
from gradwitness.judging.graph_queries import ancestors
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.finding import Row
    from gradwitness.tape import Tape

_WITHIN = "agrees within the declared approximation of {names}: {off}"
_BEYOND = (
    "the declared approximation of {names} has grown to {off:.2g} of the largest number here, "
    "beyond the {limit:.2g} that was declared"
)
_AMPLIFIED = (
    "an error that {names} is allowed, relative to the largest number that it sends, has grown to "
    "{off:.2g} of what arrives here: run it in a wider format (float64)"
)


def with_approximations(
    tape: Tape, findings: Sequence[Finding], rows: Sequence[Row], trusted: Collection[int | None]
) -> tuple[list[Row], list[Finding]]:
    """Return rows that tell which error of a declared approximation reached them, and the doubts.

    Each step is within its tolerance. A later step may still make more of its error than was
    declared: such a row is in doubt. So is one to which an error that was allowed is amplified.
    """
    result, doubts = list(rows), []
    used = [f for f in findings if f.comparison.tolerance and f.verdict is Verdict.AGREES]
    for sweep in {f.sweep for f in used if f.sweep is not None}:
        of_pass = [f for f in used if f.sweep == sweep]
        # Along a Lie group, an error is no difference of numbers.
        is_plain = not any(isinstance(f, Along) for f in of_pass)
        changes = _changes(tape, sweep, of_pass, trusted) if is_plain else None
        for index, row in enumerate(result):
            if row.sweep == sweep and row.verdict is Verdict.AGREES:
                told = _told(tape, row, of_pass, changes)
                if told.verdict is Verdict.INCONCLUSIVE:
                    title = f"the gradient of {row.name}"
                    doubt = Finding(Step.ACCUMULATE, title, unjudged(told.reason), sweep=sweep)
                    doubts.append(doubt)
                result[index] = told
    amplified, more = _amplified(tape, findings, result, trusted)
    return amplified, [*doubts, *more]


def _amplified(
    tape: Tape, findings: Sequence[Finding], rows: Sequence[Row], trusted: Collection[int | None]
) -> tuple[list[Row], list[Finding]]:
    """Return rows in doubt of an error that a step was allowed and later ones amplified.

    A custom function is allowed an error relative to the largest number that it sends. Where that
    is sent on to a number that is much smaller, or is multiplied, it may be all that arrives.
    """
    result, doubts = list(rows), []
    for sweep in {row.sweep for row in rows if _is_off(row)}:
        allowed = [
            f
            for f in findings
            if f.sweep == sweep and f.verdict is Verdict.AGREES and f.grade.startswith(NORMWISE)
        ]
        changes = _changes(tape, sweep, allowed, trusted) if allowed else {}
        for index, row in enumerate(result):
            change = (changes or {}).get((row.node, row.input_nr))
            if row.sweep != sweep or not _is_off(row) or change is None:
                continue
            size = 0.0 if row.value is None else largest(recorded(tape)(row.value))
            off = largest(change) / size if size else 0.0
            if off > max(SHARE, row.comparison.detects_relative):
                reason = _AMPLIFIED.format(names=_names(tape, allowed, row), off=off)
                title = f"the gradient of {row.name}"
                doubts.append(Finding(Step.ACCUMULATE, title, unjudged(reason), sweep=sweep))
                result[index] = in_doubt(row, reason)
    return result, doubts


def _is_off(row: Row) -> bool:
    """Whether a gradient that agrees has no digit in common with the float64 replay."""
    return row.verdict is Verdict.AGREES and row.digits < 1


def in_doubt(row: Row, reason: str) -> Row:
    """Return a row that could not be judged."""
    return replace(row, verdict=Verdict.INCONCLUSIVE, reason=reason, inherited=True, apart=None)


def _names(tape: Tape, findings: Sequence[Finding], row: Row) -> str:
    """Name the functions of findings that a row depends on."""
    before = ancestors(tape, {row.node})
    nodes = (tape.nodes[f.node or 0].name for f in findings if f.node in before)
    return listed(list(dict.fromkeys(name.removesuffix("Backward") for name in nodes)))


def _told(
    tape: Tape, row: Row, findings: Sequence[Finding], changes: dict[tuple[int, int], Any] | None
) -> Row:
    before = ancestors(tape, {row.node})
    on_its_way = [f for f in findings if f.node in before]
    if not on_its_way:
        return row
    names = _names(tape, on_its_way, row)
    try:
        size = 0.0 if row.value is None else largest(recorded(tape)(row.value))
    except Unjudgeable:
        size = 0.0
    if changes is None or not size:
        unknown = "how far it has grown on its way is not known"
        return replace(row, reason=_WITHIN.format(names=names, off=unknown))
    change = changes.get((row.node, row.input_nr))
    off = 0.0 if change is None else largest(change) / size
    # To first order, errors add up.
    limit = sum(f.comparison.tolerance for f in on_its_way)
    if off > limit:
        beyond = _BEYOND.format(names=names, off=off, limit=limit)
        return in_doubt(row, beyond)
    return replace(
        row, reason=_WITHIN.format(names=names, off=f"to {off:.2g} of the largest number")
    )


def _changes(
    tape: Tape, sweep: int, findings: Sequence[Finding], trusted: Collection[int | None]
) -> dict[tuple[int, int], Any] | None:
    """Return by how much approximations have changed what arrives anywhere; None if not known."""

    def error(finding: Finding) -> NDArray[Any]:
        return error_of(tape, sweep, tape.nodes[finding.node or 0], finding.tensor_nr)[0]

    return changes_of(tape, sweep, findings, Trusting(trusted), error)
