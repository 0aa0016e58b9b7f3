"""What a rule's arrays share with ndarrays: attributes, methods, in-place operators."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# Methods that are NumPy's function of the same name, applied to the array.
_METHODS = frozenset(
    [
        "all", "any", "argmax", "argmin", "argsort", "clip", "conj", "conjugate", "copy",
        "cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "nonzero", "prod", "ravel",
        "repeat", "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace",
        "var",
    ]
)  # fmt: skip


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    operate = getattr(NDArrayOperatorsMixin, f"__{name}__")

    def change(self: Any, other: Any) -> Any:
        result = operate(self, other)
        if result is NotImplemented or not self.ndim:
            # NumPy's sums and elements are scalars: the name is bound anew.
            return result
        self._write(..., result, self._is_shown_by(other))
        return self

    return change


class Methods(NDArrayOperatorsMixin):
    """The part of an ndarray's interface that follows from its functions and its value."""

    __slots__ = ()

    value: NDArray[Any]
    rigorous: NDArray[np.float64] | None

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
        return np.transpose(self)  # type: ignore[call-overload]

    @property
    def mT(self) -> Any:
        """The transposed matrices."""
        return np.swapaxes(self, -1, -2)  # type: ignore[call-overload]

    @property
    def real(self) -> Any:
        """The real parts."""
        return np.real(self)

    @property
    def imag(self) -> Any:
        """The imaginary parts."""
        return np.imag(self)

    def reshape(self, *shape: Any) -> Any:
        """Give the elements another shape."""
        return np.reshape(self, _together(shape))  # type: ignore[call-overload]

    def transpose(self, *axes: Any) -> Any:
        """Put the axes in another order."""
        return np.transpose(self, _together(axes) or None)  # type: ignore[call-overload]

    def flatten(self) -> Any:
        """Return a copy with one axis."""
        return np.copy(np.ravel(self))  # type: ignore[call-overload]

    def astype(self, dtype: Any) -> Any:
        """Convert to the dtype of the computation, to exact integers, or to truth values."""
        kind = np.dtype(dtype)
        if kind == self.dtype:
            return np.copy(self)  # type: ignore[call-overload]
        if kind == np.bool_:
            return self.value != 0
        truncated = np.trunc(self)  # type: ignore[call-overload]
        if kind.kind in "iu" and not np.any(truncated.rigorous):
            return truncated.value.astype(kind)
        raise RuleError(
            "calls astype(int) on numbers that depend on rounding"
            if kind.kind in "iu"
            else f"calls astype({kind}): leave it out, a rule computes in {self.dtype} and its "
            "bound stands for the tensors' own format"
        )

    def item(self) -> Any:
        """Return the only element as a number if it is exact: a number carries no bound."""
        if np.any(self.rigorous):
            raise RuleError(
                "makes a plain number (float(x), x.item()) of an array, which drops its rounding "
                "bound: keep it an array"
            )
        return self.value.item()

    # Hidden from the type checker, which would take NumPy's functions to return plain arrays.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _METHODS:
                return functools.partial(getattr(np, name), self)
            raise AttributeError(f"the arrays in a rule have no {name!r}: call NumPy's functions")

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuleError(
                "makes a plain array (np.asarray, np.array, or a piece of np.zeros(...)) of one "
                "that carries a rounding bound: use np.stack, or fill np.zeros_like(x, shape=...)"
            )

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))  # type: ignore[index]

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    __iadd__ = _in_place("add")
    __isub__ = _in_place("sub")
    __imul__ = _in_place("mul")
    __itruediv__ = _in_place("truediv")
    __ifloordiv__ = _in_place("floordiv")
    __imod__ = _in_place("mod")
    __ipow__ = _in_place("pow")


def _together(arguments: tuple[Any, ...]) -> Any:
    """Return arguments that may come one by one or as one tuple."""
    return arguments[0] if len(arguments) == 1 else arguments
