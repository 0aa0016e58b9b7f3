"""TOML that somebody else may have written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from gradwitness._errors import FileFormatError
from gradwitness.files.named import require_file, unreadable

if TYPE_CHECKING:
    from pathlib import Path

# Nobody writes more by hand. Reading takes time with the square of the length of a table's name.
_MOST_BYTES = 2**17


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file; raise `InputError` if it cannot be read, `FileFormatError` if it is not TOML."""
    require_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) > _MOST_BYTES:
        raise FileFormatError(f"{path} is not TOML: it has more than {_MOST_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not TOML: {error}") from None
