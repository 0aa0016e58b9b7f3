"""Load weights from a file, instead of random ones."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def load_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz file of arrays by parameter name. Pickled content is refused.

    Raises
    ------
    FileFormatError
        If the file is not readable as such.
    """
    try:
        # Opened here, because np.load would leave a broken file open.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            return {name: stored[name] for name in stored.files}
    except (
        OSError,
        ValueError,
        AttributeError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        # NumPy takes for a pickle whatever it does not know, and advises to trust it.
        pickled = "it is damaged, or holds pickled objects, which are never loaded"
        why = pickled if "allow_pickle" in f"{error}" else error
        raise FileFormatError(
            f"{path}: not an .npz file of weights by parameter name ({why})"
        ) from None
