"""A large gradient as the witness has it: made piece by piece whenever it is walked through."""

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
    """A large gradient as the witness has it, made piece by piece whenever it is walked through.

    Parameters
    ----------
    shape : tuple of int
    make : callable
        Makes the pieces: where each lies, and what it is.
    keep : bool
        Put them together on the first walk, for `whole`.

    Attributes
    ----------
    is_exact : bool
        Whether no rounding has happened in what was walked through.
    failed : bool
        Whether a piece could not be made.
    """

    def __init__(
        self, shape: Shape, make: Callable[[], Iterable[tuple[Index, Bounded]]], *, keep: bool
    ) -> None:
        self.is_exact = True
        self.failed = False
        self._shape = shape
        self._make = make
        self._keep = keep
        self._whole: Bounded | None = None

    def against(self, recorded: NDArray[Any], dtype: str, allowance: float = 0.0) -> Comparison:
        """Compare a recorded gradient with it."""
        comparing = Comparing(recorded, dtype, allowance)
        try:
            for index, piece in self._walk():
                comparing.take(piece, index)
        except Unjudgeable as reason:
            self.failed, self.is_exact = True, False
            return unjudged(str(reason), recorded)
        return comparing.result()

    def whole(self) -> Bounded | None:
        """Return all of it; None if a piece could not be made."""
        if self._whole is None and not self.failed:
            self._keep = True
            try:
                for _ in self._walk():
                    pass
            except Unjudgeable:
                self.failed, self.is_exact = True, False
        return self._whole

    def _walk(self) -> Iterator[tuple[Index, Bounded]]:
        whole = None
        for index, piece in self._make():
            self.is_exact = self.is_exact and piece.is_exact
            if self._keep and self._whole is None:
                if whole is None:
                    whole = Bounded(np.empty(self._shape, piece.dtype), piece.arithmetic)
                whole[index] = piece
            yield index, piece
        self._whole = whole if self._whole is None else self._whole
