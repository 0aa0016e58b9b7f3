"""A claimed gradient: numbers, how exactly they were written down, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness._errors import InputError
from gradwitness._printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Claim:
    """One tensor that is claimed to be a gradient.

    Attributes
    ----------
    name : str
        As in its source.
    array : ndarray
        float16, bfloat16, float32 or float64; text is read as float64.
    rounding : ndarray or float
        How far each number may lie from the original, because only so many digits were written
        down: half a unit of the last one. 0 where the source holds the bits. An array has the shape
        of the numbers.
    dtype : str
        The format it was computed in, if the source says so; else empty.
    gaps : tuple of (int or None)
        For each axis, the index before which the source left entries out (``...`` in print), None
        where it is complete. Empty if nothing was left out. How many are missing is unknown.
    where : str
        ``file:line``, or empty.
    is_open : bool
        Whether its entries came one by one, each with its index: others may be missing at the ends.
    """

    name: str
    array: NDArray[Any]
    rounding: NDArray[Any] | float = 0.0
    dtype: str = ""
    gaps: tuple[int | None, ...] = ()
    where: str = ""
    is_open: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether no entries were left out."""
        return all(gap is None for gap in self.gaps)


Run: TypeAlias = dict[str, Claim]  # by the claim's own name, in the source's order


@dataclass(frozen=True)
class Claims:
    """The claims of one source.

    Attributes
    ----------
    source : str
        Its name in messages: a file's name, ``a dict``, a function's name.
    runs : tuple of Run
        One for each backward pass; a file may hold several.
    notes : tuple of str
        What was ambiguous in the source, and how it was understood.
    unverified : tuple of callable
        Each raises `FileFormatError` if a part of the file is not what was written.
    """

    source: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())
    unverified: tuple[Callable[[], None], ...] = field(default=(), repr=False, compare=False)

    def verify(self) -> None:
        """Raise `FileFormatError` if a part of the file is not what was written."""
        for verify in self.unverified:
            verify()

    def __post_init__(self) -> None:
        # Whoever shows a name need not think of what may be in it.
        object.__setattr__(self, "source", one_line(self.source))
        object.__setattr__(self, "notes", tuple(map(one_line, self.notes)))
        object.__setattr__(self, "runs", tuple(_in_one_line(run, self.source) for run in self.runs))


def _in_one_line(run: Run, source: str) -> Run:
    """Return a run whose names are fit to be shown."""
    if all(name.isprintable() for name in run):
        return run
    shown = {one_line(name): replace(c, name=one_line(c.name)) for name, c in run.items()}
    if len(shown) < len(run):
        raise InputError(
            f"{source}: two names differ in characters that cannot be seen; rename one"
        )
    return shown
