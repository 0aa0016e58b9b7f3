"""All that a file says, to be compared with what it says when it is read in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path


def told(path: Path) -> Any:
    """Return the notes and tensors of a file, or why it cannot be read."""
    try:
        claims = read_claims(path)
    except FileFormatError as error:
        return str(error)
    return claims.notes, [
        [
            (c.name, c.where, c.is_open, c.array.shape, c.array.tobytes(), rounding.tobytes())
            for c in run.values()
            for rounding in [np.broadcast_to(c.rounding, c.array.shape)]
        ]
        for run in claims.runs
    ]
