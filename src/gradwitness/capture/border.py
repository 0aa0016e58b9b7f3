"""The border between the recorder's code and the user's program that it runs in."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import torch

from gradwitness._failure import failure
from gradwitness.capture.calls.tracing import TRACED, untraced

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_TORCH: Any = torch._C
# Looked up once: they are used around each step.
_NO_DISPATCH, _NO_FUNCTION = _TORCH._DisableTorchDispatch, _TORCH.DisableTorchFunction


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
        trace = TRACED()
        try:
            with _NO_DISPATCH(), _NO_FUNCTION():
                if trace is None:
                    return step(*args)
                with untraced(trace):
                    return step(*args)
        except Exception as error:  # noqa: BLE001 (the program goes on; the report mentions it)
            self.failures.append(failure(error))
            return None
        finally:
            self.seconds += perf_counter() - begun
