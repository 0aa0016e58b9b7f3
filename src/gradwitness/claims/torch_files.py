"""Tensors from files that nobody vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path


def load_tensors(path: Path) -> Any:
    """Read what ``torch.save`` wrote: tensors and containers, onto the CPU; nothing that runs code.

    Raises
    ------
    FileFormatError
        If there is anything else in it.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files fail in as many ways as there are opcodes.
        why = str(error).partition("\n")[0][:300]
        raise FileFormatError(
            f"{path}: it holds no plain tensors ({type(error).__name__}: {why}). "
            "Save a dict of tensors: torch.save({name: p.grad for name, p in "
            "model.named_parameters()}, path)."
        ) from error
