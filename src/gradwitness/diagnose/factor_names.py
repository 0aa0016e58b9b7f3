"""What a constant factor means: which mistake multiplies a gradient by it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WRONG_SIGN = "wrong sign"
MISSING_TWO = "missing factor 2"
EXTRA_TWO = "extra factor 2"
MEAN_SUM = "mean against sum"
LOSS_SCALE = "loss scale"
ACCUMULATED = "gradient accumulated"
WORLD_SIZE = "world size or accumulation steps"
ROOT = "scaled by a square root"
UPDATE = "update instead of gradient"
LEARNING_RATE = "learning rate"
FACTOR = "constant factor"

_SMALL = 16  # the largest number of passes or processes that is worth a name without evidence
_LARGE = 2**14  # the largest count that is worth a name if all gradients have it
_NEAR = 0.01  # relative, within which a value is looked at
_DECIMALS = tuple(digit * 10.0**-power for power in range(1, 6) for digit in (1, 2, 3, 5, 9))


@dataclass(frozen=True)
class Meaning:
    """A value that a factor may have exactly, and why.

    Attributes
    ----------
    value : float
    cause : str
    text : str
        What multiplies by it, as a sentence after the figures.
    tried : int
        Its place among those that were tried.
    """

    value: float
    cause: str
    text: str
    tried: int

    @property
    def reveals(self) -> bool:
        """Whether the value is just the one that fits, and no mistake's own."""
        return self.cause == FACTOR


def meanings(
    factor: float,
    counts: Mapping[float, str],
    sizes: tuple[int, ...],
    *,
    everywhere: bool,
    matches: Callable[[float], bool],
) -> list[Meaning]:
    """Name a factor.

    Parameters
    ----------
    factor : float
        As fitted.
    counts : mapping of float to str
        Numbers known from the tape.
    sizes : tuple of int
        Axis lengths, for square roots.
    everywhere : bool
        Whether all gradients have it. A loss or an optimizer acts on all.
    matches : callable
        Whether a value is the factor within error.

    Returns
    -------
    list of Meaning
        The most plausible first; the same value may have several.
    """
    found: list[Meaning] = []
    candidates = list(enumerate(_candidates(counts, sizes, everywhere), 1))
    if everywhere:
        # Only those near the factor are built, yet all were tried.
        candidates += [(_LARGE, candidate) for candidate in _large_counts(factor)]
    for tried, (value, cause, text) in candidates:
        near = abs(value - factor) <= _NEAR * abs(factor)
        if near and all(m.cause != cause for m in found) and matches(value):
            found.append(Meaning(value, cause, text, tried))
    return found


def _candidates(
    counts: Mapping[float, str], sizes: tuple[int, ...], everywhere: bool
) -> Iterator[tuple[float, str, str]]:
    yield from _twos(everywhere)
    for n, what in counts.items():
        yield n, MEAN_SUM, f"There are {n:.6g} {what}: summed where the mean belongs."
        yield 1 / n, MEAN_SUM, f"There are {n:.6g} {what}: averaged where the sum belongs."
    if everywhere:
        yield from _loss_scales(counts)
    yield from _small_counts(everywhere)
    yield from _roots(sizes)
    if everywhere:
        yield from _rates()
    for (n, what), (m, other) in itertools.permutations(counts.items(), 2):
        text = f"{n:.6g} over {m:.6g}: divided by the {m:.6g} {other}, not by the {n:.6g} {what}."
        yield n / m, MEAN_SUM, text
    yield from _fractions()
    for n, what in counts.items():
        for value in (2 * n, 2 / n, n / 2, 1 / (2 * n), n * n, 1 / (n * n)):
            yield value, MEAN_SUM, f"{value:.6g}, made of the {n:.6g} {what}."


def _twos(everywhere: bool) -> Iterator[tuple[float, str, str]]:
    yield -1, WRONG_SIGN, "Somewhere a minus is missing, or one too many."
    yield 0.5, MISSING_TWO, "The derivative of a square is 2 x; the 2 is not there."
    if everywhere:
        yield 2, ACCUMULATED, _passes(2)
    yield 2, EXTRA_TWO, "A 2 too many, as of a square whose loss already has a 1/2."
    yield -2, WRONG_SIGN, "The sign is wrong, and a 2 too many."
    yield -0.5, WRONG_SIGN, "The sign is wrong, and a factor 2 is missing."


def _loss_scales(counts: Mapping[float, str]) -> Iterator[tuple[float, str, str]]:
    for k in range(5, 25):
        if 2**k not in counts:
            yield 2**k, LOSS_SCALE, f"2^{k}: the loss scale of mixed precision was never taken out."
            yield 2.0**-k, LOSS_SCALE, f"2^-{k}: unscaled by a loss scale that was not applied."


def _small_counts(everywhere: bool) -> Iterator[tuple[float, str, str]]:
    for k in range(2, _SMALL + 1):
        if everywhere:
            yield k, ACCUMULATED, _passes(k)
        yield k, MEAN_SUM, f"Summed over {k} (samples, tokens, outputs) where the mean belongs."
        yield 1 / k, MEAN_SUM, f"Averaged over {k} (samples, tokens, outputs): the sum belongs."
        yield 1 / k, WORLD_SIZE, f"Divided by {k} processes or accumulation steps once too often."


def _large_counts(factor: float) -> Iterator[tuple[float, str, str]]:
    for k in range(_SMALL + 1, _LARGE):
        if abs(k / factor - 1) < _NEAR or abs(k * factor - 1) < _NEAR:
            yield k, MEAN_SUM, f"Summed over {k} (samples, tokens, outputs): the mean belongs."
            yield 1 / k, MEAN_SUM, f"Averaged over {k} (samples, tokens, outputs)."


def _roots(sizes: tuple[int, ...]) -> Iterator[tuple[float, str, str]]:
    for n in sorted(set(sizes) - {0, 1}):
        yield math.sqrt(n), ROOT, f"The square root of {n}, an axis length here."
        yield 1 / math.sqrt(n), ROOT, f"One over the square root of {n}, an axis length here."


def _rates() -> Iterator[tuple[float, str, str]]:
    for value in _DECIMALS:
        yield -value, UPDATE, f"-{value:.6g} times the gradient: a step at this learning rate."
        yield value, LEARNING_RATE, f"Already multiplied by {value:.6g}, as a learning rate is."


def _fractions() -> Iterator[tuple[float, str, str]]:
    for p in range(1, 10):
        for q in range(1, 10):
            if p != q and math.gcd(p, q) == 1:
                yield p / q, FACTOR, f"The fraction {p}/{q}." if q > 1 else f"The number {p}."
                yield -p / q, FACTOR, f"The fraction -{p}/{q}." if q > 1 else f"The number -{p}."


def _passes(k: int) -> str:
    return f"The sum of {k} backward passes over the same data: .grad was not cleared between."
