"""What claims are compared with, and what came of it: references, rows and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gradwitness.diagnose.rank import Cause
    from gradwitness.engine.replay import Replay
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.finding import Coverage
    from gradwitness.tape import Tape


@dataclass(frozen=True)
class Reference:
    """The right value of a gradient.

    Attributes
    ----------
    value : ndarray
        The numbers, in any format.
    allowance : ndarray or float
        How far rounding may move right claims from them, apart from ``share``.
    doubt : str
        Why the witness cannot vouch for it; empty if it can.
    is_part : bool
        Whether entries are missing, so that its shape says nothing.
    cancels : bool
        Whether its terms cancel, so that it is zero within rounding.
    doubtful_to : float
        The distance up to which a claim is in doubt and not wrong, relative to the largest number;
        0 where the allowance is derived, inf where nothing can be refuted.
    rounding : ndarray or float
        How much of the allowance is for digits of the value itself that were not written down.
    decimals : int
        To how many decimals the value was rounded, beyond what its source says; 0 if it was not.
    share : float
        The share of the largest number that rounding may move right claims besides.
    """

    value: NDArray[Any]
    allowance: NDArray[np.float64] | float
    doubt: str = ""
    is_part: bool = False
    cancels: bool = False
    doubtful_to: float = 0.0
    rounding: NDArray[np.float64] | float = 0.0
    decimals: int = 0
    share: float = 0.0

    def allowed(self, largest: float) -> NDArray[np.float64] | float:
        """Return how far rounding may move right claims, if that is the largest number."""
        return self.share * largest + self.allowance if self.share else self.allowance


@dataclass(frozen=True)
class Program:
    """The recorded program that references come from."""

    tape: Tape
    replay: Replay
    sweep: int


@dataclass(frozen=True)
class ClaimRow:
    """The judgement of one claimed gradient.

    Attributes
    ----------
    name : str
        Of the gradient claimed.
    claimed_as : str
        Its name in the source.
    shape : tuple of int
        The shape it should have.
    verdict : Verdict
    reason : str
        Why it is INCONCLUSIVE, or what is wrong beyond the figures; empty where they say it.
    inherited : bool
        Whether another gradient's fault explains this one's.
    comparison : Comparison
        Recorded is the claim, expected the reference.
    digits : float
        Decimal digits in which both agree, normwise; nan if they cannot be compared.
    coverage : Coverage
        How many of its numbers confirm something, of how many there are.
    """

    name: str
    claimed_as: str
    shape: tuple[int, ...]
    verdict: Verdict
    reason: str
    inherited: bool
    comparison: Comparison
    digits: float
    coverage: Coverage

    def verdict_to(self, digits: float | None) -> Verdict:
        """Return the verdict where a disagreement with so many right digits is let pass."""
        return self.comparison.verdict_to(digits)


@dataclass(frozen=True)
class ClaimReport:
    """The judgement of one run of claims.

    Attributes
    ----------
    source, against : str
        Who claims, and what the claims were compared with.
    dtype : str
        The format that the claims are assumed to be computed in.
    grade : str
        What the allowances rest on.
    rows : tuple of ClaimRow
        In the order of the forward pass.
    unclaimed, unknown : tuple of str
        Gradients without a claim; claims that match no gradient.
    notes : tuple of str
        How the source was understood.
    causes : tuple of Cause
        Why claims are wrong, best first; empty where no explanation fits.
    digits : float or None
        What is `required`: a disagreement with so many right digits is let pass.
    is_mutual : bool
        Whether neither source is right by itself, so that what either one lacks leaves a doubt.
    """

    source: str
    against: str
    dtype: str
    grade: str
    rows: tuple[ClaimRow, ...]
    unclaimed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    digits: float | None = None
    is_mutual: bool = False

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """Gradients that are compared with nothing, each with the source that lacks it."""
        theirs = self.unknown if self.is_mutual else ()
        return (
            *((name, self.source) for name in self.unclaimed),
            *((name, self.against) for name in theirs),
        )

    @property
    def verdict(self) -> Verdict:
        """The worst of all; a `missing` gradient counts as INCONCLUSIVE, and so does no claim."""
        return self._verdict_to(None)

    @property
    def required(self) -> Verdict:
        """The verdict to which the required digits lead: what exit codes and `require` follow."""
        return self._verdict_to(self.digits)

    def _verdict_to(self, digits: float | None) -> Verdict:
        missing = [Verdict.INCONCLUSIVE] * bool(self.missing)
        return worst([row.verdict_to(digits) for row in self.rows] + missing)

    @property
    def exit_code(self) -> int:
        """Exit code of a command with this report."""
        return self.required.exit_code

    @property
    def wrong(self) -> tuple[ClaimRow, ...]:
        """The refuted claims."""
        return tuple(row for row in self.rows if row.verdict is Verdict.DISAGREES)

    @property
    def first_wrong(self) -> ClaimRow | None:
        """The first refuted claim in the order of the backward pass, which ends at the inputs."""
        return self.wrong[-1] if self.wrong else None
