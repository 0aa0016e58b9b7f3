"""What a hypothesis is given to explain, and what it answers."""

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
        """One kind of fault: yields every explanation of it that is worth comparing."""

        def __call__(self, case: Case) -> Iterable[Explanation]:
            """Explain a case; yield nothing where this kind of fault is out of the question."""


@dataclass(frozen=True)
class Exhibit:
    """One gradient of which there is a claim.

    Attributes
    ----------
    name : str
        The parameter's name.
    witness : ndarray
        What it should be, float64.
    claim : ndarray
        What it is claimed to be, float64, in the witness's shape if its size allows (else in its
        own).
    allowance : ndarray or float
        How far the two may lie apart by rounding, for each number.
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
    """Everything that is known.

    Attributes
    ----------
    exhibits : mapping of str to Exhibit
        In the order of the forward pass: the layer next to the loss comes last.
    tape : Tape or None
        The recorded program of which these are the gradients, if there is one.
    replay : Replay or None
        Its float64 replay.
    sweep : int
        The backward pass on the tape that the claims are about.
    skipped : set of int
        Nodes at which not every mistake was tried, because enough had been; see `effort`.
    """

    exhibits: Mapping[str, Exhibit]
    tape: Tape | None = None
    replay: Replay | None = None
    sweep: int = 0
    skipped: set[int] = field(default_factory=set, compare=False)


@dataclass(frozen=True)
class Explanation:
    """One possible cause and what speaks for it.

    Attributes
    ----------
    cause : str
        The fault's short name, the same wherever it appears: ``constant factor``.
    text : str
        One or two sentences for the person who made the mistake, figures and place included.
    predicted : mapping of str to ndarray
        What the claims would be if this were the cause, for every exhibit that it changes: fitted
        coefficient included. What is not in it, it leaves right.
    coefficient : float
        The fitted number (a factor, a count); nan where nothing was fitted.
    place : str
        The step or layer at fault; empty if the fault is no single step's.
    node : int or None
        The autograd node at fault, on the tape.
    freedom : int
        How many numbers were fitted or places tried before this one: what fits with less is
        believed first.
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
