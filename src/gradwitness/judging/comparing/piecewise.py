"""Large gradients of the witness, computed piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.judging.comparing.compare import Comparing, unjudged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Index, Shape
    from gradwitness.judging.comparing.comparison import Comparison


class Pieces:
    """A large gradient of the witness, computed piece by piece each time it is needed.

    Parameters
    ----------
    shape : tuple of int
    compute : callable
        Yields each piece with its index.
    """

    def __init__(
        self, shape: Shape, compute: Callable[[], Iterable[tuple[Index, Bounded]]]
    ) -> None:
        self._shape = shape
        self._compute = compute

    def against(self, recorded: NDArray[Any], dtype: str, allowance: float = 0.0) -> Comparison:
        """Compare a recorded gradient with this one."""
        comparing = Comparing(recorded, dtype, allowance)
        try:
            for index, piece in self._compute():
                comparing.take(piece, index)
        except Unjudgeable as reason:
            return unjudged(str(reason), recorded)
        return comparing.result()

    def whole(self) -> Bounded | None:
        """Return the whole gradient; None if a piece could not be computed."""
        assembled = None
        try:
            for index, piece in self._compute():
                if assembled is None:
                    assembled = Bounded(np.empty(self._shape, piece.dtype), piece.arithmetic)
                assembled[index] = piece
        except Unjudgeable:
            return None
        return assembled
