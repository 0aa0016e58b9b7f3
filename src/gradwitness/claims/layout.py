"""User-specified names and layouts, and the layout of kernels.

Flax keeps the weights of a dense layer as (in, out) and PyTorch as (out, in). A square layer fits
both, so its shape cannot tell.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradwitness._errors import InputError
from gradwitness._printable import listed
from gradwitness.claims.claim import Claims
from gradwitness.files.mapping import pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run

_HOW: dict[Literal["C", "F"], str] = {
    "C": "flattened, and read row by row",
    "F": "flattened, and read column by column, as MATLAB and Fortran keep them",
}


def arranged(
    claims: Claims,
    names: Mapping[str, str] | None = None,
    transpose: Mapping[str, Sequence[int]] | None = None,
) -> Claims:
    """Rename claims and permute their axes.

    ``names`` leads from the claim's name to the program's. ``transpose`` gives the order of axes,
    as for ``numpy.transpose``, by the claim's own name or by a pattern, of which the first that
    matches counts: ``{"*.kernel": (1, 0)}`` for dense layers of Flax, ``(3, 2, 0, 1)`` for its
    convolutions.

    Raises `InputError` if a name or pattern matches nothing, an order does not fit the axes, or two
    claims get the same name.
    """
    renamed, orders = dict(names or {}), dict(transpose or {})
    present = {name for run in claims.runs for name in run}
    unused = [name for name in renamed if name not in present]
    unused += [p for p in orders if not any(fnmatchcase(name, p) for name in present)]
    if unused:
        raise InputError(
            f"{claims.source}: no match for {unused[0]!r}; it has {listed(sorted(present), 8)}"
        )
    notes = [f"{name} was renamed to {new}, as requested" for name, new in renamed.items()]
    notes += [f"{p}: axes permuted by {tuple(o)}, as requested" for p, o in orders.items()]
    runs = tuple(_arranged(run, renamed, orders, claims.source) for run in claims.runs)
    return Claims(claims.source, runs, (*claims.notes, *notes))


def _arranged(
    run: Run, names: Mapping[str, str], orders: Mapping[str, Sequence[int]], source: str
) -> Run:
    result: Run = {}
    for name, claim in run.items():
        order = next((o for p, o in orders.items() if fnmatchcase(name, p)), None)
        new_name = names.get(name, name)
        if new_name in result:
            raise InputError(f"{source}: renaming gives two claims the name {new_name!r}")
        if order is not None:
            claim = permuted(claim, tuple(order))
            claim = replace(claim, array=np.ascontiguousarray(claim.array))
        result[new_name] = replace(claim, name=new_name)
    return result


def kernel_order(axes: int) -> tuple[int, ...]:
    """Return the axis order that brings a Flax or Keras kernel to PyTorch's layout.

    (in, out) becomes (out, in); (height, width, in, out) becomes (out, in, height, width).
    """
    return (axes - 1, axes - 2, *range(axes - 2))


def permuted(claim: Claim, order: tuple[int, ...]) -> Claim:
    """Permute the axes of a claim, its rounding and its gaps; `InputError` if they do not fit."""
    try:
        array = np.transpose(claim.array, order)
    except ValueError:
        raise InputError(
            f"transpose: the order {order} does not fit the axes of {claim.name}, which has shape "
            f"{claim.array.shape}"
        ) from None
    rounding = claim.rounding
    if isinstance(rounding, np.ndarray):
        rounding = np.transpose(rounding, order)
    gaps = tuple(claim.gaps[axis] for axis in order) if claim.gaps else ()
    return replace(claim, array=array, rounding=rounding, gaps=gaps)


def shortened(claim: Claim, shape: tuple[int, ...]) -> Claim:
    """Return a claim that may lack entries at its ends with a gap where it does."""
    sizes = claim.array.shape
    if not claim.is_open or len(sizes) != len(shape) or sizes == shape:
        return claim
    gaps = tuple(n if n < m else None for n, m in zip(sizes, shape, strict=True))
    return replace(claim, gaps=gaps)


def is_merged(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether a shape is the full one with neighbouring axes merged, as by flattening."""
    sizes, merged = list(full), 0
    for length in shape:
        size = 1
        while sizes and (size < length or (sizes[0] == 1 and size == length)):
            size *= sizes.pop(0)
            merged += 1
        if size != length:
            return False
    return not sizes and len(shape) < merged


def unmerged(claim: Claim, value: NDArray[Any]) -> tuple[Claim, str]:
    """Return a claim whose axes were merged in the shape of the right value, and how it was read.

    A vector may hold its rows one after the other, or its columns: nothing but its numbers tells.
    """
    flat, shape = claim.array, value.shape
    if not claim.is_whole or not is_merged(flat.shape, shape):
        return claim, ""
    read = {
        order: flat.reshape(shape, order=order) for order in _HOW if order == "C" or flat.ndim == 1
    }
    order = min(read, key=lambda order: _apart(read[order], value)) if len(read) > 1 else "C"
    rounding = claim.rounding
    if isinstance(rounding, np.ndarray):
        rounding = rounding.reshape(shape, order=order)
    return replace(claim, array=read[order], rounding=rounding, gaps=()), _HOW[order]


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the sum of the distances of two arrays."""
    with np.errstate(all="ignore"):
        return sum(float(np.nansum(np.abs(x - y))) for x, y in pieces(a, b))
