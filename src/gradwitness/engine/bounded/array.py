"""The array type, and what all its operations share."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.infinities import elementwise, settled
from gradwitness.engine.bounded.methods import Methods
from gradwitness.engine.bounded.overflow import Partial as Partial
from gradwitness.engine.bounded.overflow import is_large, overflowing
from gradwitness.engine.bounded.tables import COMPLEX_FUNCTIONS as COMPLEX_FUNCTIONS
from gradwitness.engine.bounded.tables import COMPLEX_UFUNCS as COMPLEX_UFUNCS
from gradwitness.engine.bounded.tables import FUNCTIONS as FUNCTIONS
from gradwitness.engine.bounded.tables import UFUNCS as UFUNCS
from gradwitness.engine.bounded.tables import named, unknown
from gradwitness.engine.floats import WITNESS_UNIT, gamma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.bounded.infinities import HandedOn
    from gradwitness.engine.floats import Arithmetic

Plain: TypeAlias = "NDArray[Any]"
Axis: TypeAlias = "int | tuple[int, ...] | None"
Error: TypeAlias = "NDArray[np.float64] | None"
Errors: TypeAlias = "tuple[Error, Error]"
# From the error carried over from the operands to the error that an operation's own roundings add,
# for both tiers; the same function where the tiers do not differ. What it returns is nobody else's.
Growth: TypeAlias = "Callable[[Error], Error]"
Growths: TypeAlias = "tuple[Growth, Growth]"

SINGLE_TINY = 2.0**-126  # float32's smallest normal number


class Bounded(Methods):
    """An array, float64 or complex128, with bounds on its rounding error.

    The recorded side is assumed to have used the ``arithmetic``. The bounds, rigorous and probable,
    are of the error's modulus, in the value's shape; None is exact.
    """

    __slots__ = ("arithmetic", "origin", "probable", "rigorous", "value")

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
        # Of a view: its base, and the index into it.
        self.origin: tuple[Bounded, Any] | None = None

    @property
    def errors(self) -> Errors:
        """Both bounds, rigorous first."""
        return self.rigorous, self.probable

    def tiers(self, bound: Callable[[Error], Error]) -> Errors:
        """Return what a function makes of both bounds: of one and the same, the same."""
        rigorous = bound(self.rigorous)
        return rigorous, rigorous if self.probable is self.rigorous else bound(self.probable)

    @property
    def is_exact(self) -> bool:
        """Whether no rounding has happened."""
        return self.rigorous is None and self.probable is None

    def __getitem__(self, index: Any) -> Bounded:
        errors = self.tiers(carrying(lambda e: e[index]))
        piece = Bounded(self.value[index], self.arithmetic, *errors)
        if self._is_shown_by(piece):
            piece.origin = self, index
        return piece

    @property
    def _owner(self) -> Any:
        """The array whose memory the value is."""
        return self.value if self.value.base is None else self.value.base

    def _is_shown_by(self, operand: Any) -> bool:
        return getattr(value_of(operand), "base", None) is self._owner

    def __setitem__(self, index: Any, assigned: Any) -> None:
        self._write(index, assigned, 0)

    def _write(self, index: Any, assigned: Any, views: int) -> None:
        """Store in an array and in its base; ``views`` of them share the memory."""
        views += self._is_shown_by(assigned)
        if self.origin is not None:
            base, base_index = self.origin
            updated = np.copy(self)  # type: ignore[call-overload]
            updated[index] = assigned
            self.rigorous, self.probable = updated.errors
            base._write(base_index, updated, views + 1)
            return
        self._require_own_memory(views)
        if is_complex(assigned) and not is_complex(self):
            raise RuleError("writes complex numbers into an array of real ones")
        assigned = lifted(self.arithmetic, assigned)
        new = errors_of(assigned)
        self.value[index] = value_of(assigned)
        shared = self.rigorous is self.probable
        # With three references, this array's two and the call's, nothing else uses the bound.
        if shared and new[0] is new[1]:
            own = sys.getrefcount(self.rigorous) == 3
            self.rigorous = self.probable = self._written(self.rigorous, index, new[0], own=own)
            return
        own = not shared and sys.getrefcount(self.rigorous) == 2
        self.rigorous = self._written(self.rigorous, index, new[0], own=own)
        own = not shared and sys.getrefcount(self.probable) == 2
        self.probable = self._written(self.probable, index, new[1], own=own)

    def _require_own_memory(self, views: int) -> None:
        """Refuse to write where another array would see the numbers but not their bounds.

        Told by the number of references, as in np.ndarray.resize.
        """
        references = sys.getrefcount(self.value)
        if self.value.base is not None:
            references += sys.getrefcount(self.value.base) - 2
        if references > 2 + views:
            raise RuleError("writes to memory shared with another array: write to x.copy() instead")

    def _written(self, error: Error, index: Any, new: Error, *, own: bool) -> Error:
        """Return a bound with one piece replaced: in place if the array is not shared."""
        if error is None:
            if new is None:
                return None
            error = np.zeros(self.shape)
        elif not (own and error.base is None and error.flags.writeable):
            error = np.array(error)
        error[index] = 0.0 if new is None else new
        return error

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method != "__call__":
            raise unknown(f"{name}.{method}")
        if kwargs:
            raise RuleError(
                f"calls np.{name} with {', '.join(kwargs)}: assign the result instead, and "
                "start a sum from np.zeros_like(x)"
            )
        if any(map(is_complex, inputs)):
            handler = COMPLEX_UFUNCS.get(name)
            if handler is None:
                raise NotImplementedError(f"no rounding bound for np.{name} of complex numbers")
        else:
            handler = UFUNCS.get(name)
        if handler is None:
            raise unknown(name)
        # Overflow and 0/0 are results, of values and of bounds alike.
        with np.errstate(all="ignore"):
            return handler(self.arithmetic, *(lifted(self.arithmetic, x) for x in inputs))

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        del types
        name = named(func)
        handler = FUNCTIONS.get(name)
        if handler is None:
            raise unknown(name)
        if name not in COMPLEX_FUNCTIONS and any(map(is_complex, args)):
            raise NotImplementedError(f"no rounding bound for {name} of complex numbers")
        with np.errstate(all="ignore"):
            return handler(func, args, kwargs)


def is_complex(operand: Any) -> bool:
    """Whether an operand is complex: an array, or a number."""
    value = value_of(operand)
    return value.dtype.kind == "c" if isinstance(value, np.ndarray) else isinstance(value, complex)


def lifted(arithmetic: Arithmetic, operand: Any) -> Any:
    """Return a constant, with the error of its rounding if the format cannot hold it."""
    if not isinstance(operand, int | float | np.integer | np.floating):
        return operand
    number = float(operand)
    if not math.isfinite(number):
        return operand
    digits = round(-math.log2(arithmetic.unit - WITNESS_UNIT))
    normal = abs(number) >= smallest_normal(arithmetic)
    if number == 0 or (normal and math.ldexp(math.frexp(number)[0], digits).is_integer()):
        return operand
    # Below the smallest normal number it may be flushed to zero.
    error = np.asarray(abs(number) * (arithmetic.unit if normal else 1.0))
    return Bounded(np.asarray(number), arithmetic, error, error)


def value_of(operand: Any) -> Any:
    """Return the value of a Bounded, and anything else as it is."""
    return operand.value if isinstance(operand, Bounded) else operand


def errors_of(operand: Any) -> Errors:
    """Return both bounds of an operand; anything but a Bounded is exact."""
    return operand.errors if isinstance(operand, Bounded) else (None, None)


def total(*terms: Error) -> Error:
    """Add bounds; None is exact."""
    present = [term for term in terms if term is not None]
    if not present:
        return None
    if len(present) == 1:
        return np.asarray(present[0])
    result = np.asarray(present[0] + present[1])
    for term in present[2:]:
        result = _added(result, term)
    return result


def _added(own: Plain, term: Plain) -> Plain:
    """Add to an array that nobody else holds: in place, if the sum fits into it."""
    fits = own.shape == term.shape
    return np.add(own, term, out=own) if fits else np.asarray(own + term)


def carrying(spread: Callable[[Plain], Any]) -> Callable[[Error], Error]:
    """Return how a bound is carried over from one operand, where an exact one has exact results."""
    return lambda e: None if e is None else np.asarray(spread(e))


def scaled(factor: Any, error: Error) -> Error:
    """Multiply a bound by a magnitude; zero times an unbounded error stays unbounded."""
    if error is None:
        return None
    product = np.asarray(factor * error)
    # Bounds are not negative, so a NaN in the sum is one of the terms.
    if not np.isnan(np.sum(product)):
        return product
    return np.where(np.isnan(product) & ~np.isnan(factor), np.inf, product)


def smallest_normal(arithmetic: Arithmetic) -> float:
    """Return the smallest normal number of elementary operations: float32's in a fused kernel."""
    return min(arithmetic.tiny, SINGLE_TINY) if arithmetic.final else arithmetic.tiny


