"""What of a call's numbers something needs later on: its node's rule, or a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.engine.binding import vjp_arguments
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES

if TYPE_CHECKING:
    from collections.abc import Collection

    from gradwitness.capture.drafts import CallDraft


def used_by_rule(draft: CallDraft) -> tuple[Collection[str], Collection[int]] | None:
    """Return the arguments and results that an operation's derivatives use; None for all."""
    call = draft.finish(0, None)
    rule = find(call.base_op)
    if rule is None or rule.given:
        return None
    count = len(draft.outputs)
    return vjp_arguments(rule, call), [k for k in range(count) if rule.keeps(k, count)]


def taken_results(draft: CallDraft) -> Collection[int]:
    """Return which results of an operation a replay takes from the record, or may have to."""
    base, several = draft.finish(0, None).base_op, len(draft.outputs)
    rule = find(base)
    if rule is None or base in SOURCES:
        return range(several)
    if rule.given:
        return [k for k in rule.given.values() if k < several]
    # Of a kernel's further results, the rule may compute none.
    further = range(1, 1 if draft.is_view or draft.writes else several)
    return [k for k in further if rule.keeps(k, several)]
