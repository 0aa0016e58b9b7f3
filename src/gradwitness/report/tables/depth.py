"""How the steps were looked at that were not judged in full, and what that may miss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import several
from gradwitness.judging.comparing.comparison import CANCELS, CLOSE, SAMPLED
from gradwitness.judging.depth import FULL
from gradwitness.judging.left_out import LEFT_OUT
from gradwitness.judging.numbers import short

if TYPE_CHECKING:
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.finding import Report


def looked_at(report: Report) -> str:
    """Return how the steps were looked at that were not judged in full, and what that may miss.

    Nothing, where no number was left out: at full depth without projections on a device.
    """
    comparisons = [finding.comparison for finding in report.findings]
    projected = [c for c in comparisons if c.missed and c.share == 1]
    in_part = [c for c in comparisons if c.missed and c.share < 1]
    sampled = [c for c in comparisons if c.reason == SAMPLED]
    close = [c for c in comparisons if c.reason == CLOSE]
    if report.depth == FULL and not (projected or in_part):
        return ""
    parts = []
    if projected:
        parts.append(f"{_steps(projected)} by projection ({_beyond(projected)})")
    if in_part:
        share = f"{100 * _share(in_part):.2g} %"
        parts.append(
            f"{_steps(in_part)} by projection of {share} of their rows ({_beyond(in_part)})"
        )
    if sampled:
        parts.append(f"{_steps(sampled)} by {100 * _share(sampled):.2g} % of their numbers")
    if close:
        error = max(c.detects_relative for c in close)
        parts.append(
            f"{_steps(close)} against float64 (an error above {short(error, 2)} of the largest "
            "number is seen)"
        )
    if left_out := [c for c in comparisons if c.reason == LEFT_OUT]:
        comparisons = [c for c in comparisons if c.reason != LEFT_OUT]
    looked = {id(c) for c in (*projected, *in_part, *sampled, *close)}
    parts.append(f"{_steps([c for c in comparisons if id(c) not in looked])} whole")
    if left_out:
        parts.append(f"{_steps(left_out)} not at all")
    return ", ".join(parts)


def _steps(comparisons: list[Comparison]) -> str:
    return several(len(comparisons), "step", "steps")


def _share(comparisons: list[Comparison]) -> float:
    return sum(c.size * c.share for c in comparisons) / sum(c.size for c in comparisons)


def _beyond(projected: list[Comparison]) -> str:
    """Return what projections see, of the rows that they look at."""
    # Where terms cancel, nothing is left to which an error could be compared.
    detects = max((c.detects_relative for c in projected if c.reason != CANCELS), default=0.0)
    missed = max(c.missed for c in projected)
    return (
        f"an error above {short(detects, 2)} of the largest row passes with a chance below "
        f"{missed:g}"
    )
