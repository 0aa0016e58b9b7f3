"""Load weights from a file, instead of random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.claims.binary import read_arrays
from gradwitness.files.named import require_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def load_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz file of arrays by parameter name. Pickled content is refused.

    Raises
    ------
    InputError
        If there is no such file; `FileFormatError` if it is not readable as such.
    """
    require_file(path)
    return read_arrays(path)
