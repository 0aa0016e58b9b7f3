"""Losses over classes that torch runs as one operation. ``reduction``: 0 none, 1 mean, 2 sum."""

from __future__ import annotations

import functools
import string
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import added_in_turn
from gradwitness.rules.loss.losses import MEAN, reduced, share
from gradwitness.rules.made_like import full_like
from gradwitness.rules.registry import Array, Rule, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

# How many terms torch's negative log-likelihood adds up before it begins a new partial sum; the
# partial sums are added up alike.
_BLOCK = 16


def stored_sum(terms: Array) -> Array:
    """Add up as torch's kernel does: every partial sum is stored in the terms' own format.

    After the first term, blocks of 16, their sums in blocks of 16, and so on. What is left of each
    is added up at the end, and the first term last.
    """
    if not terms.size:
        return np.zeros_like(terms, shape=())
    terms = np.reshape(terms, (terms.size, 1))
    left, rest = [], terms[1:]
    while rest.shape[0]:
        blocks = rest.shape[0] // _BLOCK
        whole, over = rest[: blocks * _BLOCK], rest[blocks * _BLOCK :]
        left.append(added_in_turn(over) if over.shape[0] else np.zeros_like(rest, shape=(1,)))
        rest = np.reshape(
            added_in_turn(np.swapaxes(np.reshape(whole, (blocks, _BLOCK)), 0, 1)), (blocks, 1)
        )
    return np.reshape(added_in_turn(np.stack([*left, *terms[:1]])), ())


def weights_of(target: Array, weight: Array | None, ignore_index: int) -> tuple[Array, Array]:
    """Return the class of each target, and its weight: 0 where it is ignored."""
    kept = np.not_equal(target, ignore_index)
    safe = np.where(kept, target, 0)
    if weight is None:
        return safe, np.where(kept, 1.0, 0.0)
    return safe, np.where(kept, np.take(weight, safe), 0)


def _weighted(w: Array, terms: Array, weight: Array | None) -> Array:
    """Multiply by weights; where there are none, leave out what is ignored."""
    return np.where(w > 0, terms, 0) if weight is None else w * terms


def _rows_apart(axis: int, shapes: Mapping[str, tuple[int, ...]], parameters: Any) -> str:
    """Return the axes that the gradient leaves apart, see `Rule`: all but that of the classes."""
    x = [*string.ascii_letters[: len(shapes["x"])]]
    if not x:
        return ""
    x[axis] = "_"
    rows = "".join(x).replace("_", "")
    return f"{''.join(x)},{rows},->{rows if parameters['reduction'] == 0 else ''},"


def _enter_nll(name: str, word: str, axis: int, node: str, target_place: str) -> Rule:
    """Enter the rule of a negative log-likelihood over classes along an axis."""

    @rule(
        name,
        f"y = {word}(x, target, weight, reduction, ignore_index)",
        meaning="puts minus the gradient, times the class's weight and over the sum of the weights "
        f"for a mean, at {target_place}, among zeros",
        node=node,
        composite=True,
        apart_for={"x": functools.partial(_rows_apart, axis)},
    )
    def nll(
        x: Array, target: Array, weight: Array | None, *, reduction: int, ignore_index: int
    ) -> tuple[Array, Array]:
        at, w = weights_of(target, weight, ignore_index)
        chosen = np.squeeze(np.take_along_axis(x, np.expand_dims(at, axis), axis=axis), axis)
        terms = _weighted(w, -chosen, weight)
        if reduction == 0 and terms.ndim:
            return terms, full_like(x, (), 0)
        total = stored_sum(terms)
        weights = np.sum(w) if weight is None else stored_sum(w)
        return (total / weights if reduction == MEAN else total), weights

    @nll.vjp("x", f"{word}_input(g[0], x, target, weight, reduction, ignore_index)")
    def _(
        g: Any,
        y: Any,
        x: Array,
        target: Array,
        weight: Array | None,
        *,
        reduction: int,
        ignore_index: int,
    ) -> Array:
        at, w = weights_of(target, weight, ignore_index)
        down = _weighted(w, -g[0], weight)
        down = down / y[1] if reduction == MEAN else down
        classes = np.arange(x.shape[axis], like=x)
        classes = np.expand_dims(classes, tuple(range(1, x.ndim - axis % x.ndim)))
        return np.where(np.equal(classes, np.expand_dims(at, axis)), np.expand_dims(down, axis), 0)

    return nll


nll_loss = _enter_nll(
    "aten.nll_loss_forward", "nll", -1, "NllLossBackward", "the place of each target"
)
nll_loss2d = _enter_nll(
    "aten.nll_loss2d_forward",
    "nll2d",
    1,
    "NllLoss2DBackward",
    "the class of each pixel's target",
)


# Margins. A term counts where it is positive.


