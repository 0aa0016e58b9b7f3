"""How a sample is written: an ATen operation, how its operands are drawn, its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

aten = torch.ops.aten

# The axis whose length a test chooses: what is summed over, where the operation sums.
N = -1


@dataclass(frozen=True)
class Draw:
    """An operand to be drawn.

    Normal numbers if ``gap`` is 0. Otherwise their magnitudes start at ``gap``, which keeps central
    differences on one side of a kink or a pole at 0; ``positive`` leaves the signs out. A
    ``constant`` requires no gradient.
    """

    shape: tuple[int, ...]
    gap: float = 0.0
    positive: bool = False
    constant: bool = False

    def within(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the nearest operand of those that are meant: any are, if nothing else is said."""
        return x

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        """Return numbers of 24 bits: a step of 2^-8 added to them in float64 rounds nothing."""
        numbers = np.asarray(rng.standard_normal(self.sizes(length)))
        if self.gap:
            sign = 1 if self.positive else np.where(numbers < 0, -1, 1)
            numbers = sign * (self.gap + np.abs(numbers))
        return numbers.astype(np.float32).astype(np.float64)

    def sizes(self, length: int) -> tuple[int, ...]:
        """Return the shape, with the length that a test chose."""
        return tuple(length if n == N else n for n in self.shape)


@dataclass(frozen=True)
class Planar(Draw):
    """Complex numbers: both parts are drawn, each with its gap."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        parts = (super(Planar, self).make(rng, length) for _ in range(2))
        return np.asarray(next(parts) + 1j * next(parts))


@dataclass(frozen=True)
class Apart(Draw):
    """Numbers that lie 1/2 apart, half of them negative, in random order; no ties, nor nearly.

    Those of another shift, a multiple of 1/8, do not tie with them either.
    """

    shift: float = 0.0

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        count = int(np.prod(self.sizes(length)))
        numbers = (rng.permutation(count) - count // 2) / 2 + 0.125 + self.shift
        return np.asarray(numbers, dtype=np.float64).reshape(self.sizes(length))


@dataclass(frozen=True)
class Index(Draw):
    """Whole numbers from ``low`` to below ``high``, which is length N where it is N."""

    high: int = N
    low: int = 0
    distinct: bool = False

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        high = length if self.high == N else self.high
        if self.distinct:  # along the last axis
            rows = [rng.permutation(high)[: self.shape[-1]] for _ in np.ndindex(self.shape[:-1])]
            return np.array(rows, dtype=np.int64).reshape(self.shape)
        return np.asarray(rng.integers(self.low, high, self.sizes(length)), dtype=np.int64)


@dataclass(frozen=True)
class Mask(Draw):
    """Truth values, of which the first two are different."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        mask = np.asarray(rng.random(self.sizes(length)) < 0.5)
        mask.flat[:2] = [True, False][: mask.size]
        return mask


@dataclass(frozen=True)
class Matrices(Draw):
    """Matrices that are far from singular: their diagonals stand out. All numbers times a size."""

    size: float = 1.0

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        *_, m, n = self.shape
        numbers = self.size * (rng.uniform(-0.5, 0.5, self.shape) + 2 * np.eye(m, n))
        return np.asarray(numbers.astype(np.float32), dtype=np.float64)


@dataclass(frozen=True)
class Pivots(Index):
    """Of each row the number, from 1, of a row that is not above it: rows to exchange in turn."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        n = self.shape[-1]
        return np.asarray(rng.integers(np.arange(n) + 1, n + 1, self.shape), dtype=np.int32)


@dataclass(frozen=True)
class Exchanged(Matrices):
    """Of these, with the rows in another order, so that elimination exchanges some."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        return np.asarray(np.roll(super().make(rng, length), 1, axis=-2))


