"""Gradients of weights made of other operands than the layer's input and what arrives there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.replayed_faults import Fault, Trial, explanations
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site, Visit
    from gradwitness.tape import Call

    Array: TypeAlias = NDArray[np.float64]
    # What stands where the input belongs, and where the gradient; None for the right one.
    Operands: TypeAlias = tuple[Array | None, Array | None]

LINEAR = frozenset({"aten.addmm", "aten.mm"})
_FEW = 16  # layers up to which each is tried with the operands of every other


def wrong_operands(case: Case) -> Iterator[Explanation]:
    """Explain by a weight's gradient that is made with wrong operands."""
    trial = Trial.of(case)
    if trial is None:
        return
    layers = [site for site in trial.sites(LINEAR) if site.edge("B") is not None]
    for cause, text, choose in _OPERANDS:
        chosen = {site.node.id: choose(trial, site) for site in layers}

        def wrong(visit: Visit, chosen: dict[int, Any] = chosen) -> list[Any] | None:
            operands = chosen[visit.site.node.id]
            return None if operands is None else _made_with(visit, *operands)

        yield from explanations(trial, Fault(cause, text, LINEAR, wrong), layers)
    lines = _Lines.of(layers)
    for site in layers:
        if site.node.id in trial.suspects:
            for other in lines.others(site):
                yield from _taken_from(trial, [(site, other)])
    for pairs in lines.repeated():
        yield from _taken_from(trial, pairs)


def _made_with(visit: Visit, a: Array | None, gradient: Array | None) -> list[Any] | None:
    """Return what a layer sends whose weight, and bias, are given other operands."""
    site = visit.site
    edge, bias = site.edge("B"), site.edge("b")
    a = site.operands["A"] if a is None else a
    arrives = visit.g if gradient is None else gradient
    if edge is None or a.shape != site.operands["A"].shape or arrives.shape != visit.g.shape:
        return None
    sent = visit.sending(site.vjp("B", arrives, A=a), edge)
    if bias is not None and gradient is not None:
        sent[bias] = site.vjp("b", arrives)
    return sent


def _own_output(trial: Trial, site: Site) -> Operands:
    return trial.lookup(site.call.outputs[0] or 0), None


def _activated(trial: Trial, site: Site) -> Operands | None:
    call = _consumer(trial, site)
    if call is None or call.outputs[0] is None:
        return None
    return np.reshape(trial.lookup(call.outputs[0]), np.shape(site.y)), None


def _pre_activation(trial: Trial, site: Site) -> Operands | None:
    number = site.numbers.get("A")
    call = None if number is None else trial.makers.get(trial.origin(number))
    if call is None or call.base_op not in POINTWISE:
        return None
    z = next(n for a in call.arguments.values() for n in references(a))
    return np.reshape(trial.lookup(z), np.shape(site.operands["A"])), None


def _before_activation(trial: Trial, site: Site) -> Operands | None:
    """Return the gradient of the activation, its derivative not yet applied."""
    call = _consumer(trial, site)
    g = None if call is None or call.node is None else trial.arriving(call.node)
    return None if g is None else (None, np.reshape(g, np.shape(site.y)))


def _consumer(trial: Trial, site: Site) -> Call | None:
    """Return the activation into which a layer's output goes, behind views."""
    made = set(site.call.outputs)
    for call in trial.tape.calls[site.call.id + 1 :]:
        if made.isdisjoint(n for a in call.arguments.values() for n in references(a)):
            continue
        if not call.is_view:
            return call if call.base_op in POINTWISE else None
        made |= set(call.outputs)
    return None


_OPERANDS: tuple[tuple[str, str, Callable[[Trial, Site], Operands | None]], ...] = (
    (
        "wrong operand: pre-activation",
        (
            "the gradient of the weight at {place} is made with the pre-activation of the layer "
            "before instead of its activation"
        ),
        _pre_activation,
    ),
    (
        "wrong operand: own output",
        (
            "the gradient of the weight at {place} is made with the layer's own output instead of "
            "its input"
        ),
        _own_output,
    ),
    (
        "wrong operand: own activation",
        (
            "the gradient of the weight at {place} is made with the layer's own activation instead "
            "of its input"
        ),
        _activated,
    ),
    (
        "delta without activation derivative",
        (
            "the gradients of weight and bias at {place} are made with the gradient of the "
            "activation, to which its derivative has not been applied; the layers before get the "
            "right one"
        ),
        _before_activation,
    ),
)


