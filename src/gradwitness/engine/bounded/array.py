"""The array type, the tables of its operations, and what those operations share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.infinities import elementwise, settled
from gradwitness.engine.floats import WITNESS_UNIT, gamma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.bounded.infinities import HandedOn
    from gradwitness.engine.floats import Arithmetic

Plain: TypeAlias = "NDArray[Any]"
Error: TypeAlias = "NDArray[np.float64] | None"
Errors: TypeAlias = "tuple[Error, Error]"
# From what the operands' errors have become to what an operation's own roundings add; for both
# tiers. One and the same function where the tiers do not differ.
Growth: TypeAlias = "Callable[[Error], Error]"
Growths: TypeAlias = "tuple[Growth, Growth]"

_SINGLE_TINY = 2.0**-126  # float32's smallest normal number

# By the NumPy function's name; filled by the modules beside this one.
UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
# Those for complex operands, and which functions take such.
COMPLEX_UFUNCS: dict[str, Callable[..., Any]] = {}
COMPLEX_FUNCTIONS: set[str] = set()


class Bounded(NDArrayOperatorsMixin):
    """An array with bounds on its rounding error.

    Parameters
    ----------
    value : ndarray
        What the witness computes, float64 or complex128.
    arithmetic : Arithmetic
        What the recorded side is assumed to have computed in.
    rigorous, probable : ndarray or None
        Bounds of the absolute error, of a complex number its modulus, in the value's shape; None is
        exact.
    """

    __slots__ = ("arithmetic", "probable", "rigorous", "value")

    def __init__(
        self,
        value: Plain,
        arithmetic: Arithmetic,
        rigorous: Error = None,
        probable: Error = None,
    ) -> None:
        self.value = np.asarray(value)
        self.arithmetic = arithmetic
        self.rigorous = rigorous
        self.probable = probable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the value."""
        return self.value.dtype

    @property
    def T(self) -> Any:
        """The transpose."""
        return FUNCTIONS["transpose"](np.transpose, (self,), {})

    @property
    def errors(self) -> Errors:
        """Both bounds, rigorous first."""
        return self.rigorous, self.probable

    @property
    def is_exact(self) -> bool:
        """Whether no rounding has happened."""
        return self.rigorous is None and self.probable is None

    def reshape(self, *shape: Any) -> Any:
        """Give the elements another shape."""
        new = shape[0] if len(shape) == 1 else shape
        return FUNCTIONS["reshape"](np.reshape, (self, new), {})

    def __getitem__(self, index: Any) -> Bounded:
        rigorous = None if self.rigorous is None else np.asarray(self.rigorous[index])
        probable = rigorous
        if self.probable is not self.rigorous:
            probable = None if self.probable is None else np.asarray(self.probable[index])
        return Bounded(self.value[index], self.arithmetic, rigorous, probable)

    def __setitem__(self, index: Any, item: Any) -> None:
        item = lifted(self.arithmetic, item)
        self.value[index] = value_of(item)
        new = errors_of(item)
        together = self.rigorous is self.probable and new[0] is new[1]
        self.rigorous = _written(self.rigorous, self.shape, index, new[0])
        self.probable = (
            self.rigorous if together else _written(self.probable, self.shape, index, new[1])
        )

    # In place would write into arrays that others may share: ``a[i] += b`` adds, then stores.
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise RuleError(f"a rule may not call np.{ufunc.__name__}.{method} with {kwargs}")
        name = ufunc.__name__
        if any(map(is_complex, inputs)):
            handler = COMPLEX_UFUNCS.get(name)
            if handler is None:
                raise NotImplementedError(f"no rounding bound for np.{name} of complex numbers")
        else:
            handler = UFUNCS.get(name)
        if handler is None:
            raise RuleError(f"no rounding bound is known for np.{name}")
        # Overflow and 0/0 are results, of values and of bounds alike.
        with np.errstate(all="ignore"):
            return handler(self.arithmetic, *(lifted(self.arithmetic, item) for item in inputs))

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        del types
        handler = FUNCTIONS.get(func.__name__)
        if handler is None:
            raise RuleError(f"no rounding bound is known for np.{func.__name__}")
        if func.__name__ not in COMPLEX_FUNCTIONS and any(map(is_complex, args)):
            raise NotImplementedError(f"no rounding bound for {func.__name__} of complex numbers")
        with np.errstate(all="ignore"):
            return handler(func, args, kwargs)


