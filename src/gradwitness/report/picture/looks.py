"""Colours and words that all writers of pictures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.report.picture.picture import Flow, Role
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Picture

FONT = "DejaVu Sans Mono"
TEXT = "#1f2933"
QUIET = "#52606d"
GRADIENT = "#37474f"
SAVED = "#7b6d8d"
PAPER = "#ffffff"


@dataclass(frozen=True)
class Ink:
    """Colours of a box: its edge and badge, its ground, and how thick the edge is."""

    edge: str
    ground: str
    thickness: float


UNJUDGED = Ink("#64748b", "#f5f7fa", 1.2)
# Blue-green, orange-red and amber-grey differ for every common kind of colour blindness,
# and in lightness and thickness of edge too.
INKS = {
    Verdict.AGREES: Ink("#00796b", "#e3f4f1", 1.5),
    Verdict.DISAGREES: Ink("#c8370a", "#fde6dc", 3.0),
    Verdict.INCONCLUSIVE: Ink("#8a6d1a", "#f7f1dc", 2.0),
}

ROLE_WORDS = {
    Role.RESULT: "result: backward starts here",
    Role.OPERATION: "autograd node of an operation",
    Role.CUSTOM: "node of a custom autograd.Function",
    Role.LEAF: "leaf: collects a gradient",
    Role.SAVED: "tensor kept from the forward pass",
    Role.INPUT: "data that collects no gradient",
}
VERDICT_WORDS = {
    Verdict.AGREES: "AGREES with the witness",
    Verdict.DISAGREES: "DISAGREES with the witness",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE: could not be judged",
}
MARKS = {Verdict.AGREES: "\u2713", Verdict.DISAGREES: "\u2717", Verdict.INCONCLUSIVE: "?"}
FLOW_WORDS = {
    Flow.GRADIENT: "the gradient flows this way",
    Flow.SAVED: "keeps this for its backward formula",
}
CUT_WORDS = (
    "Arrows that lead past very many layers are cut: what leaves at \u201cto (n)\u201d "
    "arrives at the box with the number (n)."
)


def ink_of(verdict: Verdict | None) -> Ink:
    """Return the colours of a box with this verdict."""
    return UNJUDGED if verdict is None else INKS[verdict]


def number_boxes(picture: Picture) -> dict[str, int]:
    """Map each key to the place of its box, and make sure that the picture holds together.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    dict of str to int
        Position of each box in ``picture.boxes``.

    Raises
    ------
    ValueError
        If two boxes share a key, or an arrow names a key that no box has.
    """
    numbers: dict[str, int] = {}
    for number, box in enumerate(picture.boxes):
        if numbers.setdefault(box.key, number) != number:
            raise ValueError(f"two boxes of the picture have the key {box.key!r}")
    for arrow in picture.arrows:
        for key in (arrow.source, arrow.target):
            if key not in numbers:
                raise ValueError(f"an arrow names the key {key!r}, which no box has")
    return numbers
