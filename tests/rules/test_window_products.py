"""Convolutions of plain numbers are what the definition says, and their gradients its adjoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.rules.layers import window_products
from gradwitness.rules.layers.convolution import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

# Shapes of input and kernel; and along each axis stride, padding, dilation; and groups.
WAYS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[Any, ...]]] = [
    ((3, 4, 9), (6, 4, 3), ((1,), (1,), (1,), 1)),
    ((3, 4, 17), (6, 4, 3), ((2,), (4,), (4,), 1)),
    ((3, 4, 9, 8), (6, 4, 3, 2), ((1, 1), (1, 1), (1, 1), 1)),
    ((3, 4, 9, 8), (6, 2, 3, 2), ((2, 3), (1, 0), (1, 1), 2)),
    ((3, 4, 9, 8), (6, 4, 1, 1), ((1, 1), (0, 0), (1, 1), 1)),
    ((3, 4, 9, 8), (6, 4, 1, 1), ((2, 2), (0, 1), (1, 1), 1)),
    ((3, 4, 9, 8), (6, 4, 1, 3), ((1, 1), (0, 1), (1, 1), 1)),
    ((2, 6, 9, 8), (6, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 6)),
    ((2, 3, 9, 8), (6, 1, 3, 3), ((1, 2), (1, 2), (2, 1), 3)),
    ((2, 2, 3, 2), (3, 2, 5, 4), ((1, 1), (4, 3), (1, 1), 1)),
    ((2, 2, 4, 5, 6), (3, 2, 2, 3, 2), ((1, 2, 1), (1, 1, 0), (1, 1, 2), 1)),
    # Many channels to few: products are added up in their windows.
    ((3, 16, 9, 8), (2, 16, 3, 2), ((1, 1), (1, 1), (1, 1), 1)),
    ((3, 24, 9, 8), (2, 12, 3, 3), ((1, 1), (2, 5), (2, 1), 2)),
    ((2, 64, 12), (1, 64, 3), ((2,), (2,), (2,), 1)),
]


def defined(x: Numbers, w: Numbers, walk: Geometry) -> Numbers:
    """Multiply each window with the kernel, one after the other."""
    groups, axes = walk.groups, x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in walk.padding)])
    reach = [d * (k - 1) + 1 for d, k in zip(walk.dilation, w.shape[2:], strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, walk.stride, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    for place in np.ndindex(*sizes):
        window = tuple(
            slice(s * i, s * i + r, d)
            for i, s, r, d in zip(place, walk.stride, reach, walk.dilation, strict=True)
        )
        for out in range(w.shape[0]):
            first = out // (w.shape[0] // groups) * w.shape[1]
            seen = padded[(slice(None), slice(first, first + w.shape[1]), *window)]
            y[(slice(None), out, *place)] = np.sum(seen * w[out], axis=(*range(1, axes + 2),))
    return y


@pytest.mark.parametrize("at_once", [1, 100, 2**17])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_convolution_is_its_definition(
    way: tuple[Any, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_products, "_AT_ONCE", at_once)
    of_x, of_w, (stride, padding, dilation, groups) = way
    walk = Geometry(stride, padding, dilation, False, (0,) * len(stride), groups)
    random = np.random.default_rng(0)
    x, w = random.normal(size=of_x), random.normal(size=of_w)
    y = defined(x, w, walk)
    np.testing.assert_allclose(walk.correlate(x, w), y, rtol=0, atol=1e-12)
    # It is linear in x and in w: <J^T g, d> = <g, J d>, for every number of d by itself.
    g = random.normal(size=y.shape)
    linear: tuple[tuple[Numbers, Callable[[Numbers], Numbers]], ...] = (
        (walk.spread(g, w, x.shape[2:]), lambda d: defined(d, w, walk)),
        (walk.weigh(g, x, w.shape[2:]), lambda d: defined(x, d, walk)),
    )
    for made, given in linear:
        for place in random.permutation(made.size)[:8]:
            d = np.zeros(made.shape)
            d.flat[place] = 1
            assert made.flat[place] == pytest.approx(np.sum(g * given(d)), abs=1e-11)
