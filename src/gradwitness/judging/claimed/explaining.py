"""Why claims are wrong: what hypotheses are shown, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.diagnose.hypotheses.unsafe import unsafe_program
from gradwitness.diagnose.inlined_functions import diagnose_inlined
from gradwitness.diagnose.remainder import unexplained
from gradwitness.diagnose.suspects import untried
from gradwitness.judging.claimed.distances import extent
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim
    from gradwitness.diagnose.rank import Cause
    from gradwitness.judging.claimed.reports import ClaimRow, Program, Reference

    Judged: TypeAlias = Mapping[str, tuple[ClaimRow, Claim, Reference]]

# The search takes a hundred bytes for each number: about a gigabyte for so many.
_MOST_NUMBERS = 1 << 23


def explain(judged: Judged, program: Program | None) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes of what is wrong with whole claims, best first, and notes."""
    is_wrong = any(row.verdict is Verdict.DISAGREES for row, *_ in judged.values())
    if not (is_wrong or program):
        return (), ()
    large = [] if program else _largest(judged)
    exhibits = {name: _exhibit(*of) for name, of in judged.items() if name not in large}
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    if any(exhibit.refuted for exhibit in exhibits.values()):
        origin = (program.tape, program.replay, program.sweep) if program else (None, None, 0)
        case = Case(exhibits, *origin)
        causes = diagnose_inlined(case)
        notes += tuple(filter(None, (unexplained(case, causes), untried(case))))
    if large:
        with_them = "it" if len(large) == 1 else "them"
        why = f"with {with_them} there are more than {_MOST_NUMBERS:,} numbers"
        notes += (f"no cause was looked for in {listed(large, 3)}: {why}, too many for memory",)
    if program:
        notes += unsafe_program(exhibits, program.tape, program.replay, program.sweep)
    return causes, notes


def _largest(judged: Judged) -> list[str]:
    """Return the largest tensors, beyond as many numbers as causes are looked for in."""
    sizes = {name: reference.value.size for name, (_, _, reference) in judged.items()}
    names = sorted(sizes, key=lambda name: sizes[name])
    totals = np.cumsum([sizes[name] for name in names])
    return [name for name, total in zip(names, totals, strict=True) if total > _MOST_NUMBERS]


def _exhibit(row: ClaimRow, claim: Claim, reference: Reference) -> Exhibit:
    """Return a claim as evidence for hypotheses."""
    value, claimed = (_wide(array) for array in (reference.value, claim.array))
    allowance = reference.allowed(extent(value)[0])
    if claimed.shape == value.shape:
        allowance = allowance + claim.rounding
    elif claimed.size == value.size:
        # Which rounding belongs to which number is lost with the shape.
        claimed = claimed.reshape(value.shape)
        allowance = allowance + np.max(claim.rounding, initial=0.0)
    refuted = row.verdict is Verdict.DISAGREES
    allowance = np.broadcast_to(allowance, value.shape)
    return Exhibit(row.name, value, claimed, allowance, refuted)


def _wide(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64, order="C", copy=False)
