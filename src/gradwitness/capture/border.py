"""The border between the recorder's code and the user's program that it runs in."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import torch

from gradwitness._failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
# Torch's types leave out that its tracer's state can be set.
_TRACER: Any = torch._C


class Border:
    """Keeps the recorder's work off the tape and its errors out of the program.

    Once a step has failed the recorder takes no other: with half a record, right gradients would be
    refuted.

    Attributes
    ----------
    failures : list of str
        Descriptions of the failures.
    seconds : float
        Time spent on recording.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.seconds = 0.0

    def take(self, step: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Run a step of the recorder; return None if it fails, or if one has failed before."""
        return None if self.failures else self.attempt(step, *args)

    def attempt(self, step: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Run a step even after a failure; return None if it fails."""
        begun = perf_counter()
        # What `torch.jit.trace` writes down is the program's alone.
        traced = _TRACER._get_tracing_state()
        if traced is not None:
            _TRACER._set_tracing_state(None)
        try:
            with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
                return step(*args)
        except Exception as error:  # noqa: BLE001 (the program goes on; the report mentions it)
            self.failures.append(failure(error))
            return None
        finally:
            if traced is not None:
                _TRACER._set_tracing_state(traced)
            self.seconds += perf_counter() - begun
