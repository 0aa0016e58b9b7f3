"""Mistakes in the backward of what picks or walks: pooling, convolutions, tables, dropout."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Fault, Stage, explained, explanations
from gradwitness.rules.layers.convolution import Geometry
from gradwitness.rules.layers.windows import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation, Scene
    from gradwitness.diagnose.replayed_faults import Site, Turn

_MAX_POOL = frozenset({"aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices"})
_AVG_POOL = frozenset({"aten.avg_pool2d", "aten.avg_pool3d"})
_CONVOLUTION = frozenset({"aten.convolution"})
_EMBEDDING = frozenset({"aten.embedding"})


def _spread_evenly(turn: Turn) -> list[Any]:
    x, walk = turn.site.operands["x"], Walk(**turn.site.parameters)
    return [walk.windows(x).given_back(walk.divided(turn.g, x), x)]


def _to_all(turn: Turn) -> list[Any]:
    x = turn.site.operands["x"]
    return [Walk(**turn.site.parameters).windows(x).given_back(turn.g, x)]


def _to_equals(turn: Turn) -> list[Any] | None:
    """Every element that equals the window's largest gets the whole gradient."""
    x, walk = turn.site.operands["x"], Walk(**turn.site.parameters)
    if turn.site.parameters.get("stride") not in ((), turn.site.parameters["kernel_size"]):
        return None
    windows = walk.windows(x)
    return [np.where(windows.given_back(turn.site.y, x) == x, windows.given_back(turn.g, x), 0)]


def _kernel_flipped(turn: Turn) -> list[Any] | None:
    w = turn.site.operands["w"]
    if turn.site.edge("x") is None:
        return None
    turned = np.flip(w, tuple(range(2, w.ndim)))
    return turn.sending(turn.site.vjp("x", turn.g, w=turned))


def _weight_flipped(turn: Turn) -> list[Any] | None:
    w = turn.site.operands["w"]
    if turn.site.edge("w") is None:
        return None
    return [turn.sent[0], np.flip(turn.sent[1], tuple(range(2, w.ndim))), *turn.sent[2:]]


def _unstrided(edge: str) -> Any:
    def wrong(turn: Turn) -> list[Any] | None:
        walk = Geometry.over(turn.site.operands["w"].ndim - 2, **turn.site.parameters)
        if turn.site.edge(edge) is None or walk.transposed or set(walk.stride) == {1}:
            return None
        plain = dataclasses.replace(walk, stride=(1,) * len(walk.stride))
        x, w = turn.site.operands["x"], turn.site.operands["w"]
        if edge == "x":
            return turn.sending(plain.spread(turn.g, w, x.shape[2:]))
        return [turn.sent[0], plain.weigh(turn.g, x, w.shape[2:]), *turn.sent[2:]]

    return wrong


def _overwritten(turn: Turn) -> list[Any]:
    indices = np.ravel(turn.site.operands["indices"])
    out = np.zeros_like(turn.site.operands["weight"])
    out[indices] = np.reshape(turn.g, (indices.size, -1))
    if turn.site.parameters.get("padding_idx", -1) >= 0:
        out[turn.site.parameters["padding_idx"]] = 0
    return turn.sending(out)


def _by_frequency(turn: Turn) -> list[Any]:
    return turn.sending(turn.site.vjp("weight", turn.g, scale_grad_by_freq=True))


def _padding_learns(turn: Turn) -> list[Any] | None:
    if turn.site.parameters.get("padding_idx", -1) < 0:
        return None
    return turn.sending(turn.site.vjp("weight", turn.g, padding_idx=-1))


