"""An array that lives elsewhere, on the processor: what does not dispatch to it is refused.

It takes what CuPy 14.2 takes, as its source and its signatures have it, and nothing else: NumPy's
functions by NEP 13 and NEP 18, on arrays of its own kind and Python's numbers, with the parameters
that CuPy's functions have. A NumPy array is taken as an index alone, which CuPy sends to the
device. Reading a number on the host (`float`, `int`, `bool`, `item`) works, and is counted, as is
`get` with its bytes: each is a copy for which the host waits.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_MODULES = ("numpy", "numpy.linalg", "numpy.fft", "numpy.lib.stride_tricks")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
# Ways to apply a universal function, and the functions that CuPy applies so.
_METHODS: dict[str, tuple[str, ...]] = {
    "reduce": ("add", "multiply"),
    "accumulate": ("add", "multiply"),
    "reduceat": ("add",),
    "at": ("add", "subtract", "maximum", "minimum"),
}
# Functions of NumPy's that CuPy lacks.
_LACKING = frozenset(
    [
        "block", "einsum_path", "geomspace", "insert", "matvec", "nanpercentile", "nanquantile",
        "spacing", "unstack", "vecdot", "vecmat", "linalg.diagonal", "linalg.matrix_norm",
        "linalg.multi_dot", "linalg.outer", "linalg.svdvals", "linalg.tensordot", "linalg.trace",
        "linalg.vecdot", "linalg.vector_norm",
    ]
)  # fmt: skip
# SciPy's universal functions that CuPy has, by their names.
_SPECIAL = frozenset(
    [
        "beta", "betainc", "betaln", "digamma", "entr", "erf", "erfc", "erfcinv", "erfcx",
        "erfinv", "exp1", "expi", "expit", "gamma", "gammainc", "gammaincc", "gammaln", "i0",
        "i0e", "i1", "i1e", "j0", "j1", "k0", "k0e", "k1", "k1e", "log_ndtr", "logit", "loggamma",
        "ndtr", "ndtri", "psi", "xlog1py", "xlogy", "y0", "y1",
    ]
)  # fmt: skip
# Parameters of NumPy's functions that CuPy's do not have.
_WITHOUT = {
    "all": {"where"},
    "any": {"where"},
    "argsort": {"order", "stable"},
    "clip": {"max", "min"},
    "count_nonzero": {"keepdims"},
    # NumPy 2 hands on a device, which is None, and CuPy's refuse it.
    "eye": {"device"},
    "full": {"device"},
    "lexsort": {"axis"},
    "max": {"initial", "where"},
    "mean": {"where"},
    "min": {"initial", "where"},
    "ones": {"device"},
    "prod": {"initial", "where"},
    "sort": {"order", "stable"},
    "std": {"correction", "mean", "where"},
    "sum": {"initial", "where"},
    "svd": {"hermitian"},
    "take": {"mode"},
    "unique": {"sorted"},
    "var": {"correction", "mean", "where"},
}
# Methods that are NumPy's function of the same name; two of that name change the array.
_NDARRAY_METHODS = frozenset(n for n in dir(np.ndarray) if hasattr(np, n)) - {"sort", "partition"}


# CuPy takes it with NumPy 2.1.2 or later.
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class _Flags:
    """CuPy's flags do not say whether an array may be written to."""

    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


