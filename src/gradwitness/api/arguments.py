"""What a program may give to `watch`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def require_usable(
    models: Iterable[Any],
    names: Mapping[str, Any],
    keep: int | str | None,
    rerun: bool | Collection[Any],
) -> None:
    """Look at what is to be watched, and how.

    Raises
    ------
    InputError
        If something is not what it must be.
    """
    if isinstance(keep, str) or (keep is not None and keep < 0):
        raise InputError(f"keep={keep!r} bytes: give 0 or more, or None to keep everything")
    for model in models:
        if not hasattr(model, "named_modules"):
            raise InputError(f"watch takes models (torch.nn.Module), not {_kind(model)}")
    for name, tensor in names.items():
        if not hasattr(tensor, "untyped_storage"):
            raise InputError(f"names: {name!r} must name a tensor, not {_kind(tensor)}")
    if isinstance(rerun, str) or not isinstance(rerun, bool | Collection):
        raise InputError(
            f"rerun={rerun!r}: give True, False, or a list of functions or their names"
        )


def _kind(item: object) -> str:
    return f"{type(item).__name__} {item!r:.60}"
