"""Floating-point formats: unit roundoff, Higham's gamma_n, rounding to a format.

Sources: N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed. (SIAM 2002),
sections 2.1 (formats), 2.2 (the standard model) and 3.1 (gamma_n); N. J. Higham and T. Mary, *A new
approach to probabilistic rounding error analysis*, SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4.
"""

from __future__ import annotations

import cmath
import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_FORMATS: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# The formats of the two parts of a complex number.
_PARTS = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}

# Unit roundoff of the arithmetic that the witness itself runs in.
WITNESS_UNIT = 2.0**-53


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype that holds the format ``name`` bit for bit; complex32 takes twice."""
    return _FORMATS.get(name) or np.dtype("complex64" if name == "complex32" else name)


def is_float(name: str) -> bool:
    """Whether ``name`` is one of the floating-point formats that the witness judges."""
    return name in _FORMATS


def is_complex(name: str) -> bool:
    """Whether ``name`` is a format of complex numbers that the witness judges."""
    return name in _PARTS


def is_inexact(name: str) -> bool:
    """Whether ``name`` is a format that rounds: of real or complex numbers."""
    return name in _FORMATS or name in _PARTS


def part(name: str) -> str:
    """Return the format of a complex number's parts; of a real number's, its own."""
    return _PARTS.get(name, name)


def as_array(numbers: Any) -> Any:
    """Return numbers as an array; what brings its own functions (NEP 18) is one."""
    return numbers if hasattr(numbers, "__array_function__") else np.asarray(numbers)


def wide(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in the witness's own format: float64, or complex128."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


# Numbers converted at a time, so that intermediate results stay in the processor's cache.
_CHUNK = 2**14


def chunks(*arrays: NDArray[Any] | None) -> Iterator[tuple[NDArray[Any], ...]]:
    """Iterate over arrays of one shape in float64 and C order; None is left out.

    Complex arrays come in complex128.
    """
    present = [array for array in arrays if array is not None]
    yield from np.nditer(
        present,
        flags=["external_loop", "buffered"],
        order="C",
        op_dtypes=[np.complex128 if x.dtype.kind == "c" else np.float64 for x in present],
        casting="unsafe",
        buffersize=_CHUNK,
    )


@functools.cache
def limits(name: str) -> Any:
    """Return NumPy's description of a format: eps, max, smallest_normal, smallest_subnormal.

    For a complex format, that of its parts.
    """
    return ml_dtypes.finfo(_FORMATS[part(name)])  # type: ignore[no-untyped-call]


@functools.cache
def unit_roundoff(name: str) -> float:
    """Return u = eps/2, half the gap above 1: 2^-24 for float32, 2^-8 for bfloat16."""
    return float(limits(name).eps) / 2


# The formats by their unit roundoff; the 16-bit ones.
BY_ROUNDOFF = {unit_roundoff(name): name for name in _FORMATS}
SHORT = {unit_roundoff(name): name for name in ("float16", "bfloat16")}


@functools.cache
def first_infinite(unit: float) -> float:
    """Return from where on the format with about this unit roundoff rounds to infinity.

    That is half a step beyond its largest number; for float64 infinity.
    """
    own = min(BY_ROUNDOFF, key=lambda other: abs(other - unit))
    largest = float(limits(BY_ROUNDOFF[own]).max)
    return largest + own * 2.0 ** (math.frexp(largest)[1] - 1)


def round_to(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Round the witness's numbers to the nearest of a format, ties to even; overflow gives inf.

    Both parts of complex numbers are rounded.
    """
    if part(name) == "float64":
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype.kind == "c":
            rounded = (round_to(x, part(name)) for x in (values.real, values.imag))
            return np.stack([*rounded], axis=-1).view(np.complex128)[..., 0]
        return wide(values.astype(_FORMATS[part(name)]))


def ulps(error: NDArray[np.float64] | float, at: complex, name: str) -> float:
    """Return an error in units in the last place of the number ``at`` in a format.

    A complex number counts with its modulus.
    """
    smallest_normal = float(limits(name).smallest_normal)
    # Not log2, which rounds the numbers just below a power of two up to it.
    exponent = math.frexp(max(abs(at), smallest_normal))[1] - 1 if cmath.isfinite(at) else 0
    # Not by their product, which a program that flushes subnormal numbers may have made 0.
    return float(error) / 2.0**exponent / float(limits(name).eps)


