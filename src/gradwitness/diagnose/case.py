"""The case that hypotheses explain, and their explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Tape

    class Hypothesis(Protocol):
        """One kind of mistake: yields all its explanations that are worth comparing."""

        def __call__(self, case: Case) -> Iterable[Explanation]:
            """Explain a case; yield nothing where this kind of mistake is impossible."""


@dataclass(frozen=True)
class Exhibit:
    """One claimed gradient.

    Attributes
    ----------
    name : str
        The parameter's name.
    witness : ndarray
        The right gradient, float64.
    claim : ndarray
        The claimed one, float64, in the witness's shape if the size allows, else in its own.
    allowance : ndarray or float
        How far rounding may move each number.
    refuted : bool
        Whether the claim was found wrong.
    """

    name: str
    witness: NDArray[np.float64]
    claim: NDArray[np.float64]
    allowance: NDArray[np.float64] | float
    refuted: bool


@dataclass(frozen=True)
class Case:
    """Everything that is known about some claims.

    Attributes
    ----------
    exhibits : mapping of str to Exhibit
        In the order of the forward pass: the layer next to the loss comes last.
    tape : Tape or None
        The recorded program that these are the gradients of, if any.
    replay : Replay or None
        Its float64 replay.
    sweep : int
        The backward pass on the tape that the claims are about.
    skipped : set of int
        Nodes where not every mistake was tried, for want of budget; see `budget`.
    """

    exhibits: Mapping[str, Exhibit]
    tape: Tape | None = None
    replay: Replay | None = None
    sweep: int = 0
    skipped: set[int] = field(default_factory=set, compare=False)


@dataclass(frozen=True)
class Explanation:
    """One possible cause and its predictions.

    Attributes
    ----------
    cause : str
        The mistake's short name, the same everywhere: ``constant factor``.
    text : str
        One or two sentences for the person who made the mistake, with figures and location.
    predicted : mapping of str to ndarray
        The claims that this cause would produce, for every exhibit that it changes, including any
        fitted coefficient. It leaves all other gradients right.
    coefficient : float
        The fitted number (a factor, a count); nan where nothing was fitted.
    place : str
        The step or layer at fault; empty if there is no single one.
    node : int or None
        The autograd node at fault, on the tape.
    freedom : int
        How many values or places were tried before this one: the explanation that needed fewer is
        preferred.
    reveals : bool
        Whether the right numbers may follow from text and coefficient. A student is then told the
        cause's name alone. A hypothesis that fits no figure to the answer says False.
    """

    cause: str
    text: str
    predicted: Mapping[str, NDArray[np.float64]]
    coefficient: float = float("nan")
    place: str = ""
    node: int | None = None
    freedom: int = 0
    reveals: bool = True