def is_complex(item: Any) -> bool:
    """Whether an operand is complex: an array, or a number."""
    if isinstance(item, Bounded):
        item = item.value
    return item.dtype.kind == "c" if isinstance(item, np.ndarray) else isinstance(item, complex)


def lifted(arithmetic: Arithmetic, item: Any) -> Any:
    """Give a constant that the format cannot hold the error of its rounding."""
    if not isinstance(item, int | float | np.integer | np.floating):
        return item
    number = float(item)
    if not math.isfinite(number):
        return item
    digits = round(-math.log2(arithmetic.unit - WITNESS_UNIT))
    normal = abs(number) >= smallest_normal(arithmetic)
    if number == 0 or (normal and math.ldexp(math.frexp(number)[0], digits).is_integer()):
        return item
    # Below the smallest normal number it may become zero.
    error = np.asarray(abs(number) * (arithmetic.unit if normal else 1.0))
    return Bounded(np.asarray(number), arithmetic, error, error)


def _written(error: Error, shape: tuple[int, ...], index: Any, new: Error) -> Error:
    if error is None and new is None:
        return None
    # A copy, since the array may belong to the other tier or to another Bounded too.
    error = np.zeros(shape) if error is None else np.array(error)
    error[index] = 0.0 if new is None else new
    return error


def value_of(item: Any) -> Any:
    """Return the value of a Bounded, and anything else as it is."""
    return item.value if isinstance(item, Bounded) else item


def errors_of(item: Any) -> Errors:
    """Return both bounds of a Bounded; anything else is exact."""
    return item.errors if isinstance(item, Bounded) else (None, None)


def total(*terms: Error) -> Error:
    """Add bounds, of which None is exact."""
    present = [term for term in terms if term is not None]
    if not present:
        return None
    result = present[0]
    for term in present[1:]:
        result = result + term
    return np.asarray(result)


def scaled(factor: Any, error: Error) -> Error:
    """Multiply a bound by a magnitude; zero times an unbounded error stays unbounded."""
    if error is None:
        return None
    product = np.asarray(factor * error)
    # No two terms of this sum are infinities of different signs.
    if not np.isnan(np.sum(product)):
        return product
    return np.where(np.isnan(product) & ~np.isnan(factor), np.inf, product)


def smallest_normal(arithmetic: Arithmetic) -> float:
    """Return the smallest normal number of elementary operations: a fused kernel's are float32."""
    return min(arithmetic.tiny, _SINGLE_TINY) if arithmetic.final else arithmetic.tiny


def as_read(item: Any) -> Any:
    """Return a factor or term as a kernel may read it: subnormal bfloat16 numbers as zero.

    Intel's dot products of bfloat16 pairs (VDPBF16PS, TDPBF16PS) do, by their definition. Numbers
    of other 16-bit formats are normal in float32.
    """
    if not isinstance(item, Bounded):
        return item
    arithmetic = item.arithmetic
    if arithmetic.tiny != _SINGLE_TINY or not (arithmetic.store or arithmetic.final):
        return item
    size = np.abs(item.value)

    def tier(error: Error) -> Error:
        least = size if error is None else size - error
        lost = np.where(least < _SINGLE_TINY, size, 0.0)
        if not lost.any():
            return error
        return lost if error is None else np.maximum(error, lost)

    rigorous = tier(item.rigorous)
    probable = rigorous if item.probable is item.rigorous else tier(item.probable)
    return Bounded(item.value, arithmetic, rigorous, probable)


