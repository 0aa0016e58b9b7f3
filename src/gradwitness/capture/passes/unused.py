"""Custom functions whose results the program threw away, so that their backward never runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.capture.calls.source import is_custom
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.capture.calls.dispatch import DispatchRecorder
    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.passes.graph import GraphRecorder


def unused_results(
    values: ValueStore, graph: GraphRecorder, dispatch: DispatchRecorder
) -> Iterable[tuple[str, str]]:
    """Yield name and line of each function applied for gradients that nothing used."""
    results: dict[Any, set[int]] = {}
    for node, _, value in values.histories:
        if is_custom(node) and graph.number(node) is None and node not in dispatch.read:
            results.setdefault(node, set()).add(value)
    if not results:
        return
    used = {n for call in dispatch.calls for a in call.arguments.values() for n in references(a)}
    makers = {n: k for k, call in enumerate(dispatch.calls) for n in call.outputs}
    for node, numbers in results.items():
        made = [makers[n] for n in numbers if n in makers]
        # One within a backward pass returns what it computes to autograd.
        if made and used.isdisjoint(numbers) and dispatch.calls[made[0]].backward_of is None:
            function = node._forward_cls
            line = dispatch.applications.line(function, min(made))
            if line:
                yield function.__name__, line
