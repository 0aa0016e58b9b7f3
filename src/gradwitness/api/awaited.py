"""A report whose float64 replay waits until somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.finding import Report


class Awaited:
    """A report, and what completes it.

    Parameters
    ----------
    first : Report
        With every verdict.
    completed : callable or None
        Returns it with its digits and all of its notes; None if it has them.
    judge : str
        What the verdict rests on, see `Report.judging`.

    Attributes
    ----------
    first : Report
    """

    def __init__(
        self, first: Report, completed: Callable[[], Report] | None = None, judge: str = "all"
    ) -> None:
        self.first = first.judging(judge)
        self._completed = completed
        self._judge = judge

    def __getstate__(self) -> dict[str, Any]:
        # What completes a report stays where the block ran: copies and pickles have it all.
        return {"first": self.whole, "_completed": None, "_judge": self._judge}

    @property
    def whole(self) -> Report:
        """The complete report."""
        if self._completed is not None:
            self.first = self._completed().judging(self._judge)
            self._completed = None
        return self.first
