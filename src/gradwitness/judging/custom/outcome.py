"""How the cases against what custom functions sent ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from gradwitness.judging.custom.approximations import within

if TYPE_CHECKING:
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.custom.lie_groups import Kinds
    from gradwitness.judging.finding import Finding


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes
    ----------
    comparison : Comparison
    grade : str
    kinds : Kinds or None
        Which of its gradients are along Lie groups.
    is_untold : bool
        Whether slopes were measured, and support neither gradient more than the other.
    """

    comparison: Comparison
    grade: str
    kinds: Kinds | None = None
    is_untold: bool = False

    def is_nearer(self, plain: Comparison) -> bool:
        """Whether a gradient is nearer to this than to one by the numbers."""
        return self.comparison.relative_error < plain.relative_error

    def within(self, tolerance: float, scale: float, plain: Comparison) -> Outcome:
        """Return it with an error within a tolerance as none, if it is nearer than plain."""
        if not self.is_nearer(plain):
            return self
        comparison, grade = within(self.comparison, "", tolerance, scale)
        said = f"{grade}, {self.kinds}" if grade else self.grade
        return replace(self, comparison=comparison, grade=said)


class Settled(NamedTuple):
    """Findings after every accused function was measured.

    Attributes
    ----------
    findings : list of Finding
    trusted : set of int
        The nodes that the rules refute, but not their slopes.
    told : dict of (pass, node, edge, value) to Comparison
        What was refuted, or agrees by the function's own formula, by what sent a gradient, and
        which: a leaf may have received just that.
    """

    findings: list[Finding]
    trusted: set[int | None]
    told: dict[tuple[int | None, ...], Comparison]
