"""Custom functions that stand for what lies, out of autograd's sight, between their inputs.

One that takes x and y, and returns y, has no derivative of its own. If y was made of x with
gradients off, what it sends to x is the derivative of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness.engine.custom_forwards import with_detached
from gradwitness.judging.custom.normwise import Judged
from gradwitness.judging.graph_queries import same_operand
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Edge, Node, NodeRun, Tape

BETWEEN = "normwise, with the detached operations between its inputs as part of its forward"


def between_inputs(
    tape: Tape,
    run: tuple[Node, NodeRun],
    expected: Callable[[Node, NodeRun], tuple[Any, ...]],
    compared: Callable[[Node, NodeRun, list[int], Any], Comparison | None],
    is_needed: Callable[[Edge], bool],
) -> list[Judged]:
    """Judge a function that the rules cannot, with what lies between its inputs.

    Returns
    -------
    list of Judged
        Empty unless all that it sent agrees: nothing else is known.
    """
    node, node_run = run
    judged: list[Judged] = []
    try:
        whole = with_detached(tape, node)
        gradients = () if whole.inner == node.inner else expected(whole, node_run)
    except Unjudgeable:
        return judged
    for input_nr, gradient in enumerate(gradients):
        edge, input_nrs = node.edges[input_nr], same_operand(tape, node, input_nr)
        sent = any(node_run.outgoing[k] is not None for k in input_nrs)
        if edge is None or input_nrs[0] != input_nr or not (sent or is_needed(edge)):
            continue
        comparison = compared(node, node_run, input_nrs, gradient)
        if comparison is not None and comparison.verdict is not Verdict.AGREES:
            return []
        if comparison is not None:
            judged.append(Judged(input_nr, comparison, BETWEEN, by_rules=False))
    return judged
