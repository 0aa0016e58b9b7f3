"""Mistake: a normalisation uses the unbiased variance, or adds eps outside the square root.

This changes the forward pass and its derivative, so the program is replayed with these steps
replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.diagnose.hypotheses.norm_eps import ELSEWHERE
from gradwitness.diagnose.programs import explained_by_calls, forward_calls, predicted_by
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.engine.binding import bind
from gradwitness.engine.replay_steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Call, Node, Tape

    # From the variance, its number of elements, and eps: the deviation and its derivative.
    Deviation: TypeAlias = Callable[[Any, int, float], tuple[Any, Any]]

_BATCH, _LAYER = "aten.native_batch_norm", "aten.native_layer_norm"
_FEW = 6  # up to this many normalisations are tried one by one


def _unbiased(v: Any, count: int, eps: float) -> tuple[Any, Any]:
    s = np.sqrt(v * count / (count - 1) + eps)
    return s, count / (count - 1) / (2 * s)


def _outside(v: Any, count: int, eps: float) -> tuple[Any, Any]:
    del count
    root = np.sqrt(v)
    return root + eps, 1 / (2 * root)


@dataclass(frozen=True)
class _Norm:
    """A normalisation's operands, in the shape that its statistics are taken in."""

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
        sent = {"x": dx, "w": np.sum(g * self.n, axis=self.summed), "b": np.sum(g, self.summed)}
        return tuple(
            np.reshape(sent[name], shapes[name]) if name in shapes else None for name in self.names
        )


@dataclass(frozen=True)
class _OtherDeviation(Steps):
    """Replays some normalisations with another deviation."""

    calls: frozenset[int]
    deviation: Deviation

    def forward(self, tape: Tape, call: Call, lookup: Lookup) -> tuple[Any, ...]:
        """Compute the results of a call."""
        results = super().forward(tape, call, lookup)
        if call.id not in self.calls:
            return results
        norm, _ = self._norm(tape, call, lookup)
        statistics = (norm.mean, 1 / norm.deviation)
        return (
            norm.y(),
            *(np.reshape(s, np.shape(m)) for s, m in zip(statistics, results[1:3], strict=True)),
        )

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        if node.call not in self.calls or incoming[0] is None:
            return super().backward(tape, node, incoming, lookup)
        norm, shapes = self._norm(tape, tape.calls[node.call], lookup)
        return norm.sent(incoming[0], shapes)

    def _norm(
        self, tape: Tape, call: Call, lookup: Lookup
    ) -> tuple[_Norm, dict[str, tuple[int, ...]]]:
        bound = bind(tape, call, lookup, arithmetic=None)
        operands = dict(zip(bound.rule.operands, bound.operands, strict=True))
        x, w, b = operands["x"], operands.get("w"), operands.get("b")
        shapes = {k: np.shape(operands[k]) for k in ("x", "w", "b") if operands.get(k) is not None}
        if call.base_op == _BATCH:
            over = summed = (0, *range(2, x.ndim))
            across = (1, -1, *(1,) * (x.ndim - 2))
            w, b = (None if array is None else np.reshape(array, across) for array in (w, b))
        else:
            axes = len(bound.parameters["normalized_shape"])
            over = tuple(range(x.ndim - axes, x.ndim))
            summed = tuple(range(x.ndim - axes))
        mean, v = np.mean(x, axis=over, keepdims=True), np.var(x, axis=over, keepdims=True)
        count = math.prod(x.shape[axis] for axis in over)
        s, slope = self.deviation(v, count, float(bound.parameters["eps"]))
        names = tuple(name for name, _, _ in bound.inputs())
        n = (x - mean) / s
        return _Norm(x, w, b, n, s, slope, over, summed, names, mean), shapes


_KINDS: tuple[tuple[str, str, Deviation, frozenset[str]], ...] = (
    (
        "unbiased variance",
        (
            "the claims are those of a normalisation by the unbiased variance at {place}: divided "
            "by N - 1 instead of N"
        ),
        _unbiased,
        frozenset({_BATCH, _LAYER}),
    ),
    (
        ELSEWHERE,
        (
            "the claims are those of a normalisation with eps outside the root at {place}: "
            "sqrt(variance) + eps"
        ),
        _outside,
        frozenset({_BATCH}),
    ),
)


@on_replay
def wrong_deviation(trial: Trial) -> Iterator[Explanation]:
    """Explain by another deviation in a normalisation, forward and backward."""
    for cause, text, deviation, ops in _KINDS:
        calls = [call for call in forward_calls(trial) if call.base_op in ops and _trains(call)]
        sets = [calls] if calls else []
        sets += [[call] for call in calls] if 1 < len(calls) <= _FEW else []
        for chosen in sets:
            steps = _OtherDeviation(frozenset(call.id for call in chosen), deviation)
            predicted = predicted_by(trial, trial.tape, steps=steps)
            yield from explained_by_calls(cause, text, chosen, predicted)


def _trains(call: Call) -> bool:
    return call.base_op != _BATCH or call.arguments["training"] is True
