"""Mistake: wrong backward of a pooling, a convolution, an embedding or a dropout."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import (
    Mistake,
    Trial,
    aten,
    explained,
    explanations,
    on_replay,
)
from gradwitness.rules.layers.convolution import Geometry
from gradwitness.rules.layers.windows import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

_MAX_POOL = aten("max_pool2d_with_indices max_pool3d_with_indices")
_AVG_POOL = aten("avg_pool2d avg_pool3d")
_CONVOLUTION = aten("convolution")
_EMBEDDING = aten("embedding")


def _spread_evenly(visit: Visit) -> list[Any]:
    x, walk = visit.site.operands["x"], Walk(**visit.site.parameters)
    return [walk.windows(x).given_back(walk.divided(visit.g, x), x)]


def _to_all(visit: Visit) -> list[Any]:
    x = visit.site.operands["x"]
    return [Walk(**visit.site.parameters).windows(x).given_back(visit.g, x)]


def _to_equals(visit: Visit) -> list[Any] | None:
    """Give the whole gradient to every element that equals the window's largest."""
    x, walk = visit.site.operands["x"], Walk(**visit.site.parameters)
    if visit.site.parameters.get("stride") not in ((), visit.site.parameters["kernel_size"]):
        return None
    windows = walk.windows(x)
    return [np.where(windows.given_back(visit.site.y, x) == x, windows.given_back(visit.g, x), 0)]


def _kernel_flipped(visit: Visit) -> list[Any] | None:
    w = visit.site.operands["w"]
    if visit.site.edge("x") is None:
        return None
    flipped = np.flip(w, tuple(range(2, w.ndim)))
    return visit.sending(visit.site.vjp("x", visit.g, w=flipped))


def _weight_flipped(visit: Visit) -> list[Any] | None:
    w = visit.site.operands["w"]
    if visit.site.edge("w") is None:
        return None
    return [visit.sent[0], np.flip(visit.sent[1], tuple(range(2, w.ndim))), *visit.sent[2:]]


def _unstrided(edge: str) -> Any:
    def wrong(visit: Visit) -> list[Any] | None:
        walk = Geometry.over(visit.site.operands["w"].ndim - 2, **visit.site.parameters)
        if visit.site.edge(edge) is None or walk.transposed or set(walk.stride) == {1}:
            return None
        plain = dataclasses.replace(walk, stride=(1,) * len(walk.stride))
        x, w = visit.site.operands["x"], visit.site.operands["w"]
        if edge == "x":
            return visit.sending(plain.spread(visit.g, w, x.shape[2:]))
        return [visit.sent[0], plain.weigh(visit.g, x, w.shape[2:]), *visit.sent[2:]]

    return wrong


def _overwritten(visit: Visit) -> list[Any]:
    indices = np.ravel(visit.site.operands["indices"])
    gradient = np.zeros_like(visit.site.operands["weight"])
    gradient[indices] = np.reshape(visit.g, (indices.size, -1))
    if visit.site.parameters.get("padding_idx", -1) >= 0:
        gradient[visit.site.parameters["padding_idx"]] = 0
    return visit.sending(gradient)


def _by_frequency(visit: Visit) -> list[Any]:
    return visit.sending(visit.site.vjp("weight", visit.g, scale_grad_by_freq=True))


def _padding_learns(visit: Visit) -> list[Any] | None:
    if visit.site.parameters.get("padding_idx", -1) < 0:
        return None
    return visit.sending(visit.site.vjp("weight", visit.g, padding_idx=-1))


