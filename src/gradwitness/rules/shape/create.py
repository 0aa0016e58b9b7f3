"""Tensors made from numbers: no operand, no gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.made_like import full_like
from gradwitness.rules.registry import Array, rule

# Dtype, layout, device, pin_memory and memory_format say where a tensor lives, not what it holds;
# the engine leaves such parameters out.


# The alias has no memory until one is needed.
rule("aten.zeros", "y = zeros(size)", aliases=("aten._efficientzerotensor",))(
    lambda *, size: np.zeros(size)
)
rule("aten.zeros_like", "y = zeros(shape(x))")(lambda x: np.zeros_like(x))
rule("aten.new_zeros", "y = zeros(size)")(lambda x, *, size: full_like(x, size, 0))

rule("aten.ones", "y = ones(size)")(lambda *, size: np.ones(size))
rule("aten.ones_like", "y = ones(shape(x))")(lambda x: np.ones_like(x))
rule("aten.new_ones", "y = ones(size)")(lambda x, *, size: full_like(x, size, 1))

rule("aten.full", "y = fill_value * ones(size)")(
    lambda *, size, fill_value: fill_value * np.ones(size)
)
rule("aten.full_like", "y = fill_value * ones(shape(x))")(
    lambda x, *, fill_value: fill_value * np.ones_like(x)
)
rule("aten.new_full", "y = fill_value * ones(size)")(
    lambda x, *, size, fill_value: fill_value * full_like(x, size, 1)
)
rule("aten.scalar_tensor", "y = s")(lambda *, s: s * np.ones(()))

rule("aten.eye", "y = identity(n, m)")(lambda *, n, m=None: np.eye(n, m))
rule("aten.tril_indices", "y = lower_places(row, col, offset)")(
    lambda *, row, col, offset=0: np.stack(np.tril_indices(row, offset, col))
)
rule("aten.triu_indices", "y = upper_places(row, col, offset)")(
    lambda *, row, col, offset=0: np.stack(np.triu_indices(row, offset, col))
)


# Evenly spaced numbers. Kernels round the first number of each block that a vector unit makes, and
# go on from there: one rounding more than the formula has. The ends are used in double precision.

_BLOCK = 8


def plain(number: Any) -> Any:
    """Return a number that torch keeps in double precision as it is."""
    return getattr(number, "value", number)


def _ramp(start: Any, step: Any, places: Array) -> Array:
    within = places % _BLOCK
    return start + step * (places - within) + step * within


@rule(
    "aten.arange",
    "y = ramp(start, end, step)",
    composite=True,
    doubles=("start", "end", "step"),
)
def arange(*, start: Any = None, end: Any, step: Any = None) -> Array:
    start = np.zeros_like(end) if start is None else start
    step = np.ones_like(end) if step is None else step
    length = math.ceil((plain(end) - plain(start)) / plain(step))
    return _ramp(start, step, np.arange(length))


def _array_among(*numbers: Any) -> Any:
    """Return the first that is an array, if any: it says where its like are made."""
    return next((x for x in numbers if hasattr(x, "__array_function__")), None)


@rule(
    "aten.linspace",
    "y = spaced(start, end, steps)",
    composite=True,
    doubles=("start", "end"),
)
def linspace(*, start: Any, end: Any, steps: int) -> Array:
    return spaced(start, end, steps, _array_among(start, end))


def spaced(start: Any, end: Any, steps: int, like: Any = None) -> Array:
    """Return numbers from start on in the first half, and back from the end in the second."""
    places = np.arange(steps, like=like)
    if steps < 2:
        return start + 0.0 * places
    step = (end - start) / (steps - 1)
    back = end - step * (steps - 1 - places)
    return np.where(places < steps // 2, _ramp(start, step, places), back)


@rule(
    "aten.logspace",
    "y = base ** spaced(start, end, steps)",
    composite=True,
    doubles=("start", "end"),
)
def logspace(*, start: Any, end: Any, steps: int, base: Any = 10.0) -> Array:
    return np.power(base, spaced(start, end, steps, _array_among(start, end)))


@rule("aten.set", "y = source")
def set_(x: Array, source: Array) -> Array:  # noqa: ARG001 (x is overwritten)
    return source
