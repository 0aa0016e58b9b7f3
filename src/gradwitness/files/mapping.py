"""Arrays that stay in their file, and are read piece by piece where they are used."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Smaller arrays are read: a file of many would be mapped in vain.
LEAST = 1 << 20
# The bytes of one piece: it stays in the processor's cache.
PIECE = 1 << 19
# The pieces after which what was read of a mapped file is given back.
_KEPT = 64


class MappedFile:
    """A file whose arrays are mapped into memory, for reading.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def array(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, *, is_fortran: bool = False
    ) -> NDArray[Any]:
        """Return the array at an offset; raise `ValueError` if the file ends before it does."""
        if self._map is None:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        needed, present = math.prod(shape) * dtype.itemsize, max(len(self._map) - offset, 0)
        if needed > present:
            raise ValueError(f"an array of {needed} bytes ends after {present}")
        return np.ndarray(shape, dtype, self._map, offset, order="F" if is_fortran else "C")


def forget(*arrays: NDArray[Any]) -> None:
    """Give back the memory that mapped files took as they were read; it is read again if need be.

    Arrays in memory are left alone.
    """
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        base = base.obj if isinstance(base, memoryview) else base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def pieces(
    *arrays: NDArray[Any], dtype: Any = None, start: int = 0, stop: int | None = None
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Iterate over arrays in C order, from one number to another; some may broadcast.

    They come in float64, or complex128, by default. A piece is valid until the next one.
    """
    dtypes = [dtype or (np.complex128 if x.dtype.kind == "c" else np.float64) for x in arrays]
    iterator = np.nditer(
        arrays,
        flags=["external_loop", "buffered", "delay_bufalloc", "ranged", "zerosize_ok"],
        op_flags=[["readonly", "aligned"]] * len(arrays),
        order="C",
        op_dtypes=dtypes,
        casting="unsafe",
        buffersize=PIECE // max(np.dtype(each).itemsize for each in dtypes),
    )
    ends = start, iterator.itersize if stop is None else stop
    # To NumPy's stubs it is read-only.
    iterator.iterrange = ends  # type: ignore[misc]
    for count, piece in enumerate(iterator, 1):
        yield piece if len(arrays) > 1 else (piece,)  # type: ignore[misc]
        if count % _KEPT == 0:
            forget(*arrays)
    if start == 0 and stop is None:
        forget(*arrays)


def slabs(*arrays: NDArray[Any]) -> Iterator[tuple[slice, ...]]:
    """Iterate over the indices of parts of arrays of one shape, of some millions of numbers each.

    What was read of mapped files is given back after each part.
    """
    shape = arrays[0].shape
    most = PIECE * _KEPT // 8
    if arrays[0].size <= most:
        yield ()
        return
    axis = next(n for n in range(len(shape)) if math.prod(shape[n + 1 :]) <= most)
    step = max(1, most // math.prod(shape[axis + 1 :]))
    for outer in np.ndindex(shape[:axis]):
        before = tuple(slice(n, n + 1) for n in outer)
        for start in range(0, shape[axis], step):
            yield (*before, slice(start, start + step))
            forget(*arrays)