MISTAKES = (
    Mistake(
        "max pool spreads evenly",
        "the max pool at {place} spreads each window's gradient evenly, like an average pool, "
        "instead of giving it to the largest element",
        _MAX_POOL,
        _spread_evenly,
    ),
    Mistake(
        "max pool gives to all",
        "the max pool at {place} gives each window's gradient to every element of the window "
        "instead of only the largest",
        _MAX_POOL,
        _to_all,
    ),
    Mistake(
        "max pool gives to every tie",
        "the max pool at {place} gives each window's whole gradient to every element that equals "
        "the largest; torch gives it only to the first",
        _MAX_POOL,
        _to_equals,
    ),
    Mistake(
        "avg pool not divided",
        "the average pool at {place} gives each element the window's gradient without dividing by "
        "the window's size",
        _AVG_POOL,
        _to_all,
    ),
    Mistake(
        "convolution kernel flipped in backward",
        "the gradient of the input of the convolution at {place} flips the kernel twice, or not at "
        "all: torch's forward pass correlates, so backward flips it once",
        _CONVOLUTION,
        _kernel_flipped,
    ),
    Mistake(
        "convolution kernel flipped in backward",
        "the gradient of the kernel of the convolution at {place} is flipped",
        _CONVOLUTION,
        _weight_flipped,
    ),
    Mistake(
        "stride ignored",
        "the gradient of the input of the convolution at {place} ignores the stride: zeros should "
        "be inserted between the incoming gradients",
        _CONVOLUTION,
        _unstrided("x"),
    ),
    Mistake(
        "stride ignored",
        "the gradient of the kernel of the convolution at {place} ignores the stride: it uses the "
        "input at every position instead of every stride-th",
        _CONVOLUTION,
        _unstrided("w"),
    ),
    Mistake(
        "embedding rows overwritten",
        "at {place} a row that was looked up several times gets only the gradient of the last "
        "lookup: it is assigned (=) instead of added (+=, np.add.at)",
        _EMBEDDING,
        _overwritten,
    ),
    Mistake(
        "embedding rows averaged",
        "at {place} a row's gradient is divided by the number of its lookups",
        _EMBEDDING,
        _by_frequency,
    ),
    Mistake(
        "padding row learns",
        "at {place} the row of the padding index gets a gradient, but should get none",
        _EMBEDDING,
        _padding_learns,
    ),
)


def layer_mistakes(case: Case) -> Iterator[Explanation]:
    """Explain by a wrong derivative of a pooling, a convolution or an embedding."""
    return explained(case, MISTAKES)


# Dropout: a product with a random mask, or a single operation.

_DRAWN = aten("bernoulli rand rand_like uniform")
DROPOUTS = aten("mul native_dropout")


def _not_masked(visit: Visit) -> list[Any]:
    return [visit.g if s is not None else None for s in visit.sent]


def _scaled_not_masked(visit: Visit) -> list[Any] | None:
    scale = _scale(visit.site)
    if scale is None:
        return None
    return [None if s is None else scale * visit.g for s in visit.sent]


def _scale(site: Site) -> float | None:
    if site.op == "aten.native_dropout":
        p = float(site.parameters["p"])
        return 1 / (1 - p) if p < 1 else None
    mask = _mask(site)
    largest = float(np.max(np.abs(mask), initial=0)) if mask is not None else 0.0
    return largest or None


def _mask(site: Site) -> Any:
    """Return the factor that needs no gradient."""
    return next((site.operands[name] for name in site.constants), None)


def _not_scaled(visit: Visit) -> list[Any] | None:
    scale = _scale(visit.site)
    return None if scale in (None, 1) else visit.times(1 / scale)


DROPOUT_MISTAKES = (
    Mistake(
        "dropout mask not applied in backward",
        "the dropout at {place} passes the whole gradient: neither the mask of the forward pass "
        "nor the scale 1 / (1 - p) is applied in backward",
        DROPOUTS,
        _not_masked,
    ),
    Mistake(
        "dropout mask not applied in backward",
        "the dropout at {place} scales the gradient by 1 / (1 - p), but does not apply the mask of "
        "the forward pass",
        DROPOUTS,
        _scaled_not_masked,
    ),
    Mistake(
        "dropout scale missing",
        "the dropout at {place} applies its mask in backward, but not the scale 1 / (1 - p)",
        DROPOUTS,
        _not_scaled,
    ),
)


def dropout_sites(trial: Trial) -> list[Site]:
    """Return the nodes that are dropouts."""
    return [
        site
        for site in trial.sites(DROPOUTS)
        if site.op == "aten.native_dropout"
        or any(
            trial.comes_from(site.numbers[n], _DRAWN) for n in site.constants if n in site.numbers
        )
    ]


@on_replay
def dropout_mistakes(trial: Trial) -> Iterator[Explanation]:
    """Explain by a dropout whose mask or scale is missing in backward."""
    sites = dropout_sites(trial)
    for mistake in DROPOUT_MISTAKES:
        yield from explanations(trial, mistake, sites)