@dataclass(frozen=True)
class Factors(Matrices):
    """Of these, the lower triangles: factors of which only those count, or the upper ones."""

    upper: bool = False

    def within(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.triu(x) if self.upper else np.tril(x)

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        return self.within(super().make(rng, length))


@dataclass(frozen=True)
class Stretched(Draw):
    """Matrices of any shape, with singular values far from each other and from 0."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        *_, m, n = self.shape
        numbers = rng.uniform(-0.25, 0.25, self.shape) + np.eye(m, n) * (1 + 1.5 * np.arange(n))
        return numbers.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Symmetric(Draw):
    """Symmetric matrices, positive definite ones; a gradient is that within the symmetric ones.

    Twice the identity, or other numbers on the diagonal, and off it at most 1/4: each eigenvalue
    lies within Gershgorin's circle around one of those.
    """

    centres: tuple[float, ...] = ()

    def within(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((x + np.swapaxes(x, -1, -2)) / 2)

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        n = self.shape[-1]
        half = np.tril(rng.uniform(-0.25, 0.25, self.shape), -1)
        centres = np.array(self.centres or (2.0,) * n)
        numbers = half + np.swapaxes(half, -1, -2) + np.eye(n) * centres
        return np.asarray(numbers.astype(np.float32), dtype=np.float64)


@dataclass(frozen=True)
class Made(Draw):
    """Numbers that follow from those of the other arguments, as a function says, and with them.

    So it is with what a forward pass hands to its backward: torch takes it for no operand, but
    differentiates what it was made of.
    """

    of: Callable[..., NDArray[Any]] = np.array


def made(of: Callable[..., NDArray[Any]], *, constant: bool = True) -> Draw:
    """Return an operand that a function makes of the arguments before and after it."""
    return Made((), constant=constant, of=of)


def normal(*shape: int) -> Draw:
    return Draw(shape)


def away(*shape: int) -> Draw:
    return Draw(shape, gap=0.5)


def planar(*shape: int, gap: float = 0.0) -> Draw:
    return Planar(shape, gap=gap)


def positive(*shape: int) -> Draw:
    return Draw(shape, gap=0.5, positive=True)


def apart(*shape: int, shift: float = 0.0) -> Draw:
    return Apart(shape, shift=shift)


def index(*shape: int, high: int, low: int = 0, distinct: bool = False) -> Draw:
    return Index(shape, high=high, low=low, distinct=distinct)


def mask(*shape: int) -> Draw:
    return Mask(shape)


@dataclass(frozen=True, eq=False)
class Sample:
    """One line of the table.

    An argument may be a list that has operands to be drawn in it.

    ``exact`` names the results (``y``, and ``dx`` for operand x) that nothing rounds: their bound
    is exactly 0. ``unused`` names those whose bound counts roundings that torch's kernel need not
    make for these very parameters, so that no error is ever seen. Of several results ``y[0]``,
    ``y[1]``, or of gradients of a list ``dtensors[0]``, the name before the bracket means all.
    ``constant`` names the results that torch takes for constants in a backward pass.
    ``double`` stands for an operation in float64, which its kernel does not take.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    exact: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()
    double: Any = None

    @property
    def name(self) -> str:
        """The id in test reports: ``add.Tensor broadcast``."""
        name = str(self.op).removeprefix("aten.").removesuffix(".default")
        return f"{name} {self.note}".rstrip()

    @property
    def sized(self) -> bool:
        """Whether an operand has the axis whose length a test chooses."""
        return any(N in draw.shape for draw in _draws(self.args))

    @property
    def planar(self) -> bool:
        """Whether an operand is complex."""
        return any(isinstance(draw, Planar) for draw in _draws(self.args))

    def is_exact(self, result: str) -> bool:
        """Whether nothing rounds a result."""
        return not self.exact.isdisjoint((result, result.partition("[")[0]))

    def shows_no_error(self, result: str) -> bool:
        """Whether torch is expected to make no rounding error at all in a result."""
        return not (self.exact | self.unused).isdisjoint((result, result.partition("[")[0]))


def _draws(item: Any) -> Iterator[Draw]:
    if isinstance(item, Draw):
        yield item
    elif isinstance(item, (list, tuple)):
        for each in item:
            yield from _draws(each)


def sample(
    op: Any,
    *args: Any,
    note: str = "",
    exact: str = "",
    unused: str = "",
    constant: str = "",
    double: Any = None,
    **kwargs: Any,
) -> Sample:
    results = (frozenset(names.split()) for names in (exact, unused, constant))
    exactly, without, fixed = results
    return Sample(op, args, kwargs, note, exactly, without, fixed, double)