@dataclass(frozen=True)
class _Lines:
    """Layers by the line that made them, in the order of their calls.

    Where a line is repeated, as over the steps of a loop, a mistake is likely made at all of them,
    and not with an operand of any step, but with one that is at hand: of this step or of the next.
    """

    layers: Sequence[Site]
    lines: Mapping[str, tuple[Site, ...]]

    @classmethod
    def of(cls, layers: Sequence[Site]) -> _Lines:
        found: dict[str, list[Site]] = defaultdict(list)
        for site in sorted(layers, key=lambda site: site.call.id):
            found[site.place].append(site)
        return cls(layers, {place: tuple(same) for place, same in found.items()})

    def others(self, site: Site) -> Iterator[Site]:
        """Yield the layers whose operands one layer may have been given."""
        for same in (self.layers,) if len(self.layers) <= _FEW else self.lines.values():
            likely = same if len(same) <= 2 or same is self.layers else _beside(same, site)
            yield from (other for other in likely if other is not None and other is not site)

    def repeated(self) -> Iterator[list[tuple[Site, Site]]]:
        """Yield the layers of a repeated line, each with the one beside it of a repeated line."""
        several = [same for same in self.lines.values() if len(same) > 1]
        for same in several:
            for others in several if len(several) <= _FEW else (same,):
                beside = [(site, _beside(others, site)) for site in same]
                for side in (0, 1):
                    found = [(site, at) for site, both in beside if (at := both[side]) is not None]
                    if len(found) > 1:
                        yield found


def _beside(same: Sequence[Site], site: Site) -> tuple[Site | None, Site | None]:
    """Return the last layer that was called before another, and the first one after it."""
    before = bisect_left(same, site.call.id, key=_called)
    after = bisect_right(same, site.call.id, key=_called)
    return same[before - 1] if before else None, same[after] if after < len(same) else None


def _called(site: Site) -> int:
    return site.call.id


def _taken_from(trial: Trial, pairs: Sequence[tuple[Site, Site]]) -> Iterator[Explanation]:
    """Yield weights' gradients made with other layers' inputs, or with their gradients."""
    site, other = pairs[0]
    trials: list[tuple[str, dict[int, Operands]]] = [
        ("input", {s.node.id: (o.operands["A"], None) for s, o in pairs}),
        ("delta", {s.node.id: (None, trial.arriving(o.node.id)) for s, o in pairs}),
    ]
    if all(o.numbers.get("A") == s.numbers.get("A") for s, o in pairs):
        del trials[0]
    of = "layer" if _weight(trial, site) != _weight(trial, other) else "step"
    for kind, operands in trials:

        def wrong(visit: Visit, operands: Mapping[int, Operands] = operands) -> list[Any] | None:
            return _made_with(visit, *operands[visit.site.node.id])

        predicted = trial.with_faults([(each, wrong) for each, _ in pairs])
        if not predicted:
            continue
        what, place = {"input": "the input", "delta": "the gradient"}[kind], site.place
        whose, when = other.place, "before" if other.call.id < site.call.id else "after"
        if of == "step":
            whose = f"the step {when}" if len(pairs) > 1 else f"another step (call {other.call.id})"
        text = f"the gradient of the weight at {place} is made with {what} of {whose}"
        node = None
        if len(pairs) > 1:
            text += f", at each of {len(pairs)} steps"
            place = f"{len(pairs)} steps: {place}"
        else:
            node = site.node.id
        cause = f"wrong operand: {kind} of another {of}"
        yield Explanation(cause, text, predicted, place=place, node=node, freedom=1, reveals=False)


def _weight(trial: Trial, site: Site) -> int | None:
    number = site.numbers.get("B")
    return None if number is None else trial.origin(number)
