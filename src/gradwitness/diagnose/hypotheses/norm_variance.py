"""A normalisation by another deviation: of the unbiased variance, or with eps outside of the root.

The forward pass differs and the derivative with it, so the program is run again with these steps
taken otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.hypotheses.norm_eps import ELSEWHERE
from gradwitness.diagnose.programs import forward_calls, predicted_by
from gradwitness.diagnose.replayed_faults import Trial, where
from gradwitness.engine.binding import bind
from gradwitness.engine.replay import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradwitness.diagnose.case import Case
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape

    # From the variance, how many numbers it is of, and eps: the deviation, and its derivative.
    Deviation: TypeAlias = Callable[[Any, int, float], tuple[Any, Any]]

_BATCH, _LAYER = "aten.native_batch_norm", "aten.native_layer_norm"
_FEW = 6  # normalisations that are tried one by one


def _unbiased(v: Any, count: int, eps: float) -> tuple[Any, Any]:
    s = np.sqrt(v * count / (count - 1) + eps)
    return s, count / (count - 1) / (2 * s)


def _outside(v: Any, count: int, eps: float) -> tuple[Any, Any]:
    del count
    root = np.sqrt(v)
    return root + eps, 1 / (2 * root)


@dataclass(frozen=True)
class _Frame:
    """A normalisation's operands, in the shapes in which its statistics are taken."""

    x: Any
    w: Any
    b: Any
    n: Any
    deviation: Any
    slope: Any
    over: tuple[int, ...]
    summed: tuple[int, ...]
    names: tuple[str, ...]
    mean: Any

    def y(self) -> Any:
        y = self.n if self.w is None else self.n * self.w
        return y if self.b is None else y + self.b

    def sent(self, g: Any, shapes: dict[str, tuple[int, ...]]) -> tuple[Any, ...]:
        """``dx = (G - mean(G) - 2 s' (x - mean) mean(G n)) / s``, where G = g w."""
        scaled = g if self.w is None else g * self.w
        along = np.mean(scaled * self.n, axis=self.over, keepdims=True)
        dx = scaled - np.mean(scaled, axis=self.over, keepdims=True)
        dx = (dx - 2 * self.slope * (self.x - self.mean) * along) / self.deviation
        made = {"x": dx, "w": np.sum(g * self.n, axis=self.summed), "b": np.sum(g, self.summed)}
        return tuple(
            np.reshape(made[name], shapes[name]) if name in shapes else None for name in self.names
        )


@dataclass(frozen=True)
class _Otherwise(Steps):
    """Takes some normalisations with another deviation."""

    calls: frozenset[int]
    deviation: Deviation

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute what a call makes."""
        made = super().forward(tape, call, lookup)
        if call.id not in self.calls:
            return made
        frame, _ = self._frame(tape, call, lookup)
        statistics = (frame.mean, 1 / frame.deviation)
        return (
            frame.y(),
            *(np.reshape(s, np.shape(m)) for s, m in zip(statistics, made[1:3], strict=True)),
        )

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute what a node sends."""
        if node.call not in self.calls or incoming[0] is None:
            return super().backward(tape, node, incoming, lookup)
        frame, shapes = self._frame(tape, tape.calls[node.call], lookup)
        return frame.sent(incoming[0], shapes)

    def _frame(
        self, tape: Tape, call: Call, lookup: Lookup
    ) -> tuple[_Frame, dict[str, tuple[int, ...]]]:
        bound = bind(tape, call, lookup, arithmetic=None)
        given = dict(zip(bound.rule.operands, bound.operands, strict=True))
        x, w, b = given["x"], given.get("w"), given.get("b")
        shapes = {k: np.shape(given[k]) for k in ("x", "w", "b") if given.get(k) is not None}
        if call.base_op == _BATCH:
            over = summed = (0, *range(2, x.ndim))
            across = (1, -1, *(1,) * (x.ndim - 2))
            w, b = (None if item is None else np.reshape(item, across) for item in (w, b))
        else:
            axes = len(bound.parameters["normalized_shape"])
            over = tuple(range(x.ndim - axes, x.ndim))
            summed = tuple(range(x.ndim - axes))
        mean, v = np.mean(x, axis=over, keepdims=True), np.var(x, axis=over, keepdims=True)
        count = math.prod(x.shape[axis] for axis in over)
        s, slope = self.deviation(v, count, float(bound.parameters["eps"]))
        names = tuple(name for name, _, _ in bound.inputs())
        n = (x - mean) / s
        return _Frame(x, w, b, n, s, slope, over, summed, names, mean), shapes


_KINDS: tuple[tuple[str, str, Deviation, frozenset[str]], ...] = (
    (
        "unbiased variance",
        (
            "the claims are those of a normalisation by the unbiased variance, divided by N - 1, "
            "at {place}; it is to be divided by N"
        ),
        _unbiased,
        frozenset({_BATCH, _LAYER}),
    ),
    (
        ELSEWHERE,
        (
            "the claims are those of a normalisation with eps outside of the root at {place}: "
            "sqrt(variance) + eps"
        ),
        _outside,
        frozenset({_BATCH}),
    ),
)


def deviations(case: Case) -> Iterator[Explanation]:
    """Explain by a normalisation that divides by another deviation, forward and backward."""
    trial = Trial.of(case)
    if trial is None:
        return
    for cause, text, deviation, ops in _KINDS:
        calls = [call for call in forward_calls(trial) if call.base_op in ops and _trains(call)]
        sets = [calls] if calls else []
        sets += [[call] for call in calls] if 1 < len(calls) <= _FEW else []
        for chosen in sets:
            steps = _Otherwise(frozenset(call.id for call in chosen), deviation)
            predicted = predicted_by(trial, trial.tape, steps=steps)
            if predicted:
                places = dict.fromkeys(where(call.source, call.base_op) for call in chosen)
                place = ", ".join(places)
                node = chosen[0].node if len(chosen) == 1 else None
                said = text.format(place=place)
                yield Explanation(cause, said, predicted, place=place, node=node, reveals=False)


def _trains(call: Call) -> bool:
    return call.base_op != _BATCH or call.arguments["training"] is True
