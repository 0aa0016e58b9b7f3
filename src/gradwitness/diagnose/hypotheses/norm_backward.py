"""Mistake: a normalisation's backward drops a path through its statistics or counts it twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Mistake, explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

_KINDS = {
    "LayerNorm": "aten.native_layer_norm",
    "BatchNorm": "aten.native_batch_norm",
    "GroupNorm": "aten.native_group_norm",
    "RMSNorm": "aten._fused_rms_norm",
}


@dataclass(frozen=True)
class _Parts:
    """``dx = rate (scaled - mean(scaled) - n mean(scaled n))`` over some axes, n normalised.

    Arrays have the shape that the statistics are taken in; ``shape`` is the input's.
    """

    scaled: Any
    plain: Any
    n: Any
    rate: Any
    over: tuple[int, ...]
    shape: tuple[int, ...]
    centred: bool = True

    def sent(self, *, mean: int = 1, variance: int = 1, weight: int = 1) -> Any:
        """Return the gradient of the input, with some of its parts, or one of them twice."""
        g = self.scaled if weight else self.plain
        gradient = g
        if mean and self.centred:
            gradient = gradient - mean * np.mean(g, axis=self.over, keepdims=True)
        if variance:
            along = np.mean(g * self.n, axis=self.over, keepdims=True)
            gradient = gradient - variance * self.n * along
        return np.reshape(gradient * self.rate, self.shape)


def _parts(site: Site, g: Any) -> _Parts | None:
    x, w = site.operands["x"], site.operands.get("w")
    shape = x.shape
    if site.op == "aten.native_batch_norm":
        if not site.parameters["training"]:
            return None
        across = (1, -1, *(1,) * (x.ndim - 2))
        mean, rate = (np.reshape(statistic, across) for statistic in site.results[1:3])
        scaled = g if w is None else g * np.reshape(w, across)
        over = (0, *range(2, x.ndim))
        return _Parts(scaled, g, (x - mean) * rate, rate, over, shape)
    if site.op == "aten.native_group_norm":
        groups = (x.shape[0], site.parameters["group"], -1)
        scaled = g if w is None else g * np.reshape(w, (1, -1, *(1,) * (x.ndim - 2)))
        mean, rate = (np.reshape(statistic, (*groups[:2], 1)) for statistic in site.results[1:3])
        scaled, g = np.reshape(scaled, groups), np.reshape(g, groups)
        return _Parts(scaled, g, (np.reshape(x, groups) - mean) * rate, rate, (2,), shape)
    scaled = g if w is None else g * w
    if site.op == "aten._fused_rms_norm":
        rate = site.results[1]
        over = tuple(range(x.ndim - len(site.parameters["normalized_shape"]), x.ndim))
        return _Parts(scaled, g, x * rate, rate, over, shape, centred=False)
    over = tuple(range(x.ndim - len(site.parameters["normalized_shape"]), x.ndim))
    mean, rate = site.results[1:3]
    return _Parts(scaled, g, (x - mean) * rate, rate, over, shape)


def _with(**parts: int) -> Any:
    def wrong(visit: Visit) -> list[Any] | None:
        norm = _parts(visit.site, visit.g)
        if norm is None or visit.site.edge("x") is None:
            return None
        if "mean" in parts and not norm.centred:
            return None
        return visit.sending(norm.sent(**parts))

    return wrong


def _raw_input(visit: Visit) -> list[Any] | None:
    """Compute the weight's gradient from x instead of the normalised x."""
    edge = visit.site.edge("w")
    if edge is None:
        return None
    x, w = visit.site.operands["x"], visit.site.operands["w"]
    if visit.site.op in {"aten.native_batch_norm", "aten.native_group_norm"}:
        gradient = np.sum(visit.g * x, axis=(0, *range(2, x.ndim)))
    else:
        gradient = np.sum(visit.g * x, axis=tuple(range(x.ndim - w.ndim)))
    return visit.sending(gradient, edge)


def _unused_weight(visit: Visit) -> list[Any] | None:
    """Multiply the weight into its own gradient."""
    edge = visit.site.edge("w")
    if edge is None:
        return None
    return visit.sending(visit.sent[edge] * visit.site.operands["w"], edge)


def _mistakes(name: str, op: str) -> tuple[Mistake, ...]:
    ops = frozenset({op})
    return (
        Mistake(
            f"{name} mean path dropped",
            f"the {name} at {{place}} is differentiated as if the mean were a constant: the "
            "gradient's own mean is not subtracted",
            ops,
            _with(mean=0),
        ),
        Mistake(
            f"{name} variance path dropped",
            f"the {name} at {{place}} is differentiated as if the deviation were a constant: the "
            "part of the gradient along the normalised input is not subtracted",
            ops,
            _with(variance=0),
        ),
        Mistake(
            f"{name} statistics as constants",
            f"the {name} at {{place}} is differentiated as if mean and deviation were constants: "
            "the gradient is only multiplied by weight over deviation",
            ops,
            _with(mean=0, variance=0),
        ),
        Mistake(
            f"{name} mean path counted twice",
            f"in the gradient of the {name} at {{place}} the gradient's own mean is subtracted "
            "twice",
            ops,
            _with(mean=2),
        ),
        Mistake(
            f"{name} variance path counted twice",
            f"in the gradient of the {name} at {{place}} the part along the normalised input is "
            "subtracted twice",
            ops,
            _with(variance=2),
        ),
        Mistake(
            "gamma omitted",
            f"the {name}'s weight (gamma) is not multiplied into the gradient at {{place}}",
            ops,
            _with(weight=0),
        ),
        Mistake(
            "gamma's gradient with the raw input",
            f"the gradient of the {name}'s weight (gamma) at {{place}} is computed from the raw "
            "input instead of the normalised one",
            ops,
            _raw_input,
        ),
        Mistake(
            "gamma multiplied into its own gradient",
            f"the gradient of the {name}'s weight (gamma) at {{place}} is multiplied by the weight",
            ops,
            _unused_weight,
        ),
    )


MISTAKES = tuple(mistake for name, op in _KINDS.items() for mistake in _mistakes(name, op))


def norm_mistakes(case: Case) -> Iterator[Explanation]:
    """Explain by a wrong derivative of a normalisation."""
    return explained(case, MISTAKES)
