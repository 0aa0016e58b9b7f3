"""Backward steps made with what another call of the same layer saved: an earlier batch, or step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.replayed_faults import Trial
from gradwitness.engine.binding import bind
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Visit, Wrong
    from gradwitness.tape import Call, Tape

    Key = tuple[str, str, str]

STALE_FORWARD = "stale forward"
_TRIED = 4  # other calls of a layer: the one before, the one after, the first, the last
_LAYERS = frozenset(f"aten.{name}" for name in ["addmm", "mm", "bmm", "convolution", "embedding"])


@dataclass(frozen=True)
class _Other:
    """What another call of a site's operation saved."""

    site: Site
    call: Call
    saved: dict[str, Any]

    def wrong(self, visit: Visit) -> list[Any]:
        return [
            None if s is None else visit.site.vjp(name, visit.g, **self.saved)
            for name, s in zip(visit.site.names, visit.sent, strict=True)
        ]

    @property
    def fault(self) -> tuple[Site, Wrong]:
        return self.site, self.wrong


def stale_forward(case: Case) -> Iterator[Explanation]:
    """Explain by operands and results that were saved at another call of the same layer."""
    trial = Trial.of(case)
    if trial is None:
        return
    calls: dict[Key, list[Call]] = defaultdict(list)
    for call in trial.tape.calls[: trial.sweep.after]:
        if call.during is None and not call.is_view:
            calls[_key(call)].append(call)
    sites = [s for s in trial.sites() if not s.call.is_view and len(calls[_key(s.call)]) > 1]
    fixed = _of_parameters(trial.tape)
    others = {s.node.id: _others(trial, s, calls[_key(s.call)], fixed) for s in sites}
    for found in others.values():
        yield from _alone(trial, found)
    # Everything was saved once: nearly the gradient of that pass, which is another cause.
    free = len(trial.tape.sweeps)
    for what, ops in (("layers", _LAYERS), ("activations", POINTWISE), ("steps", None)):
        chosen = [s for s in sites if others[s.node.id] and (ops is None or s.op in ops)]
        if len(chosen) > 1:
            yield from _together(trial, what, [others[s.node.id] for s in chosen], free)


def _key(call: Call) -> Key:
    return call.base_op, call.source.module, call.source.line


def _alone(trial: Trial, found: Sequence[_Other]) -> Iterator[Explanation]:
    for tried, other in enumerate(found):
        site = other.site
        if site.node.id not in trial.suspects:
            return
        predicted = trial.with_faults([other.fault])
        if predicted:
            when = "an earlier" if other.call.id < site.call.id else "a later"
            text = (
                f"at {site.place} the backward step of call {site.call.id} is made with what "
                f"{when} call of the same step saved (call {other.call.id}): its operands were "
                f"{'kept from there' if when == 'an earlier' else 'overwritten'}"
            )
            yield Explanation(
                STALE_FORWARD,
                text,
                predicted,
                place=site.place,
                node=site.node.id,
                freedom=tried,
                reveals=False,
            )


def _together(
    trial: Trial, what: str, others: Sequence[Sequence[_Other]], free: int
) -> Iterator[Explanation]:
    for tried in range(max(map(len, others))):
        chosen = [each[min(tried, len(each) - 1)] for each in others]
        predicted = trial.with_faults([other.fault for other in chosen])
        if predicted:
            places = list(dict.fromkeys(other.site.place for other in chosen))
            shown = ", ".join(places[:4]) + (", ..." if len(places) > 4 else "")
            text = (
                f"the backward pass is made with what another forward pass saved at {len(chosen)} "
                f"{what} ({shown}): calls {chosen[0].call.id} to {chosen[-1].call.id}"
            )
            place = f"{len(chosen)} steps: {shown}"
            yield Explanation(
                STALE_FORWARD, text, predicted, place=place, freedom=free + tried, reveals=False
            )


def _others(trial: Trial, site: Site, calls: Sequence[Call], fixed: frozenset[int]) -> list[_Other]:
    """Return what other calls of a site's operation saved, the likeliest first."""
    before = [c for c in reversed(calls) if c.id < site.call.id]
    after = [c for c in calls if c.id > site.call.id]
    likely = [*before[:1], *after[:1], *before[-1:], *after[-1:]]
    found = []
    for call in {c.id: c for c in likely}.values():
        saved = _saved(trial, site, call, fixed)
        if saved:
            found.append(_Other(site, call, saved))
    return found[:_TRIED]


def _saved(trial: Trial, site: Site, call: Call, fixed: frozenset[int]) -> dict[str, Any]:
    """Return another call's operands and results, parameters aside; nothing if they do not fit."""
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
        if not _alike(operand, site.operands[name]):
            return {}
        if not np.array_equal(operand, site.operands[name]):
            saved[name] = operand
    if not all(map(_alike, results, site.results)):
        return {}
    return {**saved, "y": tuple(results) if len(results) > 1 else results[0]} if saved else {}


def _alike(one: Any, other: Any) -> bool:
    return bool(np.shape(one) == np.shape(other))


def _of_parameters(tape: Tape) -> frozenset[int]:
    """Return the values that are parameters, views of them, or what an optimizer made of them."""
    leaves = {leaf.id for _, leaf in tape.leaves()} | set(tape.parameters)
    memory = {at.storage for n in leaves if (at := tape.values[n].layout) is not None}
    views = (v.id for v in tape.values if v.layout is not None and v.layout.storage in memory)
    return frozenset(leaves.union(views))
