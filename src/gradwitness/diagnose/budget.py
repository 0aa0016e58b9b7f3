"""Limit the trials on a long tape: by counting replayed steps, so that no clock decides.

Trying every place costs the square of the tape's length, as each trial replays the steps behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.engine.replay_steps import Steps

if TYPE_CHECKING:
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Node, Tape

# The steps that a hypothesis may replay for mistakes at single places. Mistakes at all steps of a
# line, or everywhere, are few, and always tried.
LIMIT = 100_000
# Of a single function: a verdict waits for its causes, and many more hypotheses are tried.
ALONE = 4_000
_GLANCES = 32  # nodes skipped in the time of one step


class Effort(Steps):
    """Counts the steps that trials replay, of a program or of a function ``alone``."""

    def __init__(self, *, alone: bool) -> None:
        self.spent = 0
        self._limit = ALONE if alone else LIMIT

    @property
    def exhausted(self) -> bool:
        """Whether the budget for single places is used up."""
        return self.spent >= self._limit

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute and count a backward step."""
        self.spent += 1
        return super().backward(tape, node, incoming, lookup)

    def passed(self, nodes: int) -> None:
        """Count a pass over nodes, most of which send nothing."""
        self.spent += 1 + nodes // _GLANCES

    def replayed(self, steps: int) -> None:
        """Count the replay of a program."""
        self.spent += steps