def _in_rows(x: Array, target: Array) -> tuple[Array, Array]:
    """Return scores with a row for each target; of one row, the axes may be missing."""
    return np.reshape(x, (-1, x.shape[-1] if x.ndim else 1)), np.reshape(target, (target.size,))


def _short_of(x: Array, target: Array, margin: Any) -> tuple[Array, Array]:
    """Return how much each class comes too near the target's score, and where that counts."""
    at = np.expand_dims(target, -1)
    gap = margin - np.take_along_axis(x, at, axis=-1) + x
    other = np.not_equal(np.arange(x.shape[-1], like=x), at)
    return gap, other & (gap > 0)


@rule(
    "aten.multi_margin_loss",
    "y = multi_margin(x, target, p, margin, weight, reduction)",
    meaning="gives each class that comes within the margin of the target's score the gradient, "
    "times the target's weight over the number of classes, and takes it from the target",
)
def multi_margin_loss(
    x: Array,
    target: Array,
    weight: Array | None,
    *,
    p: Any = 1,
    margin: Any = 1,
    reduction: int = MEAN,
) -> Array:
    scores, labels = _in_rows(x, target)
    gap, counts = _short_of(scores, labels, margin)
    terms = np.where(counts, gap if p == 1 else gap * gap, 0)
    if weight is not None:
        terms = terms * np.expand_dims(np.take(weight, labels), -1)
    rows = np.sum(terms, axis=-1) / scores.shape[-1]
    return reduced(np.reshape(rows, target.shape), reduction)


@multi_margin_loss.vjp("x", "multi_margin_input(g, x, target, p, margin, weight, reduction)")
def _(
    g: Array, x: Array, target: Array, weight: Array | None, *, p: Any, margin: Any, reduction: int
) -> Array:
    scores, target = _in_rows(x, target)
    gap, counts = _short_of(scores, target, margin)
    count, classes = scores.shape
    part = (share(count, reduction) / classes) * np.expand_dims(g, -1)
    if weight is not None:
        part = part * np.expand_dims(np.take(weight, target), -1)
    up = np.where(counts, part if p == 1 else 2 * part * gap, 0)
    hit = np.equal(np.arange(classes, like=target), np.expand_dims(target, -1))
    return np.reshape(np.where(hit, -np.sum(up, axis=-1, keepdims=True), up), x.shape)


def _labels(target: Array) -> tuple[Array, Array, Array]:
    """Return which entries name a label (those before the first -1), the labels, and who is one."""
    named = np.cumprod(np.greater_equal(target, 0), axis=-1) > 0
    safe = np.where(named, target, 0)
    hits = np.equal(np.arange(target.shape[-1], like=target), np.expand_dims(safe, -1))
    hits = hits & np.expand_dims(named, -1)
    return named, hits, np.any(hits, axis=-2)


def _with_axis(x: Array, target: Array) -> tuple[Array, Array]:
    return (x, target) if x.ndim else (np.reshape(x, (1,)), np.reshape(target, (1,)))


def _pairs(x: Array, target: Array) -> tuple[Array, Array, Array, Array]:
    """Return the term of each label (next to last axis) and class, and where it counts."""
    named, hits, is_label = _labels(target)
    own = np.expand_dims(np.take_along_axis(x, np.where(named, target, 0), axis=-1), -1)
    gap = 1 - (own - np.expand_dims(x, -2))
    counts = np.expand_dims(named, -1) & ~np.expand_dims(is_label, -2) & (gap > 0)
    return gap, counts, hits, is_label


@rule(
    "aten.multilabel_margin_loss_forward",
    "y = multilabel_margin(x, target, reduction)",
    meaning="for each label and each other class that comes within 1 of its score, gives the class "
    "the gradient over the number of classes, and takes it from the label",
    node="MultilabelMarginLossBackward",
)
def multilabel_margin_loss(x: Array, target: Array, *, reduction: int) -> tuple[Array, Array]:
    gap, counts, _, is_label = _pairs(*_with_axis(x, target))
    rows = np.sum(np.where(counts, gap, 0), axis=(-2, -1)) / is_label.shape[-1]
    return reduced(rows, reduction), np.reshape(np.where(is_label, 1.0, 0.0), target.shape)


@multilabel_margin_loss.vjp("x", "multilabel_margin_input(g[0], x, target, reduction)")
def _(g: Any, x: Array, target: Array, *, reduction: int) -> Array:
    _, counts, hits, is_label = _pairs(*_with_axis(x, target))
    classes = is_label.shape[-1]
    part = (share(x.size // classes, reduction) / classes) * g[0]
    up = np.where(counts, np.expand_dims(part, (-2, -1)), 0)
    down = np.where(hits, np.sum(up, axis=-1, keepdims=True), 0)
    return np.reshape(np.sum(up, axis=-2) - np.sum(down, axis=-2), x.shape)