FAULTS = (
    Fault(
        "max pool spreads evenly",
        "the max pool at {place} spreads each window's gradient evenly, as an average pool does; "
        "it belongs to the largest element alone",
        _MAX_POOL,
        _spread_evenly,
    ),
    Fault(
        "max pool gives to all",
        "the max pool at {place} gives each window's gradient to every element of the window; it "
        "belongs to the largest alone",
        _MAX_POOL,
        _to_all,
    ),
    Fault(
        "max pool gives to every tie",
        "the max pool at {place} gives each window's whole gradient to every element that equals "
        "the largest; torch gives it to the first",
        _MAX_POOL,
        _to_equals,
    ),
    Fault(
        "avg pool not divided",
        "the average pool at {place} gives each element the window's gradient, not divided by the "
        "window's size",
        _AVG_POOL,
        _to_all,
    ),
    Fault(
        "convolution kernel flipped in backward",
        "the gradient of the input of the convolution at {place} is made with the kernel turned "
        "round once too often (or not at all): torch's forward correlates, so backward turns it "
        "once",
        _CONVOLUTION,
        _kernel_flipped,
    ),
    Fault(
        "convolution kernel flipped in backward",
        "the gradient of the kernel of the convolution at {place} comes out turned round",
        _CONVOLUTION,
        _weight_flipped,
    ),
    Fault(
        "stride ignored",
        "the gradient of the input of the convolution at {place} ignores the stride: the incoming "
        "gradient belongs on a grid of it, with zeros between",
        _CONVOLUTION,
        _unstrided("x"),
    ),
    Fault(
        "stride ignored",
        "the gradient of the kernel of the convolution at {place} ignores the stride: it meets the "
        "input at every place instead of every stride-th",
        _CONVOLUTION,
        _unstrided("w"),
    ),
    Fault(
        "embedding rows overwritten",
        "at {place} a row that was looked up several times gets the gradient of the last time "
        "alone: written (=) where it should be added (+=, np.add.at)",
        _EMBEDDING,
        _overwritten,
    ),
    Fault(
        "embedding rows averaged",
        "at {place} a row's gradient is divided by how often the row was looked up",
        _EMBEDDING,
        _by_frequency,
    ),
    Fault(
        "padding row learns",
        "at {place} the padding index's row gets a gradient; it should get none",
        _EMBEDDING,
        _padding_learns,
    ),
)


def picking_faults(scene: Scene) -> Iterator[Explanation]:
    """Explain by a pooling, a convolution or a table differentiated wrongly."""
    return explained(scene, FAULTS)


# Dropout: a product with a mask that was drawn, or one operation.

_DRAWN = frozenset({"aten.bernoulli", "aten.rand", "aten.rand_like", "aten.uniform"})
DROPOUTS = frozenset({"aten.mul", "aten.native_dropout"})


def _not_masked(turn: Turn) -> list[Any]:
    return [turn.g if s is not None else None for s in turn.sent]


def _scaled_not_masked(turn: Turn) -> list[Any] | None:
    scale = _scale(turn.site)
    return None if scale is None else [scale * turn.g if s is not None else None for s in turn.sent]


def _scale(site: Site) -> float | None:
    if site.op == "aten.native_dropout":
        p = float(site.parameters["p"])
        return 1 / (1 - p) if p < 1 else None
    mask = _mask(site)
    largest = float(np.max(np.abs(mask), initial=0)) if mask is not None else 0.0
    return largest or None


def _mask(site: Site) -> Any:
    """Return the factor that no gradient is wanted for."""
    return next(
        (
            site.operands[name]
            for name, target in zip(site.names, site.node.edges, strict=True)
            if target is None
        ),
        None,
    )


def _not_scaled(turn: Turn) -> list[Any] | None:
    scale = _scale(turn.site)
    if scale is None or scale == 1:
        return None
    return [None if s is None else s / scale for s in turn.sent]


DROPOUT_FAULTS = (
    Fault(
        "dropout mask not applied in backward",
        "the dropout at {place} lets the whole gradient through: the mask of the forward pass is "
        "not applied in backward, nor the scale 1 / (1 - p)",
        DROPOUTS,
        _not_masked,
    ),
    Fault(
        "dropout mask not applied in backward",
        "the dropout at {place} scales the gradient by 1 / (1 - p), but does not apply the mask of "
        "the forward pass",
        DROPOUTS,
        _scaled_not_masked,
    ),
    Fault(
        "dropout scale missing",
        "the dropout at {place} applies its mask in backward, but not the scale 1 / (1 - p)",
        DROPOUTS,
        _not_scaled,
    ),
)


def dropout_sites(stage: Stage) -> list[Site]:
    """Return the nodes that are dropouts."""
    return [
        site
        for site in stage.sites(DROPOUTS)
        if site.op == "aten.native_dropout"
        or any(stage.comes_from(number, _DRAWN) for number in _unwanted(site))
    ]


def _unwanted(site: Site) -> list[int]:
    pairs = zip(site.names, site.node.edges, strict=True)
    return [site.numbers[name] for name, to in pairs if to is None and name in site.numbers]


def dropout_faults(scene: Scene) -> Iterator[Explanation]:
    """Explain by a dropout whose mask or scale is missing in backward."""
    stage = Stage.of(scene)
    if stage is None:
        return
    sites = dropout_sites(stage)
    for fault in DROPOUT_FAULTS:
        yield from explanations(stage, fault, sites)
