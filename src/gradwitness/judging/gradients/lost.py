"""What rounding left of a step whose bound is too wide to tell: measured, where it is surely off.

Its formula cannot be judged by such numbers. That they are wrong is a finding all the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.gradients.doubts import is_magnitude

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.finding import Finding, Row

LOST = "digits lost"
# Less than this share of the largest number is no finding.
_LEAST = 0.01
_REMEDY = "compute this step in a wider format, in another order or by another formula"


def with_losses(
    findings: Sequence[Finding], rows: Sequence[Row]
) -> tuple[list[Finding], list[Row]]:
    """Return findings and rows whose doubt says how far off the numbers are, where they surely are.

    Parameters
    ----------
    findings : sequence of Finding
    rows : sequence of Row
    """
    told = [_with(f, _told(f.comparison)) for f in findings]
    if all(t is f for f, t in zip(findings, told, strict=True)) and not any(
        _told(row.comparison) is not row.comparison for row in rows
    ):
        return told, [*rows]
    inherited = {_behind(f): _behind(t) for f, t in zip(findings, told, strict=True)}

    def row_told(row: Row) -> Row:
        own = _told(row.comparison)
        is_own = row.reason == row.comparison.reason
        reason = own.reason if is_own else inherited.get(row.reason, row.reason)
        return replace(row, comparison=own, reason=reason)

    return told, [*map(row_told, rows)]


def _with(finding: Finding, comparison: Comparison) -> Finding:
    same = comparison is finding.comparison
    return finding if same else replace(finding, comparison=comparison)


def _behind(finding: Finding) -> str:
    """Return how a gradient that inherits a doubt says so, see `Lineage`."""
    return f"{finding.title}: {finding.comparison.reason}"


def _told(comparison: Comparison) -> Comparison:
    c = comparison
    if not (is_magnitude(c) and 0 < c.detects_relative < math.inf):
        return c
    share = c.surely_off / (c.detects / c.detects_relative)
    if not share > _LEAST:
        return c
    text = (
        f"{LOST}: {100 * share:.3g} % of its largest number off float64's result, "
        f"{max(0.0, -math.log10(share)):.1f} digits right, which rounding alone may do: {_REMEDY}"
    )
    return replace(c, reason=text)
