"""Operations within the backward of a custom function."""

from __future__ import annotations

from typing import NamedTuple


class Made(NamedTuple):
    """An operation within the backward of a custom function.

    Attributes
    ----------
    op, dtype, line : str
        Its name (``aten.mul.Tensor``), its result's dtype, and the line (``file:line``).
    sent : tuple of int
        The inputs to which the node then sent its result.
    """

    op: str
    dtype: str
    line: str
    sent: tuple[int, ...] = ()
