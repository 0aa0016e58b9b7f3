"""The labelled graph as plain records, the input of every layout and writer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.verdict import Verdict


class Role(Enum):
    """What a box stands for; every writer gives each role its own shape."""

    RESULT = "result"  # the value that backward was called on
    OPERATION = "operation"  # an autograd node of an ATen operation
    CUSTOM = "custom"  # an autograd node of a user's autograd.Function
    LEAF = "leaf"  # AccumulateGrad: a parameter or an input that collects a gradient
    SAVED = "saved"  # a tensor that a node kept from the forward pass


class Flow(Enum):
    """What an arrow stands for."""

    GRADIENT = "gradient"  # the cotangent flows from source to target
    SAVED = "saved"  # the source keeps the target for its backward formula


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


@dataclass(frozen=True)
class Arrow:
    """One directed connection, from ``source`` to ``target`` (keys of boxes)."""

    source: str
    target: str
    flow: Flow
    label: str = ""


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
