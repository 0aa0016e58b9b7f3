"""What a sum, or a sum of products, adds to the bounds of its terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import SINGLE_TINY

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.bounded.array import Error, Growth, Growths, Plain
    from gradwitness.engine.floats import Arithmetic


def reduction(
    arithmetic: Arithmetic,
    magnitude: Plain,
    value: Plain,
    roundings: int,
    products: int | None = None,
    squares: Callable[[], Plain] | None = None,
) -> Growths | None:
    """Return what a reduction adds: growth times the sum of magnitudes, and one store.

    ``products`` counts the numbers that may underflow on the way: by default one per rounding.
    ``squares`` returns the sum of the terms' squares, for the probable bound of a second look.
    """
    if roundings <= 0:
        return None

    # What is accumulated in float32 underflows where float32 does.
    underflows = (products or roundings) * min(arithmetic.tiny, SINGLE_TINY)

    def at(growth: float, unsorted: Plain | None = None) -> Growth:
        def grow(carried: Error) -> Error:
            past: Any = 0.0 if carried is None else carried
            size = magnitude if carried is None else magnitude + carried
            inner = size * growth
            if unsorted is not None:
                inner = np.minimum(inner, unsorted + past * growth)
            # Terms that are all zero add up to an exact zero.
            inner += underflows if np.min(size, initial=np.inf) > 0 else underflows * (size > 0)
            if not arithmetic.store:
                return np.asarray(inner)
            reach = np.abs(value) + past + inner
            small = reach < arithmetic.tiny
            return np.asarray(inner + np.where(small, reach, arithmetic.store * reach))

        return grow

    worst, probable = arithmetic.sum_growth(roundings), arithmetic.probable_growth(roundings)
    probable = min(worst, probable)
    rigorous = at(worst)
    if squares is not None and arithmetic.stretches:
        return rigorous, at(probable, in_no_order(arithmetic, squares(), value, roundings))
    return rigorous, rigorous if probable == worst else at(probable)


def in_no_order(arithmetic: Arithmetic, squares: Plain, value: Plain, roundings: Any) -> Plain:
    """Return the probable error of sums whose terms come in no particular order.

    Of n terms that add up to S, the square of the sum of the first k is on average at most
    ``k sum x^2 / n + (k S / n)^2``. Random roundings of such partial sums are together off by
    ``lambda u sqrt(n (sum x^2 + S^2))``, with a factor to spare of 6 under the root for the one
    square (k (n - k) / n^2 is what counts) and of 3 for the other. Higham and Mary 2019, theorem
    2.4, with the partial sums as they are; N. J. Higham and T. Mary, *Sharper probabilistic
    backward error analysis for basic linear algebra kernels with random data*, SIAM J. Sci. Comput.
    42(5), 2020.
    """
    random = arithmetic.confidence * arithmetic.accumulate
    length = np.sqrt(roundings * (squares + np.square(np.abs(value))))
    return np.asarray(random * length * (1 + random * np.sqrt(roundings)))
