"""Which blocks of a training loop are watched, so that watching costs no more than its budget."""

from __future__ import annotations

import random
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._printable import several
from gradwitness.judging.left_out import found
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.finding import Report
    from gradwitness.judging.local import Judge

BUDGET = 0.01
NOT_ENDED = "there is no verdict before the watched block has ended"
NOT_WATCHED = "not watched this time: nothing of this block was recorded or judged"
# Watched in any case: a fault of the program's shows at once, and one that the first update makes.
_FIRST = 2
# How far the usual duration of a block follows the last one.
_PACE = 0.1
# The seconds of training in which a watched block shall be paid for. If one is dearer, a share of
# its steps is.
_PATIENCE = 300.0


@dataclass(frozen=True)
class Watched:
    """What came of a block that was watched.

    Attributes
    ----------
    verdict : Verdict
        On what was looked at.
    recording : float
        The seconds that do not depend on how many steps are looked at.
    share : float
        The probability that a step was looked at.
    steps, left_out : int
        How many there were, and how many of them were not looked at.
    """

    verdict: Verdict
    recording: float = 0.0
    share: float = 1.0
    steps: int = 0
    left_out: int = 0


def watched_block(report: Report, judge: Judge, recording: float) -> Watched:
    """Return what came of a block, from its report and the judge of its steps."""
    drawn = judge.drawn
    return Watched(found(report), recording, drawn.share, judge.steps, len(drawn.left_out))


class Sampling:
    """What was watched of a training loop, and what that cost.

    A block is watched when enough of the budget has been saved for one to two blocks as dear as the
    next one will be: how many, is drawn each time, so that no period of the loop goes unseen. If to
    save that much takes long, not all of the block's steps are looked at. Which ones, is drawn each
    time, too. The generators are the witness's own.

    Parameters
    ----------
    budget : float
        What watching may cost, as a share of the time that the blocks take without.

    Attributes
    ----------
    blocks, watched, in_part : int
        How many blocks have ended, how many of them were watched, and how many of these in part.
    steps, left_out : int
        Of the blocks that were watched in part: how many steps they have, and how many of those
        were not looked at.
    verdicts : Counter of Verdict
        Of those that were watched. One that was watched in part counts if a step that was looked
        at does not agree.
    first_wrong : int or None
        The first block that disagreed, counted from 1.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.blocks = self.watched = self.in_part = 0
        self.steps = self.left_out = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.first_wrong: int | None = None
        self._random = random.Random()  # noqa: S311 (no secret)
        self._spent = 0.0
        self._blocks_own = 0.0
        self._usual = 0.0
        self._recording = 0.0
        self._judging = 0.0  # of all steps of a block
        self._share = 1.0
        self._due = 0.0

    @property
    def cost(self) -> float:
        """What watching has cost so far, as a share of the time that the blocks took without."""
        return self._spent / self._blocks_own if self._blocks_own else 0.0

    def share(self) -> float:
        """Return the probability that a step of the next block is looked at; 0 for no watching."""
        saved = self.budget * self._blocks_own - self._spent
        if self.watched < _FIRST:
            return 1.0
        return self._share if saved >= self._due else 0.0

    def ended(self, seconds: float, spent: float, watched: Watched | None) -> None:
        """Note a block: its seconds, those spent on watching, and what came of it if it was."""
        self.blocks += 1
        if watched is None:
            pace = _PACE if self._usual else 1.0
            self._usual += pace * (seconds - spent - self._usual)
        else:
            # What no clock of ours sees slows the block down, too.
            unseen = max(seconds - self._usual - spent, 0.0) if self._usual else 0.0
            spent += unseen
            self._learn(spent, watched.recording + unseen, watched.share)
            self._count(watched)
            self._plan()
        self._spent += spent
        self._blocks_own += seconds - spent

    def _learn(self, spent: float, recording: float, share: float) -> None:
        """Note what a watched block cost, so that the next one's cost is known beforehand."""
        judging = spent - recording
        if share < 1 and self._judging:
            # What does not depend on the share is not only recording, and a small share would
            # multiply it: all has become as much dearer as the block was than it should be.
            dearer = spent / (self._recording + share * self._judging)
            recording, judging = dearer * self._recording, dearer * self._judging
        self._recording = max(recording, self._recording / 2)
        self._judging = max(judging, self._judging / 2)

    def _count(self, watched: Watched) -> None:
        self.watched += 1
        if watched.left_out:
            self.in_part += 1
            self.steps += watched.steps
            self.left_out += watched.left_out
        if not watched.left_out or watched.verdict is not Verdict.AGREES:
            self.verdicts[watched.verdict] += 1
        if watched.verdict is Verdict.DISAGREES and self.first_wrong is None:
            self.first_wrong = self.blocks

    def _plan(self) -> None:
        """Choose the share of the next watched block's steps, and when it is due."""
        # What is recorded is paid for in any case, so that as much again is well spent.
        left = max(self.budget * _PATIENCE - self._recording, self._recording)
        self._share = min(1.0, left / self._judging) if self._judging > 0 else 1.0
        self._due = (self._recording + self._share * self._judging) * (1 + self._random.random())

    def __str__(self) -> str:
        told = ", ".join(
            several(self.verdicts[v], *words) for v, words in _WORDS.items() if self.verdicts[v]
        )
        in_part = f", {self.in_part:,} of them in part" if self.in_part else ""
        looked = _IN_PART.format(self.steps - self.left_out, self.steps) if self.in_part else ""
        first = f" (the first is block {self.first_wrong})" if self.first_wrong else ""
        blocks = f"{self.blocks:,} {'block' if self.blocks == 1 else 'blocks'}"
        over = _OVER if self.cost > self.budget else ""
        return (
            f"sampled   {self.watched:,} of {blocks} watched{in_part}: "
            f"{told or 'no verdict'}{first}\n{looked}"
            f"cost      {self.cost:.2%} of the time that the blocks take "
            f"(budget {self.budget:.2%}){over}"
        )


_IN_PART = """\
in part   {:,} of {:,} steps were looked at, drawn at random; what was not is not judged
"""
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
