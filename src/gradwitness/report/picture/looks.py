"""Colours and words that all writers of pictures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.report.picture.picture import Flow, Role
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Box, Picture

FONT = "DejaVu Sans Mono"
TEXT = "#1f2933"
QUIET = "#52606d"
GRADIENT = "#37474f"
SAVED = "#7b6d8d"
MISSING = "#8a6d1a"
WRONG = "#c8370a"
INHERITS_GROUND = "#fff6f0"
PAPER = "#ffffff"


@dataclass(frozen=True)
class Ink:
    """Colours of a box (edge and badge, ground), and thickness and dashes of its edge."""

    edge: str
    ground: str
    thickness: float
    dashes: str = ""


UNJUDGED = Ink("#64748b", "#f5f7fa", 1.2)
# Blue-green, orange-red and amber-grey differ for every common kind of colour blindness,
# and also in lightness and thickness of edge.
INKS = {
    Verdict.AGREES: Ink("#00796b", "#e3f4f1", 1.5),
    Verdict.DISAGREES: Ink(WRONG, "#fde6dc", 3.0),
    Verdict.INCONCLUSIVE: Ink("#8a6d1a", "#f7f1dc", 2.0),
}

ROLE_WORDS = {
    Role.RESULT: "result: backward starts here",
    Role.OPERATION: "autograd node of an operation",
    Role.CUSTOM: "node of a custom autograd.Function",
    Role.LEAF: "leaf: accumulates a gradient",
    Role.SAVED: "tensor saved in the forward pass",
    Role.GROUP: "several nodes, folded",
    Role.MISSING: "gets no gradient",
}
VERDICT_WORDS = {
    Verdict.AGREES: "AGREES with the witness",
    Verdict.DISAGREES: "DISAGREES with the witness",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE: could not be judged",
}
MARKS = {Verdict.AGREES: "\u2713", Verdict.DISAGREES: "\u2717", Verdict.INCONCLUSIVE: "?"}
FLOW_WORDS = {
    Flow.GRADIENT: "the gradient flows this way",
    Flow.SAVED: "saved for its backward formula",
    Flow.MISSING: "no gradient flows this way",
}
WRONG_WORDS = "a wrong gradient"
INHERITS_WORDS = "runs on a wrong gradient"
CUT_WORDS = (
    "Arrows across very many layers, or to what very many boxes share, are cut: one that leaves at "
    "\u201cto (n)\u201d arrives at the box numbered (n)."
)


def ink_of(verdict: Verdict | None, *, inherits: bool = False) -> Ink:
    """Return the colours of a box with this verdict, and of what runs on a wrong gradient."""
    ink = UNJUDGED if verdict is None else INKS[verdict]
    if inherits and verdict is not Verdict.DISAGREES:
        return Ink(WRONG, INHERITS_GROUND, 2.0, "9 4")
    return ink


def verdict_lines(box: Box) -> list[str]:
    """Return what stands below the text of a box: its verdict, and whether it inherits an error."""
    return [text for text in (box.verdict_text, INHERITS_WORDS if box.inherits else "") if text]


def number_boxes(picture: Picture) -> dict[str, int]:
    """Map each key to the position of its box.

    Raises ValueError if two boxes share a key, or an arrow names a key that no box has.
    """
    numbers: dict[str, int] = {}
    for number, box in enumerate(picture.boxes):
        if numbers.setdefault(box.key, number) != number:
            raise ValueError(f"two boxes have the key {box.key!r}")
    for arrow in picture.arrows:
        for key in (arrow.source, arrow.target):
            if key not in numbers:
                raise ValueError(f"an arrow names the key {key!r}, but no box has it")
    return numbers
