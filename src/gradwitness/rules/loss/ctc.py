"""Connectionist temporal classification (Graves and others 2006): a sum over all alignments.

The labels of a target, with a blank before, between and after them, are the states that a path
goes through: at each step it stays, moves on by one, or passes over a blank between two labels that
differ. Everything is kept as logarithms, of which no path has -inf.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.registry import Array, rule


class _States(NamedTuple):
    """The states of each target, batch first.

    ``labels`` are their classes, ``exist`` tells those of shorter targets, ``passing`` those that
    can be reached from two places before; ``last`` is the last place, ``times`` the steps.
    """

    labels: Array
    exist: Array
    passing: Array
    last: Array
    times: Array


def _states(targets: Array, input_lengths: Any, target_lengths: Any, blank: int) -> _States:
    times, sizes = (np.asarray(n, like=targets) for n in (input_lengths, target_lengths))
    position = np.arange(int(np.max(sizes)) if sizes.size else 0, like=targets)
    starts = np.zeros_like(sizes)
    if targets.ndim == 1:
        starts = np.cumsum(sizes) - sizes
        targets = np.broadcast_to(targets, (sizes.size, targets.size))
    inside = position < sizes[:, None]
    at = np.where(inside, starts[:, None] + position, 0)
    words = np.take_along_axis(targets, at, axis=1) if position.size else at
    labels = np.zeros((sizes.size, 2 * position.size + 1), np.int64, like=targets) + blank
    labels[:, 1::2] = np.where(inside, words, blank)
    passing = np.zeros(labels.shape, dtype=bool, like=targets)
    passing[:, 2:] = labels[:, 2:] != labels[:, :-2]
    exist = np.arange(labels.shape[1], like=targets) <= 2 * sizes[:, None]
    return _States(labels, exist, passing, 2 * sizes, times)


def _log_sum(*terms: Array) -> Array:
    """Return the logarithm of the sum of the exponentials, by a shift that may be any."""
    top = ignore_error(terms[0])
    for term in terms[1:]:
        top = np.maximum(top, ignore_error(term))
    shift = np.where(np.isfinite(top), top, 0)
    total = np.exp(terms[0] - shift)
    for term in terms[1:]:
        total = total + np.exp(term - shift)
    return np.log(total) + shift


def _behind(reach: Array, places: int) -> Array:
    """Return, for each state, what the state so many places before it has."""
    widths = ((0, 0), (places, 0))
    return np.pad(reach, widths, constant_values=-np.inf)[:, : reach.shape[1]]


def _chain(emitted: Array, begins: Array, passing: Array) -> Array:
    """Return, for each step and state, the sum over all paths that have come there."""
    reach = np.full_like(emitted[0], -np.inf)
    steps = []
    for step in range(emitted.shape[0]):
        two = np.where(passing, _behind(reach, 2), -np.inf)
        moved = _log_sum(reach, _behind(reach, 1), two) + emitted[step]
        reach = np.where(begins[step], emitted[step], moved)
        steps.append(reach)
    return np.stack(steps)


def _forward(emitted: Array, states: _States) -> Array:
    begins = np.zeros(emitted.shape, dtype=bool, like=emitted)
    begins[0, :, :2] = True
    return _chain(emitted, begins, states.passing)


def _backward(emitted: Array, states: _States) -> Array:
    """Run the chain from the end: steps and states the other way round."""
    steps, _, count = emitted.shape
    ends = np.arange(count, like=emitted) >= states.last[:, None] - 1
    final = np.equal(np.arange(steps, like=emitted)[:, None], states.times - 1)
    begins = final[:, :, None] & ends & states.exist
    passing = np.zeros_like(states.passing)
    passing[:, :-2] = states.passing[:, 2:]
    paths = _chain(np.flip(emitted, (0, 2)), np.flip(begins, (0, 2)), np.flip(passing, 1))
    return np.flip(paths, (0, 2))


def _emitted(x: Array, states: _States) -> Array:
    """Return the log-probability of each state's class: step, batch, state."""
    at = np.broadcast_to(states.labels, (x.shape[0], *states.labels.shape))
    return np.where(states.exist, np.take_along_axis(x, at, axis=2), -np.inf)


def _by_class(paths: Array, states: _States, classes: int) -> Array:
    """Add up the paths through the states of one class, one after the other from the last on."""
    count = states.labels.shape[1]
    order = np.argsort(states.labels[:, ::-1], axis=1, kind="stable")
    labels = np.take_along_axis(states.labels[:, ::-1], order, axis=1)
    at = np.broadcast_to(order, paths.shape)
    paths = np.take_along_axis(np.flip(paths, 2), at, axis=2)
    sums = [paths[:, :, 0]]
    for state in range(1, count):
        same = np.equal(labels[:, state], labels[:, state - 1])
        path = paths[:, :, state]
        sums.append(np.where(same, _log_sum(sums[-1], path), path))
    sums.append(np.full_like(sums[0], -np.inf))
    # Where the run of each class ends, or the one past all where it is not in the target.
    ends = np.zeros((classes, labels.shape[0]), np.int64, like=labels) + count
    others = np.not_equal(labels[:, 1:], labels[:, :-1])
    rows, at = np.nonzero(np.pad(others, ((0, 0), (0, 1)), constant_values=True))
    ends[labels[rows, at], rows] = at
    at = np.broadcast_to(ends[:, None, :], (classes, *sums[0].shape))
    return np.moveaxis(np.take_along_axis(np.stack(sums), at, axis=0), 0, 2)


@rule(
    "aten._ctc_loss",
    "y = alignments(x, targets, input_lengths, target_lengths, blank), None",
    meaning="gives each step and class the probability exp(x) less that of the alignments which go "
    "through it, which is the gradient of log-probabilities whose exponentials add up to 1",
)
def ctc_loss(
    x: Array,
    targets: Array,
    *,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    zero_infinity: bool = False,  # noqa: ARG001 (the vjp reads it)
) -> tuple[Array, None]:
    states = _states(targets, input_lengths, target_lengths, blank)
    paths = _forward(_emitted(x, states), states)
    at = np.maximum(states.times - 1, 0)[None, :, None]
    final = np.take_along_axis(paths, np.broadcast_to(at, (1, *paths.shape[1:])), axis=0)[0]
    last = np.take_along_axis(final, states.last[:, None], axis=1)[:, 0]
    before = np.take_along_axis(final, np.maximum(states.last - 1, 0)[:, None], axis=1)[:, 0]
    total = _log_sum(last, np.where(states.last > 0, before, -np.inf))
    unheard = np.where(states.last > 0, np.inf, 0)
    # The paths so far are what the kernel keeps for its backward; it leaves gaps in them.
    return np.where(states.times > 0, -total, unheard), None


@ctc_loss.vjp(
    "x", "to_alignments(g[0], x, targets, input_lengths, target_lengths, blank, zero_infinity)"
)
def _(
    g: Any,
    y0: Array,
    x: Array,
    targets: Array,
    *,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
    zero_infinity: bool,
) -> Array:
    states = _states(targets, input_lengths, target_lengths, blank)
    emitted = _emitted(x, states)
    paths = _forward(emitted, states) + _backward(emitted, states)
    through = _by_class(paths, states, x.shape[2]) + np.expand_dims(y0, 1)
    gradient = (np.exp(x) - np.exp(through - x)) * np.expand_dims(g[0], 1)
    heard = np.arange(x.shape[0], like=x)[:, None] < states.times
    if zero_infinity:
        heard = heard & ~np.isinf(y0)
    return np.where(heard[:, :, None], gradient, 0)