def rounding(
    arithmetic: Arithmetic,
    value: Any,
    count: float = 1.0,
    *,
    underflows: bool = True,
    nonzero: Any = False,
) -> Growths:
    """Return what ``count`` roundings add to a result's error.

    They round what the other arithmetic computes, which is as large as the value and the error
    carried into it together. ``nonzero`` marks the results that are 0 only because the witness
    itself underflows.
    """
    factor = arithmetic.unit if count == 1 else gamma(count, arithmetic.unit)
    tiny = smallest_normal(arithmetic)

    magnitude = np.abs(value)

    def grow(carried: Error) -> Error:
        size = magnitude if carried is None else magnitude + carried
        added = size * factor
        # Twice, so that no rounding brings a result across this line.
        least = magnitude if carried is None else magnitude - carried
        if underflows and not np.min(least, initial=np.inf) >= 2 * tiny:
            small = ((size > 0) | nonzero) & (least < 2 * tiny)
            added = added + tiny * small
        return np.asarray(added)

    return grow, grow


def underflow(arithmetic: Arithmetic, value: Any) -> Growths:
    """Return what an exact scaling can lose: all of a result below the smallest normal number."""

    def grow(carried: Error) -> Error:
        size = np.abs(value) if carried is None else np.abs(value) + carried
        lost = np.where(size < smallest_normal(arithmetic), size, 0.0)
        return lost if lost.any() else None

    return grow, grow


def reduction(
    arithmetic: Arithmetic,
    magnitude: Plain,
    value: Plain,
    roundings: int,
    products: int | None = None,
) -> Growths | None:
    """Return what a reduction adds: growth times the sum of magnitudes, and one store.

    ``products`` is how many numbers may underflow on the way, if not one for each rounding.
    """
    if roundings <= 0:
        return None

    # What is accumulated in float32 underflows where float32 does.
    underflows = (products or roundings) * min(arithmetic.tiny, _SINGLE_TINY)

    def at(growth: float) -> Growth:
        def grow(carried: Error) -> Error:
            past: Any = 0.0 if carried is None else carried
            size = magnitude if carried is None else magnitude + carried
            inner = size * growth
            if np.min(size, initial=np.inf) > 0:
                inner += underflows
            else:
                # Terms that are all zero add up to zero, however many they are.
                inner = np.where(size == 0, 0.0, inner)
                inner = inner + underflows * (size > 0)
            if not arithmetic.store:
                return np.asarray(inner)
            reach = np.abs(value) + past + inner
            small = reach < arithmetic.tiny
            return np.asarray(inner + np.where(small, reach, arithmetic.store * reach))

        return grow

    worst, probable = arithmetic.worst_growth(roundings), arithmetic.probable_growth(roundings)
    rigorous = at(worst)
    return rigorous, rigorous if probable == worst else at(probable)


def assemble(
    arithmetic: Arithmetic,
    value: Any,
    operands: Sequence[Any],
    carry: Callable[..., Error],
    growths: Growths | None = None,
    handed_on: HandedOn = elementwise,
) -> Bounded:
    """Make a result: what its operands' errors become, plus what is added, for both tiers.

    ``carry`` receives one bound for each operand and returns what they become; ``handed_on`` says
    which infinite results come from infinite operands.
    """
    value = np.asarray(value)
    pairs = [errors_of(operand) for operand in operands]
    # One pass over the numbers, where the sum does not overflow.
    infinite = not np.isfinite(np.sum(value)) and bool(np.isinf(value).any())

    def tier(k: int) -> Error:
        errors = [pair[k] for pair in pairs]
        carried = carry(*errors)
        error = carried if growths is None else total(carried, growths[k](carried))
        if infinite:
            error = settled(value, error, [value_of(item) for item in operands], errors, handed_on)
        if error is not None and error.shape != value.shape:
            error = np.broadcast_to(error, value.shape)
        return error

    rigorous = tier(0)
    if all(one is other for one, other in [*pairs, growths or (None, None)]):
        return Bounded(value, arithmetic, rigorous, rigorous)
    return Bounded(value, arithmetic, rigorous, tier(1))
