"""Notes of a report: habits of the program that spoil gradients though every number is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.tape import Source


@dataclass(frozen=True)
class Note:
    """One pathology, where it is, and what to do.

    Attributes
    ----------
    kind : str
        Its name, one word or two: ``stale gradient``.
    text : str
        One or two sentences.
    source : Source or None
        Where the program does it.
    call, node, sweep : int or None
        Numbers on the tape.
    """

    kind: str
    text: str
    source: Source | None = None
    call: int | None = None
    node: int | None = None
    sweep: int | None = None


def place(source: Source) -> str:
    """Return where something is, in a few words within a text: ``train.py:12``."""
    return Path(source.line).name or "no known line"
