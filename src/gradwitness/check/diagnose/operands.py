"""Gradients of weights made of other operands than the layer's input and what arrives there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.check.diagnose.activations import POINTWISE
from gradwitness.check.diagnose.mutant import Fault, Stage, explanations
from gradwitness.check.diagnose.scene import Explanation
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    from gradwitness.check.diagnose.mutant import Site, Turn
    from gradwitness.check.diagnose.scene import Scene
    from gradwitness.tape import Call

    Array: TypeAlias = NDArray[np.float64]
    # What stands where the input belongs, and where the gradient; None for the right one.
    Operands: TypeAlias = tuple[Array | None, Array | None]

LINEAR = frozenset({"aten.addmm", "aten.mm"})


def wrong_operands(scene: Scene) -> Iterator[Explanation]:
    """Explain by a weight's gradient that is made with wrong operands."""
    stage = Stage.of(scene)
    if stage is None:
        return
    layers = [site for site in stage.sites(LINEAR) if site.edge("B") is not None]
    for cause, text, choose in _OPERANDS:
        chosen = {site.node.id: choose(stage, site) for site in layers}

        def wrong(turn: Turn, chosen: dict[int, Any] = chosen) -> list[Any] | None:
            operands = chosen[turn.site.node.id]
            return None if operands is None else _made_with(turn, *operands)

        yield from explanations(stage, Fault(cause, text, LINEAR, wrong), layers)
    for site in layers:
        if site.node.id in stage.suspects:
            for other in layers:
                yield from _taken_from(stage, site, other)


def _made_with(turn: Turn, a: Array | None, gradient: Array | None) -> list[Any] | None:
    """Return what a layer sends whose weight, and bias, are given other operands."""
    site = turn.site
    edge, bias = site.edge("B"), site.edge("b")
    a = site.operands["A"] if a is None else a
    arrives = turn.g if gradient is None else gradient
    if edge is None or a.shape != site.operands["A"].shape or arrives.shape != turn.g.shape:
        return None
    sent = turn.sending(site.vjp("B", arrives, A=a), edge)
    if bias is not None and gradient is not None:
        sent[bias] = site.vjp("b", arrives)
    return sent


def _own_output(stage: Stage, site: Site) -> Operands:
    return stage.lookup(site.call.outputs[0] or 0), None


def _activated(stage: Stage, site: Site) -> Operands | None:
    call = _consumer(stage, site)
    if call is None or call.outputs[0] is None:
        return None
    return np.reshape(stage.lookup(call.outputs[0]), np.shape(site.y)), None


def _pre_activation(stage: Stage, site: Site) -> Operands | None:
    number = site.numbers.get("A")
    call = None if number is None else stage.makers.get(stage.origin(number))
    if call is None or call.base_op not in POINTWISE:
        return None
    z = next(n for a in call.arguments.values() for n in references(a))
    return np.reshape(stage.lookup(z), np.shape(site.operands["A"])), None


def _before_activation(stage: Stage, site: Site) -> Operands | None:
    """Return the gradient of the activation, its derivative not yet applied."""
    call = _consumer(stage, site)
    g = None if call is None or call.node is None else stage.arriving(call.node)
    return None if g is None else (None, np.reshape(g, np.shape(site.y)))


def _consumer(stage: Stage, site: Site) -> Call | None:
    """Return the activation into which a layer's output goes, behind views."""
    made = set(site.call.outputs)
    for call in stage.tape.calls[site.call.id + 1 :]:
        if made.isdisjoint(n for a in call.arguments.values() for n in references(a)):
            continue
        if not call.is_view:
            return call if call.base_op in POINTWISE else None
        made |= set(call.outputs)
    return None


_OPERANDS: tuple[tuple[str, str, Callable[[Stage, Site], Operands | None]], ...] = (
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


def _taken_from(stage: Stage, site: Site, other: Site) -> Iterator[Explanation]:
    """Yield a weight's gradient made with another layer's input, or with its gradient."""
    if site is other:
        return
    trials: list[tuple[str, str, Operands]] = []
    if other.numbers.get("A") != site.numbers.get("A"):
        entered = (other.operands["A"], None)
        trials.append(("wrong operand: input of another layer", "the input", entered))
    arrived = (None, stage.arriving(other.node.id))
    trials.append(("wrong operand: delta of another layer", "the gradient", arrived))
    for cause, what, operands in trials:

        def wrong(turn: Turn, operands: Operands = operands) -> list[Any] | None:
            return _made_with(turn, *operands)

        predicted = stage.play([(site, wrong)])
        if predicted:
            text = (
                f"the gradient of the weight at {site.place} is made with {what} of {other.place}"
            )
            yield Explanation(
                cause, text, predicted, place=site.place, node=site.node.id, freedom=1
            )
