"""The three verdicts, and the faults behind them. What was not judged never counts as passed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(Enum):
    """The verdict on a number, a tensor or a step."""

    AGREES = "AGREES"
    DISAGREES = "DISAGREES"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """Exit code of a command whose worst verdict this is."""
        return _EXIT_CODES[self]

    @property
    def severity(self) -> int:
        """Rank among the verdicts; the worst one counts."""
        return _BY_SEVERITY.index(self)


_EXIT_CODES = {Verdict.AGREES: 0, Verdict.DISAGREES: 1, Verdict.INCONCLUSIVE: 3}
_BY_SEVERITY = (Verdict.AGREES, Verdict.INCONCLUSIVE, Verdict.DISAGREES)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts; INCONCLUSIVE for none at all.

    Nothing judged is not agreement.
    """
    if not verdicts:
        return Verdict.INCONCLUSIVE
    return next(verdict for verdict in reversed(_BY_SEVERITY) if verdict in verdicts)


@dataclass(frozen=True)
class Fault:
    """One root cause; steps that merely inherit it have no fault.

    Attributes
    ----------
    verdict : Verdict
        DISAGREES, or INCONCLUSIVE for a step that could not be judged.
    title : str
        The step: ``SwishBackward #3, gradient of x (input 0)``; or the reason for doubt.
    text : str
        What is wrong, in full.
    line : str
        ``file:line`` of the program, or empty.
    kind : str
        ``wrong backward``, ``unjudged forward``, ``wrong claim``, ``broken law``, ...
    symbol : str
        What is wrong, as the program names it: ``Swish.backward``, ``aten.mm``, a gradient.
    cause, remedy : str
        The mistake's name, and what to do about it; empty where neither is known.
    numbers : mapping
        The figures of the comparison; empty where none was made.
    """

    verdict: Verdict
    title: str
    text: str
    line: str = ""
    kind: str = ""
    symbol: str = ""
    cause: str = ""
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)