def as_read(operand: Any) -> Any:
    """Return a factor or term as a kernel may read it: subnormal bfloat16 numbers as zero.

    Intel's dot products of bfloat16 pairs (VDPBF16PS, TDPBF16PS) are defined that way. Subnormal
    float16 numbers are normal in float32.
    """
    if not isinstance(operand, Bounded):
        return operand
    arithmetic = operand.arithmetic
    if arithmetic.tiny != SINGLE_TINY or not (arithmetic.store or arithmetic.final):
        return operand
    size = np.abs(operand.value)

    def tier(error: Error) -> Error:
        least = size if error is None else size - error
        lost = np.where(least < SINGLE_TINY, size, 0.0)
        if not lost.any():
            return error
        return lost if error is None else np.maximum(error, lost)

    return Bounded(operand.value, arithmetic, *operand.tiers(tier))


def once_stored(arithmetic: Arithmetic, value: Any, kernel: Plain) -> Growths:
    """Return what a kernel's own error adds, with the rounding of its result."""
    rounded, _ = rounding(arithmetic, value)

    def grow(carried: Error) -> Error:
        return total(rounded(total(carried, kernel)), kernel)

    return grow, grow


def rounding(
    arithmetic: Arithmetic,
    value: Any,
    count: float = 1.0,
    *,
    underflows: bool = True,
    nonzero: Any = False,
) -> Growths:
    """Return what ``count`` roundings add to a result's error.

    They round the other arithmetic's number, which is at most the value plus the error carried into
    it. ``nonzero`` marks results that are 0 only because the witness itself underflows.
    """
    factor = arithmetic.unit if count == 1 else gamma(count, arithmetic.unit)
    tiny = smallest_normal(arithmetic)

    # Those of integers, too: they grow in place.
    magnitude = np.abs(value).astype(np.float64, copy=False)
    smallest = np.min(magnitude, initial=np.inf) if underflows else np.inf

    def grow(carried: Error) -> Error:
        size = magnitude if carried is None else magnitude + carried
        low: Any = False
        # Twice, so that no rounding crosses this line.
        if not smallest - (0.0 if carried is None else np.max(carried, initial=0.0)) >= 2 * tiny:
            low = (magnitude if carried is None else magnitude - carried) < 2 * tiny
            if np.any(low):
                low &= (size > 0) | nonzero
        if carried is None:
            added = np.asarray(size * factor)
        else:
            size *= factor
            added = np.asarray(size)
        return np.add(added, tiny, out=added, where=low) if np.any(low) else added

    return grow, grow


