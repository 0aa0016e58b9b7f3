"""What of a call's numbers something needs later on: its node's rule, or a replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.engine.binding import vjp_arguments
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import Ref, references

if TYPE_CHECKING:
    from collections.abc import Collection

    from gradwitness.capture.calls.drafts import CallDraft
    from gradwitness.tape import Call


@dataclass(frozen=True, slots=True)
class Uses:
    """The same for all calls of an operation with so many arguments and results.

    Attributes
    ----------
    names, results : collections or None
        The arguments and results that its derivatives use; None for all.
    taken : collection of int
        The results that a replay takes from the record, or may have to.
    """

    names: Collection[str] | None
    results: Collection[int]
    taken: Collection[int]

    def by_node(self, draft: CallDraft, now: set[int]) -> set[int]:
        """Return which of a call's values judging its node will use."""
        # A view that was changed in place may get another history with the next change.
        if self.names is None or draft.base is not None:
            return now
        # Views of what was changed are made anew from it, by no call.
        used = {*draft.outputs} if draft.writes else {draft.outputs[k] for k in self.results}
        for name in self.names:
            argument = draft.arguments[name]
            if type(argument) is Ref:
                used.add(argument.value)
            elif type(argument) is tuple:
                used.update(references(argument))
        used.add(draft.base)
        return now & used


def uses(call: Call) -> Uses:
    """Return what later steps use of an operation."""
    rule, several = find(call.base_op), len(call.outputs)
    if rule is None:
        return Uses(None, (), range(several))
    if rule.given:
        names, results = None, []
        taken = [k for k in rule.given.values() if k < several]
    else:
        names = vjp_arguments(rule, call)
        results = [k for k in range(several) if rule.keeps(k, several)]
        # Of a kernel's further results, the rule may compute none.
        taken = [k for k in results if k and not (call.is_view or call.writes)]
    return Uses(names, results, range(several) if call.base_op in SOURCES else taken)
