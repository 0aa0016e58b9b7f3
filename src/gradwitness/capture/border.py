"""Where the recorder's code runs inside of the user's program."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch

from gradwitness._failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Border:
    """Keeps what the recorder does out of the program: off its tape, and no error of it goes out.

    Once a step of the recorder has failed it takes no other one: what follows would be judged from
    half a record, and right things refuted.

    Attributes
    ----------
    failures : list of str
        What failed.
    seconds : float
        Time spent on recording.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.seconds = 0.0

    def take(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Take a step of the recorder's; return None if it fails, or if one has failed before."""
        return None if self.failures else self.attempt(step, *args, **kwargs)

    def attempt(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Take a step whatever has failed before; return None if it fails."""
        begun = time.perf_counter()
        try:
            with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
                return step(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (the program goes on, and the report tells of it)
            self.failures.append(failure(error))
            return None
        finally:
            self.seconds += time.perf_counter() - begun
