"""Faults of single tensors and of chains, as functions from right claims to wrong ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnose.network import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    Arrays = dict[str, Any]
    Fault = Callable[[Arrays, Arrays], Arrays]

A, B, C, D = ("0", "2", "4", "6")  # the four layers


def every(change: Callable[[Any], Any]) -> Fault:
    return lambda g, _: {name: change(h) for name, h in g.items()}


def one(name: str, change: Callable[[Any], Any]) -> Fault:
    return lambda g, _: {name: change(g[name])}


def behind(layer: str, change: Callable[[Any], Any]) -> Fault:
    return lambda g, _: {n: change(h) for n, h in g.items() if n < layer}


def put(index: Any, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(g: Any) -> Any:
        h = g.copy()
        h[index] = change(h[index])
        return h

    return changed


def clip_norm(limit: float) -> Fault:
    def fault(g: Arrays, w: Arrays) -> Arrays:
        total = math.hypot(*(np.linalg.norm(h) for h in g.values()))
        return {n: h * (limit / (total + 1e-6)) for n, h in g.items()}

    return fault


def bfloat16(g: Any) -> Any:
    return (g.astype(np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)


# cause, fault; what it is called first, or by the runner-up.
FAULTS: dict[str, tuple[str, Fault]] = {
    "missing 2": ("missing factor 2", every(lambda g: g / 2)),
    "sum for mean": ("mean against sum", every(lambda g: g * BATCH * 3)),
    "mean over the batch twice": ("mean against sum", every(lambda g: g / BATCH)),
    "negative": ("wrong sign", every(lambda g: -g)),
    "loss scale": ("loss scale", every(lambda g: g * 65536)),
    "loss scale taken out twice": ("loss scale", every(lambda g: g / 1024)),
    "4 passes": ("gradient accumulated", every(lambda g: 4 * g)),
    "factor behind a layer": ("constant factor", behind("4", lambda g: 0.73 * g)),
    "factor 2 behind a layer": ("extra factor 2", behind("4", lambda g: 2 * g)),
    "factor of one": ("constant factor", one("2.weight", lambda g: 1.37 * g)),
    "sign of one": ("wrong sign", one("4.bias", lambda g: -g)),
    "0.8 for each layer": (
        "factor of every layer",
        lambda g, _: {n: h * 0.8 ** (3 - int(n[0]) // 2) for n, h in g.items()},
    ),
    "update": ("update instead of gradient", every(lambda g: -0.01 * g)),
    "transposed": ("transposed", one("2.weight", np.transpose)),
    "all transposed": (
        "transposed",
        lambda g, _: {n: h.T for n, h in g.items() if h.ndim == 2},
    ),
    "transpose misread": ("transposed", one("0.weight", lambda g: g.T.reshape(g.shape))),
    "memory misread": ("strides ignored", one("0.weight", lambda g: g.reshape(g.T.shape).T)),
    "flipped": ("axis flipped", one("6.weight", lambda g: g[::-1])),
    "rolled": ("index shift", one("0.bias", lambda g: np.roll(g, 1))),
    "reordered": (
        "slices in another order",
        one("0.weight", lambda g: g[[5, 3, 8, 0, 1, 2, 4, 6, 7, 9, 11, 10]]),
    ),
    "swapped": (
        "another layer's gradient",
        lambda g, _: {"2.weight": g["4.weight"], "4.weight": g["2.weight"]},
    ),
    "layer before": ("another layer's gradient", lambda g, _: {"2.weight": g["4.weight"]}),
    "biases shifted": (
        "another layer's gradient",
        lambda g, _: {"0.bias": g["2.bias"], "2.bias": g["4.bias"]},
    ),
    "added to another": (
        "another layer's gradient added",
        lambda g, _: {"2.weight": g["4.weight"] + g["2.weight"]},
    ),
    "detached": ("detached", behind("4", np.zeros_like)),
    "one missing": ("detached", one("4.weight", np.zeros_like)),
    "dead units": (
        "dead slices",
        lambda g, _: {
            "2.weight": put([1, 7], np.zeros_like)(g["2.weight"]),
            "2.bias": put([1, 7], np.zeros_like)(g["2.bias"]),
        },
    ),
    "one element": (
        "wrong in a few places",
        one("2.weight", put((2, 3), lambda g: g * 1.7 + 0.01)),
    ),
    "one row": ("wrong in a few places", one("2.weight", put(4, lambda g: 3.3 * g))),
    "one column": ("wrong in a few places", one("4.weight", put((slice(None), 2), np.cos))),
    "bias averaged": (
        "averaged instead of summed",
        lambda g, _: {n: h / BATCH for n, h in g.items() if n.endswith("bias")},
    ),
    "summed again": (
        "summed once too often",
        one("2.bias", lambda g: np.full_like(g, g.sum())),
    ),
    "NaN": ("not finite", one("2.weight", put((2, 3), lambda _: math.nan))),
    "clipped by norm": ("clipped by norm", clip_norm(0.1)),
    "clipped by value": ("clipped by value", every(lambda g: np.clip(g, -0.02, 0.02))),
    "weight decay": ("weight decay added", lambda g, w: {n: h + 0.01 * w[n] for n, h in g.items()}),
    "weight": ("weight instead of gradient", lambda _, w: w),
    "updated weight": (
        "updated weight instead of gradient",
        lambda g, w: {n: w[n] - 0.1 * h for n, h in g.items()},
    ),
    "absolute": ("absolute value", one("2.weight", np.abs)),
    "signs": ("sign only", every(np.sign)),
    "negative cut off": ("one sign cut off", one("4.weight", lambda g: np.maximum(g, 0))),
    "bfloat16": ("low precision", every(bfloat16)),
}

# What has no cause that could be named.
NAMELESS: dict[str, Fault] = {
    "noise": lambda g, _: {
        n: h + 0.1 * np.abs(h).max() * np.random.default_rng(h.size).standard_normal(h.shape)
        for n, h in g.items()
    },
    "noise in one": lambda g, _: {
        "2.weight": g["2.weight"] * np.random.default_rng(0).uniform(0.5, 2, (12, 12))
    },
    "random": lambda g, _: {
        n: np.random.default_rng(h.size).standard_normal(h.shape) for n, h in g.items()
    },
}
