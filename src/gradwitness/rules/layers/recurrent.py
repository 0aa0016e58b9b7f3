"""Recurrent layers that torch runs as one operation, and sequences of unequal lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.elementwise.pointwise import sigmoid_of
from gradwitness.rules.kernel_ops import enter_kernel, leave_kernel, round_to_format
from gradwitness.rules.registry import Array, rule

# Torch's number for an LSTM among the kinds of recurrent layer.
_LSTM = 2
_IGNORED = ("hidden_size", "num_layers", "bidirectional", "batch_first", "train")


def _covered(mode: int, batch_sizes: tuple[int, ...]) -> None:
    if mode != _LSTM or batch_sizes:
        raise NotImplementedError("a recurrent layer that is no LSTM, or on a packed sequence")


def in_time(x: Array, reverse: bool) -> Array:
    """Turn a sequence into the order in which the layer goes through it, or back."""
    return np.flip(x, 0) if reverse else x


def _activated(z: Array) -> tuple[Array, Array, Array, Array]:
    """Return the gates: input, forget, cell, output."""
    size = z.shape[-1] // 4
    i, f, g, o = (z[..., k * size : (k + 1) * size] for k in range(4))
    return sigmoid_of(i), sigmoid_of(f), np.tanh(g), sigmoid_of(o)


@rule(
    "aten.mkldnn_rnn_layer",
    "y = lstm(x, w, u, b, v, h, c, reverse, has_biases)",
    meaning="sends the gradient back through time: at each step through the output gate to the "
    "cell, through the cell to the other gates and to the step before; the weights get the sum "
    "over the steps",
    ignores=_IGNORED,
    # Sequences are independent.
    apart="_n_,__,__,_,_,n_,n_->_n_,n_,n_,-",
    sequential=True,
)
def lstm(
    x: Array,
    w: Array,
    u: Array,
    b: Array,
    v: Array,
    h: Array,
    c: Array,
    *,
    reverse: bool,
    batch_sizes: tuple[int, ...],
    mode: int,
    has_biases: bool,
    made: Any = None,
) -> tuple[Array, Array, Array, None]:
    _covered(mode, batch_sizes)
    sums = _each_step(in_time(x, reverse), w.T)
    if made is not None:
        # From the recorded states, those of all steps come at once.
        sums = sums + _each_step(_before(h, in_time(made[0], reverse)), u.T)
    bias = round_to_format(b + v) if has_biases else 0
    states = []
    for step in range(x.shape[0]):
        of_step = sums[step] + h @ u.T if made is None else sums[step]
        i, f, g, o = _activated(of_step + bias)
        c = round_to_format(f * c + i * g)
        h = round_to_format(o * np.tanh(c))
        states.append(h)
    # What the kernel keeps for its backward says nothing to anyone else.
    return in_time(np.stack(states), reverse), states[-1], c, None


def _rows(x: Array) -> Array:
    """One row for each step of each sequence."""
    return np.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def _before(h: Array, states: Array) -> Array:
    """Return the states before each step, from the first one and those after it."""
    return np.concatenate([np.reshape(h, (1, *h.shape)), states[:-1]])


def _each_step(x: Array, w: Array) -> Array:
    """Multiply each step of each sequence with a matrix, in one product."""
    return np.reshape(_rows(x) @ w, (*x.shape[:2], w.shape[1]))


# All at once, since going back through time is most of the work.
@lstm.vjps_together(
    **{
        operand: f"lstm_back(g, x, w, u, b, v, h, c, reverse, has_biases)[{number}]"
        for operand, number in zip("xwubvhc", (0, 1, 2, 3, 3, 4, 5), strict=True)
    }
)
def _(
    g: Any,
    y0: Array,
    x: Array,
    w: Array,
    u: Array,
    b: Array,
    v: Array,
    h: Array,
    c: Array,
    **how: Any,
) -> tuple[Array, ...]:
    of_gates, (of_x, of_h), dh, dc = to_gates(g, y0, x, w, u, b, v, h, c, **how)
    rows, to_x = _rows(of_gates), _each_step(of_gates, enter_kernel(w))
    of_bias = np.sum(rows, axis=0)
    sent = (to_x, rows.T @ of_x, rows.T @ of_h, of_bias, of_bias, dh, dc)
    to_x, *rest = map(leave_kernel, sent)
    return in_time(to_x, how["reverse"]), *rest


def to_gates(
    g: Any,
    y0: Array,
    x: Array,
    w: Array,
    u: Array,
    b: Array,
    v: Array,
    h: Array,
    c: Array,
    **how: Any,
) -> tuple[Array, tuple[Array, Array], Array, Array]:
    """Return the gradients of the gates' sums, in the layer's order of time, and the states'.

    Between them stand the rows that the sums are products of: of the sequence, and of the states
    before each step.
    """
    _covered(how["mode"], how["batch_sizes"])
    reverse: bool = how["reverse"]
    x, w, u, h, c = (enter_kernel(item) for item in (x, w, u, h, c))
    x, states = (in_time(item, reverse) for item in (x, enter_kernel(y0)))
    before = _before(h, states)
    bias = round_to_format(enter_kernel(b) + enter_kernel(v)) if how["has_biases"] else 0
    sums = _each_step(x, w.T) + _each_step(before, u.T) + bias
    gates = [[*map(round_to_format, _activated(step))] for step in sums]
    of_gates, dh, dc = _through_time(g, gates, u, c, reverse)
    return of_gates, (_rows(x), _rows(before)), dh, dc


def _through_time(
    g: Any, gates: list[list[Array]], u: Array, c: Array, reverse: bool
) -> tuple[Array, Array, Array]:
    """Return the gradients of the gates' sums, and of the two states to start from.

    The gates of a step, and its cell, are let go once its gradients are there.
    """
    from_y, dh, dc = (enter_kernel(x) for x in g[:3])
    from_y = in_time(from_y, reverse)
    cells = [c]
    for i, f, n, _ in gates:
        cells.append(round_to_format(f * cells[-1] + i * n))
    of_gates: list[Array] = []
    for step in reversed(range(len(gates))):
        i, f, n, o = gates.pop()
        dh = from_y[step] + dh
        t = np.tanh(cells.pop())
        dc = dc + dh * o * (1 - t * t)
        parts = (
            dc * n * (i * (1 - i)),
            dc * cells[-1] * (f * (1 - f)),
            dc * i * (1 - n * n),
            dh * t * (o * (1 - o)),
        )
        of_gates.append(round_to_format(np.concatenate(parts, axis=-1)))
        dh, dc = of_gates[-1] @ u, dc * f
    return np.stack(of_gates[::-1]), dh, dc


def _inside(lengths: Array, steps: int) -> Array:
    """Whether each step of each sequence lies before its end."""
    return np.arange(steps, like=lengths)[:, None] < lengths


def _time_first(x: Array, batch_first: bool) -> Array:
    return np.swapaxes(x, 0, 1) if batch_first else x


@rule(
    "aten._pack_padded_sequence",
    "y = pack(x, lengths, batch_first), reaching(lengths)",
    meaning="puts the gradient back to where each step of a sequence stood, and 0 behind its end",
)
def pack_padded_sequence(x: Array, lengths: Array, *, batch_first: bool) -> tuple[Array, Array]:
    steps = _time_first(x, batch_first)
    inside = _inside(lengths, steps.shape[0])
    return steps[inside], np.sum(inside[: int(np.max(lengths))], axis=1)


@pack_padded_sequence.vjp("x", "unpack(g[0], x, lengths, batch_first)")
def _(g: Any, x: Array, lengths: Array, *, batch_first: bool) -> Array:
    steps = np.zeros_like(g[0], shape=_time_first(x, batch_first).shape)
    steps[_inside(lengths, steps.shape[0])] = g[0]
    return _time_first(steps, batch_first)
