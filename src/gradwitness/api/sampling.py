"""Which blocks of a training loop are watched, so that watching costs no more than its budget."""

from __future__ import annotations

import random
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from gradwitness._printable import several
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

# Watched in any case: a fault of the program's shows at once, and one that the first update makes.
_FIRST = 2
# How far the usual duration of a block follows the last one.
_PACE = 0.1


class Sampling:
    """What was watched of a training loop, and what that cost.

    A block is watched when enough of the budget has been saved for one to two blocks as dear as the
    last watched ones: how many, is drawn each time, so that no period of the loop goes unseen. The
    generator is this object's own.

    Parameters
    ----------
    budget : float
        What watching may cost, as a share of the time that the blocks take without.

    Attributes
    ----------
    blocks, watched : int
        How many blocks have ended, and how many of them were watched.
    verdicts : Counter of Verdict
        Of those that were watched.
    first_wrong : int or None
        The first block that disagreed, counted from 1.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.blocks = 0
        self.watched = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.first_wrong: int | None = None
        self._random = random.Random()  # noqa: S311 (no secret)
        self._spent = 0.0
        self._blocks_own = 0.0
        self._usual = 0.0
        self._dear = 0.0
        self._due = 0.0

    @property
    def cost(self) -> float:
        """What watching has cost so far, as a share of the time that the blocks took without."""
        return self._spent / self._blocks_own if self._blocks_own else 0.0

    def is_due(self) -> bool:
        """Whether to watch the next block."""
        saved = self.budget * self._blocks_own - self._spent
        return self.watched < _FIRST or saved >= self._due

    def ended(self, seconds: float, spent: float, verdict: Verdict | None) -> None:
        """Note a block: its seconds, those spent on watching, and its verdict if it was watched."""
        self.blocks += 1
        if verdict is None:
            pace = _PACE if self._usual else 1.0
            self._usual += pace * (seconds - spent - self._usual)
        else:
            # What no clock of ours sees slows the block down, too.
            spent = max(spent, seconds - self._usual) if self._usual else spent
            self.watched += 1
            self.verdicts[verdict] += 1
            self._dear = max(spent, self._dear / 2)
            self._due = self._dear * (1 + self._random.random())
            if verdict is Verdict.DISAGREES and self.first_wrong is None:
                self.first_wrong = self.blocks
        self._spent += spent
        self._blocks_own += seconds - spent

    def __str__(self) -> str:
        told = ", ".join(
            several(self.verdicts[v], *words) for v, words in _WORDS.items() if self.verdicts[v]
        )
        first = f" (the first is block {self.first_wrong})" if self.first_wrong else ""
        blocks = f"{self.blocks:,} {'block' if self.blocks == 1 else 'blocks'}"
        over = _OVER if self.cost > self.budget else ""
        return (
            f"sampled   {self.watched:,} of {blocks} watched: {told or 'no verdict'}{first}\n"
            f"cost      {self.cost:.2%} of the time that the blocks take "
            f"(budget {self.budget:.2%}){over}"
        )


_OVER = """
          over budget: the first two blocks are watched in any case, no other until that is saved"""
_WORDS = {
    Verdict.AGREES: ("agrees", "agree"),
    Verdict.DISAGREES: ("DISAGREES", "DISAGREE"),
    Verdict.INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
}


class _Process:
    """Stands for the model where none is given."""


_PROCESS = _Process()
_SAMPLINGS: weakref.WeakKeyDictionary[Any, Sampling] = weakref.WeakKeyDictionary()


def sampling_of(models: Sequence[Any], budget: float) -> Sampling:
    """Return what is known of the blocks of a model, the first one; the budget may be new."""
    model = models[0] if models else _PROCESS
    known = _SAMPLINGS.setdefault(model, Sampling(budget))
    known.budget = budget
    return known
