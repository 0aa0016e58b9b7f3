"""What a program may give to `watch`."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError, MissingExtraError
from gradwitness._given import kind
from gradwitness._room import Room
from gradwitness.judging.depth import FULL, SAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gradwitness.capture import Recorder


KEEP = Room(all=2**24, lasting=2**30)
AUTO = "auto"


def room_for(keep: int | str | None, depth: str) -> Room | None:
    """Return how many bytes to keep of all values, and of those that last; None for no limit.

    Raises
    ------
    InputError
        If it is no number of bytes.
    """
    if keep == AUTO:
        return KEEP if depth == FULL else Room(0)
    if isinstance(keep, str) or (keep is not None and keep < 0):
        raise InputError(f"keep={keep!r} bytes: give 0 or more, or None to keep everything")
    return None if keep is None else Room(keep)


def share(budget: Any, depth: str) -> float:
    """Return what watching may cost, as a share of what it watches.

    Raises
    ------
    InputError
        If it is no share, or not all blocks are to be sampled.
    """
    if depth != SAMPLE:
        raise InputError(f"budget={budget!r} needs depth='sample'")
    is_number = isinstance(budget, Real) and not isinstance(budget, bool)
    if not is_number or not 0 < budget <= 1:
        raise InputError(f"budget={budget!r}: give a fraction between 0 and 1, such as 0.01")
    return float(budget)


def require_usable(
    models: Iterable[Any],
    names: Mapping[str, Any],
    rerun: bool | Collection[Any],
) -> None:
    """Look at what is to be watched, and how.

    Raises
    ------
    InputError
        If something is not what it must be.
    """
    for model in models:
        if not hasattr(model, "named_modules"):
            raise InputError(f"watch takes models (torch.nn.Module), not {kind(model)}")
    for name, tensor in names.items():
        if not hasattr(tensor, "untyped_storage"):
            raise InputError(f"names: {name!r} must name a tensor, not {kind(tensor)}")
    if isinstance(rerun, str) or not isinstance(rerun, bool | Collection):
        raise InputError(
            f"rerun={rerun!r}: give True, False, or a list of functions or their names"
        )


def recorder_class() -> type[Recorder]:
    """Return what records a program, which takes PyTorch.

    Raises
    ------
    MissingExtraError
        If there is none.
    """
    try:
        from gradwitness.capture import Recorder
    except ImportError as error:
        raise MissingExtraError(
            f"recording needs PyTorch ({error}): pip install 'gradwitness[torch]'"
        ) from None
    return Recorder
