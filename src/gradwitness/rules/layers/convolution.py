"""Convolutions, for any number of spatial axes, as matrix products.

With s the stride, d the dilation, p the padding and k a position in the kernel:
``y[n, o, i] = b[o] + sum_{c, k} w[o, c, k] x[n, c, s i + d k - p]``. Value and gradients are one
contraction over (c, k), (o, k) or (n, i), so that the bound covers every order of summation. A
transposed convolution is the first one's gradient for the input, and the other way round.

``in_parts`` is true of a kernel that works in 16 bits and stores partial sums in them (torch's own,
where oneDNN does not know the format): those of an input's gradient over o for each k, which it
adds up one after the other, and those of a kernel's and a bias's gradient over i for each n.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, continue_from, round_to_format
from gradwitness.rules.layers.window_products import Begins, correlated, weighed, windows
from gradwitness.rules.layers.windows import Sizes, each_axis
from gradwitness.rules.registry import Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ALL = (slice(None), slice(None))


@dataclass(frozen=True)
class Geometry:
    """How a kernel walks over its input; the fields are the schema's, one number for each axis."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    transposed: bool
    output_padding: Sizes
    groups: int

    @classmethod
    def over(cls, axes: int, **given: Any) -> Geometry:
        """Return the walk over so many axes, for all of which one number alone stands."""
        names = ("stride", "padding", "dilation", "output_padding")
        return cls(**given | {name: each_axis(given[name], axes) for name in names})

    def sizes(self, x: Shaped, kernel: Sizes) -> Sizes:
        """Return the spatial sizes that a convolution makes."""
        walk = zip(x.shape[2:], kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in walk)

    def correlate(self, x: Array, w: Array) -> Array:
        """Return the convolution of x, (N, C, ...), with w, (O, C/groups, ...)."""
        kernel = w.shape[2:]
        out = self.sizes(x, kernel)
        y = self._over_windows(w, x, self._begins(kernel), out, self.stride)
        return np.reshape(y, (x.shape[0], w.shape[0], *out))

    def spread(self, g: Array, w: Array, sizes: Sizes) -> Array:
        """Return the gradient for an input of spatial ``sizes``.

        Elements a stride apart meet the same positions of the kernel: their gradient is a
        correlation of g with these positions, in reverse, channels exchanged.
        """
        groups, channels = self.groups, self.groups * w.shape[1]
        turned = np.swapaxes(np.reshape(w, (groups, w.shape[0] // groups, *w.shape[1:])), 1, 2)
        turned = np.reshape(turned, (channels, w.shape[0] // groups, *w.shape[2:]))
        dx = np.zeros_like(g, shape=(g.shape[0], channels, *sizes))
        for first in itertools.product(*map(range, self.stride)):
            met = self._met(first, w.shape[2:])
            count = tuple(len(range(*at)) for at in zip(first, sizes, self.stride, strict=True))
            if not (all(met) and all(count)):
                continue
            positions: tuple[Any, ...] = np.ix_(*([k for k, _ in axis] for axis in met))
            begins = tuple([begin for _, begin in axis] for axis in met)
            met_by = turned[(*_ALL, *positions)]
            part = self._over_windows(met_by, g, begins, count, (1,) * len(sizes))
            part = np.reshape(part, (*dx.shape[:2], *count))
            if count == tuple(sizes):
                return part
            apart = (slice(at, None, s) for at, s in zip(first, self.stride, strict=True))
            dx[(*_ALL, *apart)] = part
        return dx

    def weigh(self, g: Array, x: Array, kernel: Sizes) -> Array:
        """Return the gradient for the kernel: one product over batch and positions."""
        begins, count, groups = self._begins(kernel), g.shape[2:], self.groups
        split = _grouped(x, groups, flat=False)
        if isinstance(g, np.ndarray) and isinstance(x, np.ndarray):
            dw = weighed(_grouped(g, groups), split, begins, count, self.stride)
        else:
            # Put in order before the windows are copied, which are so many more.
            split = np.transpose(split, (1, 2, 0, *range(3, split.ndim))).copy()
            met = windows(split, begins, count, self.stride)
            rows, points = len(met) * split.shape[1], math.prod((split.shape[2], *count))
            columns = np.reshape(_stacked(met, 1), (groups, rows, points))
            dw = _flat(_grouped(g, groups)) @ np.swapaxes(columns, 1, 2)
        dw = np.reshape(dw, (g.shape[1], *kernel, x.shape[1] // groups))
        return np.moveaxis(dw, -1, 1)

    def transposed_sizes(self, x: Array, w: Array) -> Sizes:
        """Return the spatial sizes that a transposed convolution makes."""
        sizes = zip(x.shape[2:], w.shape[2:], strict=True)
        walk = zip(self.stride, self.padding, self.dilation, self.output_padding, strict=True)
        return tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
            for (n, k), (s, p, d, extra) in zip(sizes, walk, strict=True)
        )

    def spread_in_parts(self, g: Array, w: Array, sizes: Sizes) -> Array:
        """Return what `spread` does, of a kernel that stores the part of each kernel position."""
        kernel, out = w.shape[2:], g.shape[2:]
        padded = tuple(n + 2 * p for n, p in zip(sizes, self.padding, strict=True))
        stored = (g.shape[0], self.groups * w.shape[1])
        turned: Array = np.reshape(w, (self.groups, w.shape[0] // self.groups, *w.shape[1:]))
        parts = (
            (
                (*_ALL, *self._window(k, out, self.stride)),
                np.reshape(
                    np.swapaxes(turned[(..., *k)], 1, 2) @ _grouped(g, self.groups),
                    (*stored, *out),
                ),
            )
            for k in itertools.product(*map(range, kernel))
        )
        inside = (slice(p, p + n) for n, p in zip(sizes, self.padding, strict=True))
        return _added_in_turn(np.zeros_like(g, shape=(*stored, *padded)), parts)[(*_ALL, *inside)]

    def weigh_in_parts(self, g: Array, x: Array, kernel: Sizes) -> Array:
        """Return what `weigh` does, of a kernel that adds one image after the other and stores."""
        met = self._columns(x, self._begins(kernel), g.shape[2:], self.stride)
        dw = _sum_of_images(_grouped(g, self.groups) @ np.swapaxes(met, 2, 3))
        dw = np.reshape(dw, (g.shape[1], *kernel, x.shape[1] // self.groups))
        return np.moveaxis(dw, -1, 1)

    def _window(self, k: Sizes, out: Sizes, stride: Sizes) -> tuple[slice, ...]:
        """Return, along each axis, what a kernel position meets."""
        return tuple(
            slice(d * at, d * at + s * (n - 1) + 1, s)
            for at, n, s, d in zip(k, out, stride, self.dilation, strict=True)
        )

    def _begins(self, kernel: Sizes) -> tuple[list[int], ...]:
        """Return, along each axis, which place of x each position meets first."""
        return tuple(
            [d * at - p for at in range(k)]
            for k, d, p in zip(kernel, self.dilation, self.padding, strict=True)
        )

    def _met(self, first: Sizes, kernel: Sizes) -> list[list[tuple[int, int]]]:
        """Return, along each axis, the positions that a place of x meets, and where in g."""
        return [
            [(at, (n - begin) // s) for at, begin in enumerate(begins) if (n - begin) % s == 0]
            for begins, n, s in zip(self._begins(kernel), first, self.stride, strict=True)
        ]

    def _over_windows(self, w: Array, x: Array, begins: Begins, count: Sizes, step: Sizes) -> Array:
        """Multiply w, (O, C/groups, ...), with windows of x, and add up: (N, groups, O, points)."""
        if isinstance(w, np.ndarray) and isinstance(x, np.ndarray):
            w = np.reshape(np.moveaxis(w, 1, -1), (self.groups, -1, *w.shape[2:], w.shape[1]))
            return correlated(w, _grouped(x, self.groups, flat=False), begins, count, step)
        return _matrix(w, self.groups) @ self._columns(x, begins, count, step)

    def _columns(self, x: Array, begins: Begins, count: Sizes, step: Sizes) -> Array:
        """Gather what each kernel position meets: (N, groups, K C/groups, points)."""
        met = windows(_grouped(x, self.groups, flat=False), begins, count, step)
        shape = (x.shape[0], self.groups, len(met) * x.shape[1] // self.groups, math.prod(count))
        return np.reshape(_stacked(met, 2), shape)


def _stacked(met: list[Array], axis: int) -> Array:
    """Put windows beside each other: not joined, so that each is copied once, and one alone not."""
    return np.stack(met, axis=axis) if len(met) > 1 else met[0]


def _added_in_turn(zeros: Array, parts: Iterable[tuple[Any, Array]]) -> Array:
    """Store each part, add it where it belongs, and store the sum.

    So each addition is off by a rounding of the partial sum that it makes, which is far smaller
    than all parts together where their signs differ (Higham 2002, section 3.3).
    """
    total = accumulate_in_format(zeros).copy()
    for where, part in parts:
        total[where] = round_to_format(total[where] + round_to_format(part))
    return total


def _sum_of_images(parts: Array) -> Array:
    return _added_in_turn(np.zeros_like(parts[0]), ((..., part) for part in parts))


def _grouped(x: Array, groups: int, *, flat: bool = True) -> Array:
    """(N, C, ...) to (N, groups, C/groups, points), or to (N, groups, C/groups, ...)."""
    points = (math.prod(x.shape[2:]),) if flat else x.shape[2:]
    return np.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *points))


def _flat(x: Array) -> Array:
    """(N, groups, C, points) to (groups, C, N points)."""
    moved = np.transpose(x, (1, 2, 0, 3))
    return np.reshape(moved, (*moved.shape[:2], moved.shape[2] * moved.shape[3]))


def _matrix(w: Array, groups: int) -> Array:
    """(O, C, ...) to (groups, O/groups, K C), kernel position before channel as in _columns."""
    moved = np.transpose(w, (0, *range(2, w.ndim), 1))
    return np.reshape(moved, (groups, w.shape[0] // groups, math.prod(w.shape[1:])))


def _apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes to compute along, see `Rule`: images, and input and output channels.

    Channels that are groups, of one input and one output each, are computed apart as well.
    """
    if parameters.get("in_parts"):
        return ""
    groups = parameters["groups"]
    if groups != 1:
        depthwise = groups == shapes["x"][1] == shapes["w"][0] and shapes["w"][1] == 1
        return "nc,c,c->nc" if depthwise else "n,,->n"
    return "nc,co,o->no" if parameters["transposed"] else "nc,oc,o->no"


def _kernel_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes for the kernel's gradient: not those for which all windows are needed."""
    letters = _apart(shapes, parameters)
    return {"nc,oc,o->no": "nc,_c,o->no", "nc,co,o->no": "nc,_o,o->no"}.get(letters, letters)


@rule(
    "aten.convolution",
    "y = conv(x, w, stride, padding, dilation, transposed, output_padding, groups) "
    "+ channelwise(b)",
    meaning="correlates the gradient with the kernel for the input, and with the input for the "
    "kernel; the bias gets the gradient summed over batch and positions",
    apart=_apart,
    apart_for={"w": _kernel_apart},
)
def convolution(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    in_parts: bool = False,
) -> Array:
    groups = _groups(x, groups)
    walk = Geometry.over(
        w.ndim - 2,
        stride=stride,
        padding=padding,
        dilation=dilation,
        transposed=transposed,
        output_padding=output_padding,
        groups=groups,
    )
    if not x.shape[1]:
        # Torch makes no channels of none, whatever the bias says.
        return np.zeros_like(x, shape=(x.shape[0], 0, *walk.sizes(x, w.shape[2:])))
    if transposed:
        spread = walk.spread_in_parts if in_parts else walk.spread
        y = spread(x, w, walk.transposed_sizes(x, w))
    else:
        y = walk.correlate(x, w)
    if b is None:
        return y
    # A stored part holds the products of all channels already.
    channels = 1 if transposed and in_parts else x.shape[1] // groups
    b = np.reshape(b, (1, -1, *(1,) * (x.ndim - 2)))
    return continue_from(y, b, channels * math.prod(w.shape[2:]))


def _groups(x: Shaped, given: int) -> int:
    """Return the number of groups; of some channels that are groups, there are as many."""
    return min(given, x.shape[1])


_PARAMETERS = "stride, padding, dilation, transposed, output_padding, groups"


@convolution.vjp("x", f"conv_input(g, x, w, {_PARAMETERS})")
def _(g: Array, x: Shaped, w: Array, *, in_parts: bool, groups: int, **parameters: Sizes) -> Array:
    walk = Geometry.over(w.ndim - 2, groups=_groups(x, groups), **parameters)
    if walk.transposed:
        # What an output padding of a stride or more adds at the end is of no element.
        met = (slice(n) for n in x.shape[2:])
        return walk.correlate(g, w)[(*_ALL, *met)]
    return (walk.spread_in_parts if in_parts else walk.spread)(g, w, x.shape[2:])


@convolution.vjp("w", f"conv_weight(g, x, w, {_PARAMETERS})")
def _(g: Array, x: Array, w: Shaped, *, in_parts: bool, groups: int, **parameters: Sizes) -> Array:
    walk = Geometry.over(w.ndim - 2, groups=_groups(x, groups), **parameters)
    given, met = (x, g) if walk.transposed else (g, x)
    return (walk.weigh_in_parts if in_parts else walk.weigh)(given, met, w.shape[2:])


@convolution.vjp("b", "sum_positions(g)")
def _(g: Array, *, in_parts: bool) -> Array:
    if not in_parts:
        return np.sum(g, axis=(0, *range(2, g.ndim)))
    return _sum_of_images(np.sum(g, axis=tuple(range(2, g.ndim))))
