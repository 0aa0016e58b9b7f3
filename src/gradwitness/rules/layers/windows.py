"""Windows of the input's last axes: what each result of a pooling sees.

Each result belongs to a window of the input's last axes: the elements that it is the largest of,
or the mean. The elements of all windows are gathered along one axis; a mean is one sum over it, and
the backward one sum for each element, so that the bound covers every order of summation.
"""

from __future__ import annotations

import functools
import math
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import added_rows, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.rules.registry import Array

Sizes: TypeAlias = tuple[int, ...]
Numbers: TypeAlias = "int | Sizes"


@dataclass(frozen=True)
class Windows:
    """What each result sees: ``lines`` has, for each axis, a window's elements by result.

    A line is an array (elements of the window, results) of coordinates, of which those outside of
    ``sizes`` stand for no element.
    """

    lines: tuple[Array, ...]
    sizes: Sizes

    @property
    def seen(self) -> Array:
        """Where an element of a window is one of the input: (elements, *results)."""
        pairs = zip(self.lines, self.sizes, strict=True)
        return _crossed(np.logical_and, [(at >= 0) & (at < n) for at, n in pairs])

    @property
    def places(self) -> Array:
        """The number of each element in the input's plane, 0 where there is none."""
        strides = (math.prod(self.sizes[k + 1 :]) for k in range(len(self.sizes)))
        steps = [at * stride for at, stride in zip(self.lines, strides, strict=True)]
        return np.where(self.seen, _crossed(np.add, steps), 0)

    def gathered(self, x: Array, fill: float) -> Array:
        """Return the elements of all windows, (planes, elements, *results), with ``fill``."""
        seen = np.asarray(self.seen, like=x)
        return where(seen, np.take(self._planes(x), self.places, axis=1), fill)

    def total(self, x: Array) -> Array:
        """Return each window's sum, in the shape of the results."""
        return self._shaped(np.sum(self.gathered(x, 0), axis=1), x)

    def stored_total(self, x: Array) -> Array:
        """Return each window's sum as `total` does, of a kernel that stores every partial sum."""
        seen = self.seen
        items = np.take(self._planes(x), self.places, axis=1)
        results = np.reshape(np.arange(math.prod(seen.shape[1:])), seen.shape[1:])
        count, planes = results.size, np.arange(items.shape[0])
        where = np.broadcast_to(results, seen.shape) + count * np.reshape(
            planes, (-1, *(1,) * seen.ndim)
        )
        total = np.bincount(
            np.asarray(where[:, seen].ravel(), like=x),
            weights=items[:, seen].reshape(-1),
            minlength=count * len(planes),
        )
        return self._shaped(np.reshape(total, (len(planes), *seen.shape[1:])), x)

    def given_back(self, g: Array, x: Array) -> Array:
        """Add each result's gradient to all elements of its window."""
        seen = np.reshape(self.seen, (len(self.seen), -1))
        element, result = np.nonzero(seen)
        places = np.reshape(self.places, seen.shape)[element, result]
        of_results = np.swapaxes(np.reshape(g, (-1, seen.shape[1])), 0, 1)
        added = added_rows(of_results, result, places, math.prod(self.sizes))
        return np.reshape(np.swapaxes(added, 0, 1), x.shape)

    def largest(self, x: Array) -> tuple[Array, Array]:
        """Return each window's largest element and its place: the first, but of NaN the last."""
        seen, places = self.seen, self.places
        if not np.all(np.any(seen, axis=0)):
            raise NotImplementedError("a window that meets nothing but padding")
        seen, places = np.asarray(seen, like=x), np.asarray(places, like=x)
        items = self.gathered(x, -math.inf)
        best = np.max(items, axis=1, keepdims=True)
        first = np.argmax(seen & np.equal(items, best), axis=1)
        last = len(seen) - 1 - np.argmax(np.flip(np.isnan(items), 1), axis=1)
        element = np.where(np.any(np.isnan(items), axis=1), last, first)
        index = np.take_along_axis(places[None], element[:, None], axis=1)
        values = np.take_along_axis(items, element[:, None], axis=1)
        return self._shaped(values[:, 0], x), self._shaped(index[:, 0], x)

    def _planes(self, x: Array) -> Array:
        return np.reshape(x, (-1, math.prod(self.sizes)))

    def _shaped(self, results: Array, x: Array) -> Array:
        return np.reshape(results, (*x.shape[: x.ndim - len(self.sizes)], *results.shape[1:]))