def gamma(n: float, unit: float) -> float:
    """Return gamma_n = n u / (1 - n u), the growth of n roundings; inf from n u >= 1 on.

    Higham 2002, lemma 3.1: a product of n factors (1 + d_i)^(+-1) with every ``|d_i| <= u`` is
    1 + t with ``|t| <= gamma_n``.
    """
    return n * unit / (1 - n * unit) if n * unit < 1 else math.inf


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that a recorded step is assumed to have run in, by its unit roundoffs."""

    unit: float  # of one elementary operation
    # Inside a reduction: float32's for 16-bit formats, which torch sums in float32.
    accumulate: float
    store: float  # with which a reduction's result is stored; 0 if `accumulate` counts it
    final: float  # with which the whole step's result is stored; 0 if `unit` counts it
    # What one underflow can cost: the smallest normal number, to cover flushing to zero.
    tiny: float
    # Lambda of the probable tier. The bound fails with probability at most
    # 2 n exp(-lambda^2 (1 - u)^2 / 2) for a sum of n terms with random roundings.
    confidence: float = 6.0
    # Of a backward: the conditions that hold under which it is one kernel, see `Rule.vjp`.
    kernels: frozenset[str] = frozenset({"always"})
    # Where 16-bit numbers are added in turn: in how many stretches, to be rounded as they are. With
    # none, which is a bound whatever their number is. At such a second look the terms of a long sum
    # are taken to be in no particular order, see `bounded.array.reduction`.
    stretches: int = 0
    # Whether sums at places (embeddings, scatters) are float32's, too, and not stored each time.
    scatters_wide: bool = False

    @classmethod
    @functools.cache
    def stepwise(cls, name: str) -> Arithmetic:
        """Every elementary operation rounds to the format: a chain of kernels."""
        low = part(name) in ("float16", "bfloat16")
        own = unit_roundoff(name)
        return cls(
            unit=own + WITNESS_UNIT,
            accumulate=(unit_roundoff("float32") if low else own) + WITNESS_UNIT,
            store=own if low else 0.0,
            final=0.0,
            tiny=float(limits(name).smallest_normal),
        )

    @classmethod
    @functools.cache
    def fused(cls, name: str) -> Arithmetic:
        """One kernel: 16-bit formats are computed in float32 and rounded once, at the end."""
        return cls.stepwise(name).in_kernel

    @property
    def in_kernel(self) -> Arithmetic:
        """The arithmetic of one kernel, of that of a chain of kernels."""
        return replace(self, unit=self.accumulate, store=0.0, final=self.store or self.final)

    @classmethod
    @functools.cache
    def sequential(cls, name: str) -> Arithmetic:
        """Terms added one by one, each partial sum stored: accumulation of gradients."""
        base = cls.stepwise(name)
        return replace(base, accumulate=base.unit, store=0.0)

    @property
    def own_share(self) -> float:
        """What share of a bound the witness's own rounding may be; inf in its own format."""
        least = min(self.unit, self.accumulate)
        return WITNESS_UNIT / least if least > 2 * WITNESS_UNIT else math.inf

    @property
    def coarsest(self) -> float:
        """The largest unit roundoff that a step may have met."""
        return max(self.unit, self.accumulate, self.store, self.final)

    def worst_growth(self, n: float) -> float:
        """Relative growth of a reduction with n roundings in the worst case."""
        return gamma(n, self.accumulate)

    def probable_growth(self, n: float) -> float:
        """Relative growth of a reduction with n roundings that behave like random ones."""
        u = self.accumulate
        exponent = self.confidence * math.sqrt(n) * u + n * u * u / (1 - u)
        return min(gamma(n, u), math.expm1(exponent) if exponent < 1 else math.inf)

    def sum_growth(self, n: float) -> float:
        """Relative growth of a sum, or of products added up, in the worst case: never infinite.

        n u bounds them in any order, however large it is (C.-P. Jeannerod and S. M. Rump, *Improved
        error bounds for inner products in floating-point arithmetic*, SIAM J. Matrix Anal. Appl.
        34, 2013).
        """
        growth = self.worst_growth(n)
        return growth if math.isfinite(growth) else n * self.accumulate

    @property
    def growths(self) -> tuple[Callable[[float], float], Callable[[float], float]]:
        """The growth in the worst case, and the probable one."""
        return self.worst_growth, self.probable_growth
