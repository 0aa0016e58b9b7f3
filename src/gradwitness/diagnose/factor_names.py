"""Name the mistakes that multiply a gradient by a given factor."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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

_SMALL = 16  # the largest number of passes or processes to name without evidence
_LARGE = 2**14  # the largest count to name if all gradients have the factor
_NEAR = 0.01  # relative distance within which a value is considered
_DECIMALS = tuple(digit * 10.0**-power for power in range(1, 6) for digit in (1, 2, 3, 5, 9))


@dataclass(frozen=True)
class Number:
    """A number that a function uses: as a factor (power 1), as a divisor (-1), or otherwise (0)."""

    name: str
    value: float
    power: int = 0


@dataclass(frozen=True)
class Meaning:
    """An exact value of a factor, and the mistake behind it."""

    value: float
    cause: str
    text: str  # a sentence on the mistake, to follow the figures
    tried: int  # how many values had been tried, including this one

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
    alone: bool = False,
    averages: bool = True,
    squares: bool = True,
) -> list[Meaning]:
    """Name the mistakes behind a fitted factor, the most plausible first; a value may have several.

    ``counts`` are those on the tape, with their units; ``sizes`` are lengths of axes, for square
    roots. ``everywhere``: all gradients have the factor, as by a loss or an optimizer. ``matches``:
    whether a value fits within error. ``alone``: of a single function, all of whose lengths count.
    ``averages``: whether the forward may divide by a count; ``squares``: whether it takes a square.
    """
    names: list[Meaning] = []
    twos = _twos(everywhere, alone=alone, squares=squares)
    others = _candidates(counts, sizes, everywhere, alone, averages)
    candidates = list(enumerate(itertools.chain(twos, others), 1))
    if everywhere:
        # Only those near the factor are generated, but all count as tried.
        candidates += [(_LARGE, candidate) for candidate in _large_counts(factor)]
    for tried, (value, cause, text) in candidates:
        near = abs(value - factor) <= _NEAR * abs(factor)
        if near and all(m.cause != cause for m in names) and matches(value):
            names.append(Meaning(value, cause, text, tried))
    return names


def by_numbers(
    factor: float, numbers: Iterable[Number], matches: Callable[[float], bool]
) -> list[Meaning]:
    """Name a factor by a number of the function, or an argument of it, that is not 0 or 1."""
    found = []
    for tried, number in enumerate(numbers, 1):
        for power in (-1, 1):
            value = number.value**power
            near = abs(value - factor) <= _NEAR * abs(factor)
            if abs(number.value) != 1 and near and matches(value):
                what = "missing" if abs(value) < 1 else "extra"
                how = {number.power: ", there twice", -number.power: ", left out"}.get(power, "")
                text = f"That is {number.name} = {number.value:.7g}{how}."
                cause = f"{what} factor {max(value, 1 / value, key=abs):.6g}"
                found.append(Meaning(value, cause, text, tried))
    return found


def _candidates(
    counts: Mapping[float, str],
    sizes: tuple[int, ...],
    everywhere: bool,
    alone: bool,
    averages: bool,
) -> Iterator[tuple[float, str, str]]:
    for n, unit in counts.items():
        if averages:
            yield n, MEAN_SUM, f"Summed over the {n:.6g} {unit}; it should be averaged."
        yield 1 / n, MEAN_SUM, f"Averaged over the {n:.6g} {unit}; it should be summed."
    if everywhere:
        yield from _loss_scales(counts)
    # Of a function, all that may have been averaged over is counted.
    divisors = counts if averages else {}
    yield from _of_variances(divisors) if alone else _small_counts(everywhere, counted=bool(counts))
    yield from _roots(sizes)
    if everywhere:
        yield from _rates()
    for (n, unit), (m, other_unit) in itertools.permutations(divisors.items(), 2):
        text = f"Divided by the {m:.6g} {other_unit} instead of the {n:.6g} {unit}."
        yield n / m, MEAN_SUM, text
    yield from _fractions()
    for n, unit in divisors.items():
        for value in (2 * n, 2 / n, n / 2, 1 / (2 * n), n * n, 1 / (n * n)):
            yield value, MEAN_SUM, f"{value:.6g}, made up of the {n:.6g} {unit}."


def _twos(everywhere: bool, *, alone: bool, squares: bool) -> Iterator[tuple[float, str, str]]:
    yield -1, WRONG_SIGN, "A minus sign is missing, or there is one too many."
    of_square = "The derivative of x^2 is 2 x; the 2 is missing."
    yield 0.5, MISSING_TWO, of_square if squares else "A factor 2 is missing."
    if everywhere:
        yield 2, ACCUMULATED, _passes(2)
    of_loss = "" if alone else ", as when the loss already has a 1/2"
    yield 2, EXTRA_TWO, f"There is an extra 2{of_loss}."
    yield -2, WRONG_SIGN, "The sign is wrong, and there is an extra 2."
    yield -0.5, WRONG_SIGN, "The sign is wrong, and a factor 2 is missing."


def _loss_scales(counts: Mapping[float, str]) -> Iterator[tuple[float, str, str]]:
    for k in range(5, 25):
        if 2**k not in counts:
            yield 2**k, LOSS_SCALE, f"2^{k}: the loss scale of mixed precision was never removed."
            yield 2.0**-k, LOSS_SCALE, f"2^-{k}: divided by a loss scale that was not applied."


def _small_counts(everywhere: bool, *, counted: bool) -> Iterator[tuple[float, str, str]]:
    for k in range(2, _SMALL + 1):
        if everywhere:
            yield k, ACCUMULATED, _passes(k)
        # What is no count of the tape is hardly what was averaged over.
        readings = [*_mean_or_sum(k), (1 / k, WORLD_SIZE, _divided(k))]
        yield from reversed(readings) if counted else readings


def _of_variances(counts: Mapping[float, str]) -> Iterator[tuple[float, str, str]]:
    for n, unit in counts.items():
        if n > 2:
            less = f"{n - 1:.6g}, one less than the {n:.6g} {unit}, as of a sample's variance"
            yield n - 1, MEAN_SUM, f"The divisor {less}, is left out."
            yield 1 / (n - 1), MEAN_SUM, f"The divisor {less}, is there twice."
            yield (n - 1) / n, MEAN_SUM, f"Divided by {n:.6g} and not by {less}."
            yield n / (n - 1), MEAN_SUM, f"Divided by {less}, and not by {n:.6g}."


def _divided(k: int) -> str:
    return (
        f"Divided by {k} processes or accumulation steps once too often, or by {k} times as many "
        "steps as ran before the update."
    )


def _mean_or_sum(k: int) -> Iterator[tuple[float, str, str]]:
    yield k, MEAN_SUM, f"Summed over {k} samples, tokens or outputs; it should be averaged."
    yield 1 / k, MEAN_SUM, f"Averaged over {k} samples, tokens or outputs; it should be summed."


def _large_counts(factor: float) -> Iterator[tuple[float, str, str]]:
    for k in range(_SMALL + 1, _LARGE):
        if abs(k / factor - 1) < _NEAR or abs(k * factor - 1) < _NEAR:
            yield from _mean_or_sum(k)


def _roots(sizes: tuple[int, ...]) -> Iterator[tuple[float, str, str]]:
    for n in sorted(set(sizes) - {0, 1}):
        yield math.sqrt(n), ROOT, f"The square root of {n}, the length of an axis."
        yield 1 / math.sqrt(n), ROOT, f"One over the square root of {n}, the length of an axis."


def _rates() -> Iterator[tuple[float, str, str]]:
    for value in _DECIMALS:
        yield (
            -value,
            UPDATE,
            f"This is the update for a learning rate of {value:.6g}, not the gradient.",
        )
        yield value, LEARNING_RATE, f"It was already multiplied by a learning rate of {value:.6g}."


def _fractions() -> Iterator[tuple[float, str, str]]:
    for p in range(1, 10):
        for q in range(1, 10):
            if p != q and math.gcd(p, q) == 1:
                yield p / q, FACTOR, f"The fraction {p}/{q}." if q > 1 else f"The number {p}."
                yield -p / q, FACTOR, f"The fraction -{p}/{q}." if q > 1 else f"The number -{p}."


def _passes(k: int) -> str:
    return f"The sum of {k} backward passes over the same data: .grad was not cleared in between."
