"""Large gradients of the witness, computed piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.judging.compare import Comparing, unjudged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from gradwitness.engine.tiling import Index, Shape
    from gradwitness.judging.comparison import Comparison


class Pieces:
    """A large gradient of the witness, computed piece by piece each time it is needed.

    Parameters
    ----------
    shape : tuple of int
    compute : callable
        Yields each piece with its index.
    keep : bool
        Assemble the pieces on the first pass, for `whole`.

    Attributes
    ----------
    is_exact : bool
        Whether no rounding has happened in the pieces computed so far.
    failed : bool
        Whether a piece could not be computed.
    """

    def __init__(
        self, shape: Shape, compute: Callable[[], Iterable[tuple[Index, Bounded]]], *, keep: bool
    ) -> None:
        self.is_exact = True
        self.failed = False
        self._shape = shape
        self._compute = compute
        self._keep = keep
        self._assembled: Bounded | None = None

    def against(self, recorded: NDArray[Any], dtype: str, allowance: float = 0.0) -> Comparison:
        """Compare a recorded gradient with this one."""
        comparing = Comparing(recorded, dtype, allowance)
        try:
            for index, piece in self._walk():
                comparing.take(piece, index)
        except Unjudgeable as reason:
            self.failed, self.is_exact = True, False
            return unjudged(str(reason), recorded)
        return comparing.result()

    def whole(self) -> Bounded | None:
        """Return the whole gradient; None if a piece could not be computed."""
        if self._assembled is None and not self.failed:
            self._keep = True
            try:
                for _ in self._walk():
                    pass
            except Unjudgeable:
                self.failed, self.is_exact = True, False
        return self._assembled

    def _walk(self) -> Iterator[tuple[Index, Bounded]]:
        assembled = None
        for index, piece in self._compute():
            self.is_exact = self.is_exact and piece.is_exact
            if self._keep and self._assembled is None:
                if assembled is None:
                    assembled = Bounded(np.empty(self._shape, piece.dtype), piece.arithmetic)
                assembled[index] = piece
            yield index, piece
        self._assembled = assembled if self._assembled is None else self._assembled
