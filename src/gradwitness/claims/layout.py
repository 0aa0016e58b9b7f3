"""Names and layouts that the user states, and the layout of kernels.

Flax keeps the weights of a dense layer as (in, out) and PyTorch as (out, in). In a square layer
both fit, so that no shape can tell which it is.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import InputError
from gradwitness.claims.claim import Claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.claims.claim import Claim, Run


def arranged(
    claims: Claims,
    names: Mapping[str, str] | None = None,
    transpose: Mapping[str, Sequence[int]] | None = None,
) -> Claims:
    """Return claims under other names, with their axes in another order.

    Parameters
    ----------
    claims : Claims
    names : mapping of str to str, optional
        What a claim, by its own name, is called in the program:
        ``{"params.Dense_0.kernel": "0.weight"}``.
    transpose : mapping of str to sequence of int, optional
        The order of axes, as for ``numpy.transpose``, by the claim's own name or by a pattern:
        ``{"*.kernel": (1, 0)}`` for dense layers of Flax, ``(3, 2, 0, 1)`` for its convolutions. Of
        patterns that fit, the first counts.

    Raises
    ------
    InputError
        If a name or pattern fits nothing, axes cannot be put in an order, or two claims get one
        name.
    """
    renamed, orders = dict(names or {}), dict(transpose or {})
    known = {name for run in claims.runs for name in run}
    unused = [name for name in renamed if name not in known]
    unused += [p for p in orders if not any(fnmatchcase(name, p) for name in known)]
    if unused:
        listed = ", ".join(sorted(known)[:8]) + ", ..." * (len(known) > 8)
        raise InputError(f"{claims.source} has nothing called {unused[0]!r}; it has: {listed}")
    notes = [f"{name} is called {called}, as was asked" for name, called in renamed.items()]
    notes += [f"{p}: axes in the order {tuple(o)}, as was asked" for p, o in orders.items()]
    runs = tuple(_arranged(run, renamed, orders, claims.source) for run in claims.runs)
    return Claims(claims.source, runs, (*claims.notes, *notes))


def _arranged(
    run: Run, names: Mapping[str, str], orders: Mapping[str, Sequence[int]], source: str
) -> Run:
    made: Run = {}
    for name, claim in run.items():
        order = next((o for p, o in orders.items() if fnmatchcase(name, p)), None)
        called = names.get(name, name)
        if called in made:
            raise InputError(f"{source}: two claims are called {called!r}; one of them is {name!r}")
        placed = claim if order is None else turned(claim, tuple(order))
        made[called] = replace(placed, name=called)
    return made


def kernel_order(axes: int) -> tuple[int, ...]:
    """Return the order that brings a kernel of Flax or Keras to PyTorch's layout.

    They have (in, out) for (out, in), and (height, width, in, out) for (out, in, height, width).
    """
    return (axes - 1, axes - 2, *range(axes - 2))


def turned(claim: Claim, order: tuple[int, ...]) -> Claim:
    """Return a claim with its axes in another order, its rounding and gaps with them.

    Raises
    ------
    InputError
        If it has no such axes.
    """
    try:
        array = np.ascontiguousarray(np.transpose(claim.array, order))
    except ValueError:
        raise InputError(
            f"transpose: {claim.name} has the shape {claim.array.shape}, whose axes cannot be put "
            f"in the order {order}"
        ) from None
    rounding = claim.rounding
    if isinstance(rounding, np.ndarray):
        rounding = np.transpose(rounding, order)
    gaps = tuple(claim.gaps[axis] for axis in order) if claim.gaps else ()
    return replace(claim, array=array, rounding=rounding, gaps=gaps)
