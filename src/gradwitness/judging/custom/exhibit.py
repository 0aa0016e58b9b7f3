"""What a custom function sent, with what it got: the material to recognise a surrogate by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# What is sent may differ from a surrogate by so many roundings of the largest number.
_ROUNDINGS = 32
# Beyond this share of the largest number a formula with fitted numbers does not fit.
_CLOSE = 1e-3
# More numbers than this tell nothing more of a curve.
_ENOUGH = 2**12


@dataclass(frozen=True)
class Surrogate:
    """A formula that fits what was sent.

    Attributes
    ----------
    kind : str
        What it is called.
    text, code : str
        The formula for people, and in NumPy.
    reads : tuple of str
        Arguments of forward in the formula.
    tolerance : float
        How far numbers that were fitted may be off; 0 if there are none.
    """

    kind: str
    text: str
    code: str
    reads: tuple[str, ...] = ()
    tolerance: float = 0.0


@dataclass(frozen=True)
class Exhibit:
    """What a surrogate may be made of.

    Attributes
    ----------
    g, sent : ndarray
        The gradient that arrived, and the one that was sent to an input.
    g_name, name : str
        What the first, and the input, are called.
    x : ndarray
        The input's numbers.
    unit : float
        The unit roundoff.
    scalars, tensors : dict
        Other arguments of forward: single numbers, and arrays that can be multiplied with ``g``.
    """

    g: Floats
    g_name: str
    sent: Floats
    name: str
    x: Floats
    unit: float
    scalars: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Floats] = field(default_factory=dict)

    @property
    def is_elementwise(self) -> bool:
        """Whether one number was sent for each that arrived."""
        return self.g.shape == self.sent.shape == self.x.shape and self.sent.size > 0

    def thinned(self) -> Exhibit:
        """Return some of many numbers."""
        if self.sent.size <= _ENOUGH or not self.is_elementwise:
            return self
        every = slice(None, None, self.sent.size // _ENOUGH)
        g, sent, x = (array.ravel()[every] for array in (self.g, self.sent, self.x))
        return replace(self, g=g, sent=sent, x=x)

    def fitting(
        self,
        kind: str,
        expected: Any,
        text: str,
        code: str,
        reads: tuple[str, ...] = (),
        *,
        by_number: bool = True,
    ) -> Iterator[Surrogate]:
        """Yield a formula if the gradient that it gives is the one that was sent.

        One with a number in it may be off by as much as that number.
        """
        largest = float(np.max(np.abs(self.sent)))
        off = float(np.max(np.abs(expected - self.sent))) / largest if largest else np.inf
        if off <= _ROUNDINGS * self.unit:
            yield Surrogate(kind, text, code, reads)
        elif by_number and off < _CLOSE:
            yield Surrogate(kind, text, code, reads, float(f"{2 * off:.0e}"))
