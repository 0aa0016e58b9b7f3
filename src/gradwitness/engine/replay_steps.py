"""How a replay takes its steps, each of which may be replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.engine.backward import gradients
from gradwitness.engine.forward import evaluate

if TYPE_CHECKING:
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape


class Steps:
    """How a replay takes its steps: by the rules, in float64."""

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute a call's results."""
        return evaluate(tape, call, lookup, bounded=False)

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        return gradients(tape, node, incoming, lookup, None, precise=True)

    def total(self, tape: Tape, node: int, before: Any, g: Any) -> Any:
        """Add a gradient to those that have already arrived at a node."""
        del tape, node
        return before + g
