"""Load tensors from untrusted files."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path


def load_tensors(path: Path) -> Any:
    """Load tensors and containers of ``torch.save`` onto the CPU, without running code.

    The tensors of a zip file, which torch has written since 1.6, are mapped.
    """
    try:
        is_zip = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:
        # Damaged files fail in as many ways as there are opcodes; torch advises to trust them all.
        raise FileFormatError(
            f"{path}: not a file of plain tensors ({type(error).__name__}). "
            "Save a dict of tensors: torch.save({name: p.grad for name, p in "
            "model.named_parameters()}, path)."
        ) from error