def _crossed(join: Callable[[Array, Array], Array], lines: list[Array]) -> Array:
    """Join the lines of all axes, elements with elements and results with results."""
    crossed = lines[0]
    for line in lines[1:]:
        across = np.reshape(line, (1, len(line), *(1,) * (crossed.ndim - 1), line.shape[1]))
        joined = join(crossed[:, None, ..., None], across)
        crossed = np.reshape(joined, (-1, *joined.shape[2:]))
    return crossed


def divisor(like: Array, counts: Array) -> Any:
    """Return divisors as an array like another: a format may not hold a large one."""
    numbers = np.unique(counts)
    if numbers.size == 1:
        return int(numbers[0])
    out = np.zeros_like(like, shape=counts.shape)
    for number in numbers:
        out[counts == number] = int(number)
    return out


@dataclass(frozen=True)
class Walk:
    """How windows walk over the last two or three axes; the fields are the schema's."""

    kernel_size: Numbers
    stride: Numbers = ()
    padding: Numbers = 0
    dilation: Numbers = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def windows(self, x: Array) -> Windows:
        """Return what each result sees."""
        axes = self._axes(x)
        lines = tuple(_met(self._line(n, *how), n) for n, *how in axes)
        return Windows(lines, tuple(n for n, *_ in axes))

    def divided(self, sums: Array, x: Array) -> Array:
        """Divide what belongs to each window by the number of its elements, or as told."""
        if self.divisor_override is not None:
            return sums / self.divisor_override
        counts = []
        for n, k, s, p, d in self._axes(x):
            at = self._line(n, k, s, p, d)
            inside = at < n + p if self.count_include_pad else (at >= 0) & (at < n)
            counts.append(np.sum(inside, axis=0))
        return sums / divisor(sums, functools.reduce(np.multiply.outer, counts))

    def _axes(self, x: Array) -> list[tuple[int, int, int, int, int]]:
        """Return length, kernel, stride, padding and dilation along each axis that is pooled."""
        many = dimensions(self.kernel_size)
        named = (self.kernel_size, self.stride or self.kernel_size, self.padding, self.dilation)
        rest = (each_axis(numbers, many) for numbers in named)
        return list(zip(x.shape[-many:], *rest, strict=True))

    def _line(self, n: int, k: int, s: int, p: int, d: int) -> Array:
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if self.ceil_mode else room // s) + 1
        # A window that ceil_mode adds begins in the input, or in the padding before it.
        if self.ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        return d * np.arange(k)[:, None] + s * np.arange(count) - p


def _met(line: Array, n: int) -> Array:
    """Leave out of a line what is outside in every window: kernels may be larger than the input."""
    return line[np.any((line >= 0) & (line < n), axis=1)]


def planes_apart(x: Sizes, sizes: Numbers) -> str:
    """Return letters for the axes of a tensor that are not pooled, see `engine.tiling`."""
    return string.ascii_letters[: len(x) - dimensions(sizes)]


def dimensions(numbers: Numbers) -> int:
    """Return how many axes are pooled: three if there is a number for each, else two."""
    return 3 if not isinstance(numbers, int) and len(numbers) == 3 else 2


def each_axis(numbers: Numbers, many: int) -> Sizes:
    """Return a number for each axis, where one stands for all."""
    if isinstance(numbers, int):
        return (numbers,) * many
    return tuple(numbers) if len(numbers) == many else (numbers[0],) * many
