"""Mistakes in the backward of normalisations: paths through mean and variance, the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Fault, explained

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

    Shapes are those in which the statistics are taken; ``shape`` is the input's.
    """

    scaled: Any
    plain: Any
    n: Any
    rate: Any
    over: tuple[int, ...]
    shape: tuple[int, ...]
    centred: bool = True

    def sent(self, *, mean: bool = True, variance: bool = True, weight: bool = True) -> Any:
        """Return the gradient of the input, of some of its parts."""
        g = self.scaled if weight else self.plain
        made = g
        if mean and self.centred:
            made = made - np.mean(g, axis=self.over, keepdims=True)
        if variance:
            made = made - self.n * np.mean(g * self.n, axis=self.over, keepdims=True)
        return np.reshape(made * self.rate, self.shape)


def _parts(site: Site, g: Any) -> _Parts | None:
    x, w = site.operands["x"], site.operands.get("w")
    shape = x.shape
    if site.op == "aten.native_batch_norm":
        if not site.parameters["training"]:
            return None
        across = (1, -1, *(1,) * (x.ndim - 2))
        mean, rate = (np.reshape(item, across) for item in site.results[1:3])
        scaled = g if w is None else g * np.reshape(w, across)
        over = (0, *range(2, x.ndim))
        return _Parts(scaled, g, (x - mean) * rate, rate, over, shape)
    if site.op == "aten.native_group_norm":
        groups = (x.shape[0], site.parameters["group"], -1)
        scaled = g if w is None else g * np.reshape(w, (1, -1, *(1,) * (x.ndim - 2)))
        mean, rate = (np.reshape(item, (*groups[:2], 1)) for item in site.results[1:3])
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


def _without(**parts: bool) -> Any:
    def wrong(visit: Visit) -> list[Any] | None:
        found = _parts(visit.site, visit.g)
        if found is None or visit.site.edge("x") is None:
            return None
        if parts.get("mean") is False and not found.centred:
            return None
        return visit.sending(found.sent(**parts))

    return wrong


def _raw_input(visit: Visit) -> list[Any] | None:
    """Make the weight's gradient with x instead of its normalised form."""
    edge = visit.site.edge("w")
    if edge is None:
        return None
    x, w = visit.site.operands["x"], visit.site.operands["w"]
    if visit.site.op in {"aten.native_batch_norm", "aten.native_group_norm"}:
        made = np.sum(visit.g * x, axis=(0, *range(2, x.ndim)))
    else:
        made = np.sum(visit.g * x, axis=tuple(range(x.ndim - w.ndim)))
    return visit.sending(made, edge)


def _unused_weight(visit: Visit) -> list[Any] | None:
    """Multiply the weight into its own gradient."""
    edge = visit.site.edge("w")
    if edge is None:
        return None
    return visit.sending(visit.sent[edge] * visit.site.operands["w"], edge)


def _made(name: str, op: str) -> tuple[Fault, ...]:
    ops = frozenset({op})
    return (
        Fault(
            f"{name} mean path dropped",
            f"the {name} at {{place}} is differentiated as if the mean were a constant: the "
            "gradient's own mean is not subtracted",
            ops,
            _without(mean=False),
        ),
        Fault(
            f"{name} variance path dropped",
            f"the {name} at {{place}} is differentiated as if the deviation were a constant: the "
            "part of the gradient along the normalised input is not subtracted",
            ops,
            _without(variance=False),
        ),
        Fault(
            f"{name} statistics as constants",
            f"the {name} at {{place}} is differentiated as if mean and deviation were constants: "
            "the gradient is only multiplied by weight over deviation",
            ops,
            _without(mean=False, variance=False),
        ),
        Fault(
            "gamma omitted",
            f"the {name}'s weight (gamma) is not multiplied into the gradient at {{place}}",
            ops,
            _without(weight=False),
        ),
        Fault(
            "gamma's gradient with the raw input",
            f"the gradient of the {name}'s weight (gamma) at {{place}} is made with the input, "
            "which should be normalised first",
            ops,
            _raw_input,
        ),
        Fault(
            "gamma multiplied into its own gradient",
            f"the gradient of the {name}'s weight (gamma) at {{place}} is multiplied by the weight",
            ops,
            _unused_weight,
        ),
    )


FAULTS = tuple(fault for name, op in _KINDS.items() for fault in _made(name, op))


def norm_faults(case: Case) -> Iterator[Explanation]:
    """Explain by a normalisation differentiated as if its statistics were constants."""
    return explained(case, FAULTS)
