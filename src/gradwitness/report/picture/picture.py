"""The labelled graph as plain records, the input of every layout and writer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gradwitness.judging.numbers import short

if TYPE_CHECKING:
    from gradwitness.verdict import Verdict


class Role(Enum):
    """What a box stands for; every writer gives each role its own shape."""

    RESULT = "result"  # the value that backward was called on
    OPERATION = "operation"  # an autograd node of an ATen operation
    CUSTOM = "custom"  # an autograd node of a user's autograd.Function
    LEAF = "leaf"  # AccumulateGrad: a parameter or an input that collects a gradient
    SAVED = "saved"  # a tensor that a node kept from the forward pass
    GROUP = "group"  # several nodes, folded into one box
    MISSING = "missing"  # what gets no gradient: frozen, detached, unused, integers


class Direction(Enum):
    """Where the gradients flow to on the page."""

    DOWN = "down"
    RIGHT = "right"
    FIT = "fit"  # of few boxes whichever is larger on a landscape page, of many down


class Flow(Enum):
    """What an arrow stands for."""

    GRADIENT = "gradient"  # the cotangent flows from source to target
    SAVED = "saved"  # the source keeps the target for its backward formula
    MISSING = "missing"  # the source used the target, but sends no gradient there


@dataclass(frozen=True)
class Box:
    """One labelled node."""

    key: str  # unique within its picture
    role: Role  # chooses the shape
    title: str  # first line, set in bold
    lines: tuple[str, ...]  # further lines: expression, shapes, formula, module path
    # Chooses colour and badge; None where there is nothing to judge (saved tensors, data).
    verdict: Verdict | None = None
    verdict_text: str = ""  # the verdict in words, with its figure: `AGREES  0.31 of bound`
    note: str = ""  # longer text (definition of the node kind); a tooltip where the format has them
    short: str = ""  # name and shape in one line: all that a compact picture shows
    path: tuple[str, ...] = ()  # the module that it belongs to, from the outermost inwards
    line: str = ""  # `file:line` of the program
    when: int | None = None  # position of its operation in the program's order; None: no operation
    is_view: bool = False  # whether its operation computes nothing, but shows the same numbers
    inherits: bool = False  # whether it runs on a gradient that an earlier step made wrong
    shape: str = ""  # of a leaf: the shape of its gradient
    norms: tuple[float, ...] = ()  # of a leaf: the norm of its gradient; none: unknown


@dataclass(frozen=True)
class Arrow:
    """One directed connection, from ``source`` to ``target`` (keys of boxes)."""

    source: str
    target: str
    flow: Flow
    label: str = ""
    shape: str = ""  # of the gradient
    norms: tuple[float, ...] = ()  # of the gradients: one, or of a folded arrow all; none: unknown
    wrong: bool = False  # whether the gradient is wrong, by its own step or by an earlier one

    @property
    def text(self) -> str:
        """Everything that is written on it: which gradient, its shape, its norm."""
        ends = [short(end(self.norms)) for end in (min, max)] if self.norms else []
        parts = (self.label, self.shape, "..".join(dict.fromkeys(ends)))
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Picture:
    """A whole labelled graph."""

    title: str
    subtitle: str  # what was run, in one line
    boxes: tuple[Box, ...]
    # Several arrows may join the same two boxes; no arrow joins a box to itself.
    arrows: tuple[Arrow, ...]
    # Sentences for the bottom of the picture (direction of arrows and the like).
    legend: tuple[str, ...] = ()
    direction: Direction = Direction.DOWN
