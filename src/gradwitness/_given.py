"""What a caller gave, where it is not what it should be."""

from __future__ import annotations

from gradwitness._errors import InputError
from gradwitness.tape import Tape


def require_tape(given: object, what: str) -> None:
    """Raise `InputError` unless this is a recording."""
    if not isinstance(given, Tape):
        raise InputError(
            f"{what} takes a recording (witness.tape, or load_tape(file)), not {kind(given)}"
        )


def kind(given: object) -> str:
    """Return what something is, in a few words: its type, and how it begins."""
    return f"{type(given).__name__} {given!r:.60}"
