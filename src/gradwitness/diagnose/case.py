"""The case that hypotheses explain, and their explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness._steps import Made
    from gradwitness.diagnose.factor_names import Number
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Tape

    class Hypothesis(Protocol):
        """One kind of mistake: yields all its explanations that are worth comparing."""

        def __call__(self, case: Case) -> Iterable[Explanation]:
            """Explain a case; yield nothing where this kind of mistake is impossible."""


@dataclass(frozen=True)
class Exhibit:
    """One claimed gradient."""

    name: str  # the parameter's name
    witness: NDArray[np.float64]  # the right gradient, float64
    # The claimed one, float64, in the witness's shape if the size allows, else in its own.
    claim: NDArray[np.float64]
    allowance: NDArray[np.float64] | float  # how far rounding may move each number
    refuted: bool  # whether the claim was found wrong


@dataclass(frozen=True)
class Alone:
    """What is known of a custom function's run besides its forward and its gradients.

    Attributes
    ----------
    numbers : tuple of Number
        Numbers that forward was called with, and that its operations were.
    overwrites : bool
        Whether its backward wrote to the memory of what arrived.
    absent : collection of str
        Inputs that got no gradient at all.
    steps : tuple of Made
        The operations of its backward.
    misread : mapping of int to ndarray
        Incoming gradients as they read if their strides are ignored, where that matters.
    later : mapping of int to ndarray
        What became of values of the forward whose memory was written to before the backward ran.
    """

    numbers: tuple[Number, ...] = ()
    overwrites: bool = False
    absent: Collection[str] = ()
    steps: tuple[Made, ...] = ()
    misread: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    later: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Everything that is known about some claims."""

    # In the order of the forward pass: the layer next to the loss comes last.
    exhibits: Mapping[str, Exhibit]
    tape: Tape | None = None  # the recorded program that these are the gradients of, if any
    replay: Replay | None = None  # its float64 replay
    sweep: int = 0  # the backward pass on the tape that the claims are about
    # Nodes where not every mistake was tried, for want of budget; see `budget`.
    skipped: set[int] = field(default_factory=set, compare=False)
    alone: Alone | None = None  # of a single custom function: the exhibits are those of its inputs


@dataclass(frozen=True)
class Explanation:
    """One possible cause and its predictions."""

    cause: str  # the mistake's short name, the same everywhere: `constant factor`
    text: str  # one or two sentences for the person who made the mistake, with figures and location
    # The claims that this cause would produce, for every exhibit that it changes, including any
    # fitted coefficient. It leaves all other gradients right.
    predicted: Mapping[str, NDArray[np.float64]]
    # The fitted number (a factor, a count); nan where nothing was fitted.
    coefficient: float = float("nan")
    place: str = ""  # the step or layer at fault; empty if there is no single one
    node: int | None = None  # the autograd node at fault, on the tape
    # How many values or places were tried before this one: the explanation that needed fewer is
    # preferred.
    freedom: int = 0
    # Whether the right numbers may follow from text and coefficient. A student is then told the
    # cause's name alone. A hypothesis that fits no figure to the answer says False.
    reveals: bool = True
