"""How much is tried on a long tape: counted in steps taken again, so that no clock decides.

What one hypothesis tries grows with the square of the tape's length where each place is tried, and
each trial goes through the steps behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.engine.replay import Steps

if TYPE_CHECKING:
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Node, Tape

# Steps that one hypothesis may take for mistakes at single places; those made at every step of a
# line, or everywhere, are few, and always tried.
LIMIT = 100_000
_GLANCES = 32  # nodes that are passed by in the time of one step


class Effort(Steps):
    """Counts the steps that trials take."""

    def __init__(self) -> None:
        self.spent = 0

    @property
    def exhausted(self) -> bool:
        """Whether no single place may be tried any more."""
        return self.spent >= LIMIT

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute what a node sends."""
        self.spent += 1
        return super().backward(tape, node, incoming, lookup)

    def passed(self, nodes: int) -> None:
        """Count a pass over nodes most of which have nothing to send."""
        self.spent += 1 + nodes // _GLANCES

    def replayed(self, steps: int) -> None:
        """Count a program that was run again."""
        self.spent += steps
