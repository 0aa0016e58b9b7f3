"""Mistake: a backward step uses values that another call of the same layer saved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.alike import places_of
from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay
from gradwitness.engine.binding import bind
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit, Wrong
    from gradwitness.tape import Call, Tape

    Key = tuple[str, str, str]

STALE_FORWARD = "stale forward"
_TRIED = 4  # other calls of a layer: the one before, the one after, the first, the last
_LAYERS = aten("addmm mm bmm convolution embedding")


@dataclass(frozen=True)
class _Other:
    """The values that another call of a site's operation saved."""

    site: Site
    call: Call
    saved: dict[str, Any]

    def wrong(self, visit: Visit) -> list[Any]:
        return visit.again(visit.g, **self.saved)

    @property
    def mistake(self) -> tuple[Site, Wrong]:
        return self.site, self.wrong


@on_replay
def stale_forward(trial: Trial) -> Iterator[Explanation]:
    """Explain by operands and results saved by another call of the same layer."""
    calls: dict[Key, list[Call]] = defaultdict(list)
    for call in trial.tape.calls[: trial.sweep.after]:
        if call.during is None and not call.is_view:
            calls[_key(call)].append(call)
    sites = [s for s in trial.sites() if not s.call.is_view and len(calls[_key(s.call)]) > 1]
    fixed = _parameter_values(trial.tape)
    others = {s.node.id: _others(trial, s, calls[_key(s.call)], fixed) for s in sites}
    for candidates in others.values():
        yield from _alone(trial, candidates)
    # If everything is stale, this is nearly the gradient of that pass, which is another cause.
    freedom = len(trial.tape.sweeps)
    for kind, ops in (("layers", _LAYERS), ("activations", POINTWISE), ("steps", None)):
        chosen = [s for s in sites if others[s.node.id] and (ops is None or s.op in ops)]
        if len(chosen) > 1:
            yield from _together(trial, kind, [others[s.node.id] for s in chosen], freedom)


def _key(call: Call) -> Key:
    return call.base_op, call.source.module, call.source.line


def _alone(trial: Trial, others: Sequence[_Other]) -> Iterator[Explanation]:
    for tried, other in enumerate(others):
        site = other.site
        if site.node.id not in trial.suspects:
            return
        order = "an earlier" if other.call.id < site.call.id else "a later"
        text = (
            f"at {site.place} the backward step of call {site.call.id} uses the values saved by "
            f"{order} call of the same step (call {other.call.id}): its operands were "
            f"{'kept from there' if order == 'an earlier' else 'overwritten'}"
        )
        place, node = site.place, site.node.id
        yield from trial.explained(
            STALE_FORWARD, text, [other.mistake], place=place, node=node, freedom=tried
        )


def _together(
    trial: Trial, kind: str, others: Sequence[Sequence[_Other]], freedom: int
) -> Iterator[Explanation]:
    for tried in range(max(map(len, others))):
        chosen = [candidates[min(tried, len(candidates) - 1)] for candidates in others]
        mistakes, places = [c.mistake for c in chosen], places_of(c.site for c in chosen)
        text = (
            f"the backward pass uses the values saved by another forward pass at {len(chosen)} "
            f"{kind} ({places}): calls {chosen[0].call.id} to {chosen[-1].call.id}"
        )
        place = f"{len(chosen)} steps: {places}"
        yield from trial.explained(
            STALE_FORWARD, text, mistakes, place=place, freedom=freedom + tried
        )


def _others(trial: Trial, site: Site, calls: Sequence[Call], fixed: frozenset[int]) -> list[_Other]:
    """Return the saved values of other calls of a site's operation, the most probable first."""
    before = [c for c in reversed(calls) if c.id < site.call.id]
    after = [c for c in calls if c.id > site.call.id]
    candidates = [*before[:1], *after[:1], *before[-1:], *after[-1:]]
    others = []
    for call in {c.id: c for c in candidates}.values():
        saved = _saved(trial, site, call, fixed)
        if saved:
            others.append(_Other(site, call, saved))
    return others[:_TRIED]


def _saved(trial: Trial, site: Site, call: Call, fixed: frozenset[int]) -> dict[str, Any]:
    """Return another call's operands and results, except parameters; empty if they do not fit."""
    try:
        bound = bind(trial.tape, call, trial.lookup, arithmetic=None)
        results = [None if n is None else trial.lookup(n) for n in call.outputs]
    except Unjudgeable:
        return {}
    saved: dict[str, Any] = {}
    for name, argument, operand in zip(
        bound.rule.operands, bound.arguments, bound.operands, strict=True
    ):
        if not isinstance(argument, Ref) or argument.value in fixed:
            continue
        if not _same_shape(operand, site.operands[name]):
            return {}
        if not np.array_equal(operand, site.operands[name]):
            saved[name] = operand
    if not all(map(_same_shape, results, site.results)):
        return {}
    return {**saved, "y": tuple(results) if len(results) > 1 else results[0]} if saved else {}


def _same_shape(one: Any, other: Any) -> bool:
    return bool(np.shape(one) == np.shape(other))


def _parameter_values(tape: Tape) -> frozenset[int]:
    """Return the values that are parameters, views of them, or their updates by an optimizer."""
    leaves = {leaf.id for _, leaf in tape.leaves()} | set(tape.parameters)
    memory = {at.storage for n in leaves if (at := tape.values[n].layout) is not None}
    views = (v.id for v in tape.values if v.layout is not None and v.layout.storage in memory)
    return frozenset(leaves.union(views))
