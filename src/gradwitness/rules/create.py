"""Tensors made from numbers: no operand, no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.registry import Array, rule

# Dtype, layout, device, pin_memory and memory_format say where a tensor lives, not what it holds;
# the engine leaves such parameters out.


@rule("aten.zeros", "y = zeros(size)")
def zeros(*, size: tuple[int, ...]) -> Array:
    return np.zeros(size)


@rule("aten.ones", "y = ones(size)")
def ones(*, size: tuple[int, ...]) -> Array:
    return np.ones(size)


@rule("aten.full", "y = fill_value * ones(size)")
def full(*, size: tuple[int, ...], fill_value: Any) -> Array:
    return fill_value * np.ones(size)


@rule("aten.zeros_like", "y = zeros(shape(x))")
def zeros_like(x: Array) -> Array:
    return np.zeros_like(x)


@rule("aten.ones_like", "y = ones(shape(x))")
def ones_like(x: Array) -> Array:
    return np.ones_like(x)


@rule("aten.new_zeros", "y = zeros(size)")
def new_zeros(x: Array, *, size: tuple[int, ...]) -> Array:
    return np.zeros_like(x, shape=size)


@rule("aten.full_like", "y = fill_value * ones(shape(x))")
def full_like(x: Array, *, fill_value: Any) -> Array:
    return fill_value * np.ones_like(x)


@rule("aten.scalar_tensor", "y = s")
def scalar_tensor(*, s: Any) -> Array:
    return s * np.ones(())
