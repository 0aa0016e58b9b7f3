"""How a replay takes its steps, each of which may be replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.in_pieces import evaluated, sent

if TYPE_CHECKING:
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape


class Steps:
    """How a replay takes its steps: by the rules, in float64."""

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute a call's results."""
        return evaluated(tape, call, lookup)

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        return sent(tape, node, incoming, lookup)

    def total(self, tape: Tape, node: int, before: Any, g: Any) -> Any:
        """Add a gradient to those that have already arrived at a node."""
        del tape, node
        with np.errstate(all="ignore"):
            return before + g