def underflow(arithmetic: Arithmetic, value: Any) -> Growths:
    """Return what an exact scaling can lose: all of a result below the smallest normal number."""

    def grow(carried: Error) -> Error:
        size = np.abs(value) if carried is None else np.abs(value) + carried
        lost = np.where(size < smallest_normal(arithmetic), size, 0.0)
        return lost if lost.any() else None

    return grow, grow


def assemble(
    arithmetic: Arithmetic,
    value: Any,
    operands: Sequence[Any],
    carry: Callable[..., Error],
    growths: Growths | None = None,
    handed_on: HandedOn = elementwise,
    partial: Partial | None = None,
) -> Bounded:
    """Return a result with both bounds: the operands' errors carried over, plus its own roundings.

    ``carry`` maps the operands' bounds to the result's; ``handed_on`` says which infinite results
    come from infinite operands.
    """
    value = np.asarray(value)
    pairs = [errors_of(operand) for operand in operands]
    shared = all(one is other for one, other in [*pairs, growths or (None, None)])

    def tier(k: int) -> Error:
        carried = carry(*[pair[k] for pair in pairs])
        grown = None if growths is None else growths[k](carried)
        if carried is None or grown is None:
            return total(carried, grown)
        return _added(grown, carried)

    rigorous = tier(0)
    probable = rigorous if shared else tier(1)
    if is_large(arithmetic, value, rigorous, partial, rounds=growths is not None):
        if np.isinf(value).any():
            values = [*map(value_of, operands)]
            of_each = zip(*pairs, strict=True)
            rigorous, probable = (
                settled(value, error, values, errors, handed_on)
                for error, errors in zip((rigorous, probable), of_each, strict=True)
            )
            probable = rigorous if shared else probable
        rigorous = overflowing(arithmetic, value, rigorous, partial)
    errors = [
        error
        if error is None or error.shape == value.shape
        else np.broadcast_to(error, value.shape)
        for error in ((rigorous,) if probable is rigorous else (rigorous, probable))
    ]
    return Bounded(value, arithmetic, errors[0], errors[-1])
