"""Mistake: a weight's gradient is computed from the wrong input or the wrong cotangent."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.activations import POINTWISE
from gradwitness.diagnose.replayed_faults import Mistake, Trial, aten, explanations, on_replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit
    from gradwitness.tape import Call

    Array: TypeAlias = NDArray[np.float64]
    # Replacements for the layer's input and for its cotangent; None for the right one.
    Operands: TypeAlias = tuple[Array | None, Array | None]

LINEAR = aten("addmm mm")
_FEW = 16  # up to this many layers, each is tried with the operands of every other


@on_replay
def wrong_operands(trial: Trial) -> Iterator[Explanation]:
    """Explain by a weight's gradient computed from wrong operands."""
    layers = [site for site in trial.sites(LINEAR) if site.edge("B") is not None]
    for cause, text, choose in _OPERANDS:
        chosen = {site.node.id: choose(trial, site) for site in layers}

        def wrong(visit: Visit, chosen: dict[int, Any] = chosen) -> list[Any] | None:
            operands = chosen[visit.site.node.id]
            return None if operands is None else _sent_with(visit, *operands)

        yield from explanations(trial, Mistake(cause, text, LINEAR, wrong), layers)
    lines = _Lines.of(layers)
    for site in layers:
        if site.node.id in trial.suspects:
            for other in lines.others(site):
                yield from _swapped_operands(trial, [(site, other)])
    for pairs in lines.repeated():
        yield from _swapped_operands(trial, pairs)


def _sent_with(visit: Visit, a: Array | None, gradient: Array | None) -> list[Any] | None:
    """Return what a layer sends if its weight and bias get other operands."""
    site = visit.site
    edge, bias = site.edge("B"), site.edge("b")
    a = site.operands["A"] if a is None else a
    g = visit.g if gradient is None else gradient
    if edge is None or a.shape != site.operands["A"].shape or g.shape != visit.g.shape:
        return None
    sent = visit.sending(site.vjp("B", g, A=a), edge)
    if bias is not None and gradient is not None:
        sent[bias] = site.vjp("b", g)
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
    z = call.operands[0]
    return np.reshape(trial.lookup(z), np.shape(site.operands["A"])), None


def _before_activation(trial: Trial, site: Site) -> Operands | None:
    """Return the gradient of the activation, before its derivative is applied."""
    call = _consumer(trial, site)
    g = None if call is None or call.node is None else trial.arriving(call.node)
    return None if g is None else (None, np.reshape(g, np.shape(site.y)))


def _consumer(trial: Trial, site: Site) -> Call | None:
    """Return the activation that a layer's output goes into, up to views."""
    outputs = set(site.call.outputs)
    for call in trial.tape.calls[site.call.id + 1 :]:
        if outputs.isdisjoint(call.operands):
            continue
        if not call.is_view:
            return call if call.base_op in POINTWISE else None
        outputs |= set(call.outputs)
    return None


_OPERANDS: tuple[tuple[str, str, Callable[[Trial, Site], Operands | None]], ...] = (
    (
        "wrong operand: pre-activation",
        (
            "the gradient of the weight at {place} is computed from the pre-activation of the "
            "previous layer instead of its activation"
        ),
        _pre_activation,
    ),
    (
        "wrong operand: own output",
        (
            "the gradient of the weight at {place} is computed from the layer's own output instead "
            "of its input"
        ),
        _own_output,
    ),
    (
        "wrong operand: own activation",
        (
            "the gradient of the weight at {place} is computed from the layer's own activation "
            "instead of its input"
        ),
        _activated,
    ),
    (
        "delta without activation derivative",
        (
            "the gradients of weight and bias at {place} are computed from the gradient of the "
            "activation, without its derivative; earlier layers get the right one"
        ),
        _before_activation,
    ),
)


@dataclass(frozen=True)
class _Lines:
    """Layers by their source line, in the order of their calls.

    Where a loop repeats a line, a mistake is probably made at every repetition, and with an operand
    that is at hand there: of the same step or a neighbouring one.
    """

    layers: Sequence[Site]
    lines: Mapping[str, tuple[Site, ...]]

    @classmethod
    def of(cls, layers: Sequence[Site]) -> _Lines:
        lines: dict[str, list[Site]] = defaultdict(list)
        for site in sorted(layers, key=lambda site: site.call.id):
            lines[site.place].append(site)
        return cls(layers, {place: tuple(sites) for place, sites in lines.items()})

    def others(self, site: Site) -> Iterator[Site]:
        """Yield the layers whose operands a layer may have got."""
        for sites in (self.layers,) if len(self.layers) <= _FEW else self.lines.values():
            is_near = len(sites) <= 2 or sites is self.layers
            others = sites if is_near else _neighbours(sites, site)
            yield from (other for other in others if other is not None and other is not site)

    def repeated(self) -> Iterator[list[tuple[Site, Site]]]:
        """Yield the layers of a repeated line, each with a neighbour of a repeated line."""
        lines = [sites for sites in self.lines.values() if len(sites) > 1]
        for sites in lines:
            for others in lines if len(lines) <= _FEW else (sites,):
                neighbours = [(site, _neighbours(others, site)) for site in sites]
                for side in (0, 1):
                    pairs = [(s, other) for s, both in neighbours if (other := both[side])]
                    if len(pairs) > 1:
                        yield pairs


def _neighbours(sites: Sequence[Site], site: Site) -> tuple[Site | None, Site | None]:
    """Return the last of some layers that was called before a layer, and the first one after."""
    before = bisect_left(sites, site.call.id, key=_call_id)
    after = bisect_right(sites, site.call.id, key=_call_id)
    return sites[before - 1] if before else None, sites[after] if after < len(sites) else None


def _call_id(site: Site) -> int:
    return site.call.id


def _swapped_operands(trial: Trial, pairs: Sequence[tuple[Site, Site]]) -> Iterator[Explanation]:
    """Yield weights' gradients computed from other layers' inputs or cotangents."""
    site, other = pairs[0]
    variants: list[tuple[str, dict[int, Operands]]] = [
        ("input", {s.node.id: (o.operands["A"], None) for s, o in pairs}),
        ("delta", {s.node.id: (None, trial.arriving(o.node.id)) for s, o in pairs}),
    ]
    if all(o.numbers.get("A") == s.numbers.get("A") for s, o in pairs):
        del variants[0]
    unit = "layer" if _weight(trial, site) != _weight(trial, other) else "step"
    for kind, operands in variants:

        def wrong(visit: Visit, operands: Mapping[int, Operands] = operands) -> list[Any] | None:
            return _sent_with(visit, *operands[visit.site.node.id])

        operand, place = {"input": "the input", "delta": "the gradient"}[kind], site.place
        origin, side = other.place, "before" if other.call.id < site.call.id else "after"
        if unit == "step":
            is_many = len(pairs) > 1
            origin = f"the step {side}" if is_many else f"another step (call {other.call.id})"
        text = f"the gradient of the weight at {place} is computed from {operand} of {origin}"
        node = None
        if len(pairs) > 1:
            text += f", at each of {len(pairs)} steps"
            place = f"{len(pairs)} steps: {place}"
        else:
            node = site.node.id
        cause, mistakes = f"wrong operand: {kind} of another {unit}", [(s, wrong) for s, _ in pairs]
        yield from trial.explained(cause, text, mistakes, place=place, node=node, freedom=1)


def _weight(trial: Trial, site: Site) -> int | None:
    number = site.numbers.get("B")
    return None if number is None else trial.origin(number)