class DeviceArray(NDArrayOperatorsMixin):
    """Numbers that only functions dispatched to it may touch."""

    # How many numbers were read on the host, by all arrays; how many arrays were, and their bytes.
    host_copies = arrays = bytes = 0
    base = None

    def __init__(self, numbers: Any) -> None:
        self._numbers = np.asarray(numbers)
        if self._numbers.dtype.char not in "?bhilqBHILQefdFD" and self._numbers.dtype != _BFLOAT16:
            raise ValueError(f"Unsupported dtype {self._numbers.dtype}")

    def get(self) -> NDArray[Any]:
        """Return a copy of the numbers on the host."""
        DeviceArray.arrays += 1
        DeviceArray.bytes += self._numbers.nbytes
        return self._numbers.copy()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        # NumPy's have no module.
        known = name in _SPECIAL or (name not in _LACKING and hasattr(np, name))
        if not known:
            return NotImplemented
        if name not in _METHODS.get(method, (name,)):
            raise NotImplementedError(f"`{name}.{method}` is not supported yet")
        if name in _COMPARISONS:
            inputs = tuple(
                x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs
            )
        indices = inputs[1:2] if method == "at" else ()
        refuse_host((*inputs[:1], *inputs[1 + len(indices) :], *kwargs.get("out", ())))
        result = getattr(ufunc, method)(*_bare(inputs), **_bare(kwargs))
        return kwargs["out"][0] if "out" in kwargs else _wrapped(result)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        name, module = func.__name__, func.__module__
        if module not in _MODULES or f"{module}.{name}".removeprefix("numpy.") in _LACKING:
            return NotImplemented
        if refused := _WITHOUT.get(name, set()).intersection(kwargs):
            raise TypeError(f"{name}() got an unexpected keyword argument {min(refused)!r}")
        if name.endswith("_like") and kwargs.get("shape", 1) == () != args[0].shape:
            raise TypeError(f"{name}(shape=()) has shape {args[0].shape}: no shape is taken for ()")
        if name in ("concatenate", "stack") and not all(
            isinstance(x, DeviceArray) for x in args[0]
        ):
            raise TypeError("Only cupy arrays can be concatenated")
        if name not in ("array", "asarray"):
            refuse_host((args[0], *args[2:]) if name == "take" else args)
            refuse_host(kwargs.values())
        result = func(*_bare(args), **_bare(kwargs))
        return DeviceArray(result) if name in ("array_equal", "allclose") else _wrapped(result)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self._numbers[_bare(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        refuse_host((value,))
        if np.ndim(_bare(value)):
            self._refuse_twice(_bare(key))
        self._numbers[_bare(key)] = _bare(value)

    def _refuse_twice(self, key: Any) -> None:
        """Refuse several numbers for one place: which of them stays there is undefined."""
        places = np.reshape(np.arange(self.size), self.shape)[key]
        if np.unique(places).size != places.size:
            raise IndexError("several numbers are written to one place")

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[k] for k in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        if name not in _NDARRAY_METHODS:
            raise AttributeError(f"no attribute {name!r}")
        return functools.partial(getattr(np, name), self)

    shape = property(lambda self: self._numbers.shape)
    strides = property(lambda self: self._numbers.strides)
    nbytes = property(lambda self: self._numbers.nbytes)
    flags = property(lambda self: _Flags(self._numbers.flags))
    __cuda_array_interface__ = property(lambda self: self._numbers.__array_interface__)
    ndim = property(lambda self: self._numbers.ndim)
    size = property(lambda self: self._numbers.size)
    dtype = property(lambda self: self._numbers.dtype)
    T = property(lambda self: np.transpose(self))
    mT = property(lambda self: np.swapaxes(self, -1, -2))
    real = property(
        lambda self: DeviceArray(self._numbers.real), lambda self, x: self._part("real", x)
    )
    imag = property(
        lambda self: DeviceArray(self._numbers.imag), lambda self, x: self._part("imag", x)
    )

    def _part(self, name: str, numbers: Any) -> None:
        refuse_host((numbers,))
        setattr(self._numbers, name, _bare(numbers))

    def reshape(self, *shape: Any) -> Any:
        return np.reshape(self, *shape) if len(shape) == 1 else np.reshape(self, shape)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def flatten(self) -> Any:
        return np.copy(np.ravel(self))

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        return DeviceArray(self._numbers.astype(dtype, copy=copy))

    def view(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self._numbers.view(dtype))

    def item(self) -> Any:
        DeviceArray.host_copies += 1
        return self._numbers.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())


def refuse_host(items: Any) -> None:
    """Refuse a NumPy array among the arguments of a function that runs on the device."""
    for item in items:
        if isinstance(item, np.ndarray):
            raise TypeError(f"Unsupported type {type(item)}")
        if isinstance(item, (tuple, list)):
            refuse_host(item)


def _bare(item: Any) -> Any:
    if isinstance(item, DeviceArray):
        return item._numbers
    if isinstance(item, (tuple, list)):
        return type(item)(map(_bare, item))
    return {k: _bare(v) for k, v in item.items()} if isinstance(item, dict) else item


def _wrapped(result: Any) -> Any:
    """Return what a function returns, with its arrays on the device: scalars are 0-d there."""
    if isinstance(result, (np.ndarray, np.generic)):
        return DeviceArray(result)
    if isinstance(result, (tuple, list)):
        return tuple(map(_wrapped, result))
    return result
