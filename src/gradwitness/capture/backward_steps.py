"""The operations of a custom function's backward: which line made what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradwitness._steps import Made
from gradwitness.capture.source import tensors_in, user_line

if TYPE_CHECKING:
    from collections.abc import Sequence

# Operations of one run that are noted: a loop may have any number.
_MOST = 512


class BackwardSteps:
    """Notes what runs within the custom backward under way; it keeps no tensor."""

    def __init__(self) -> None:
        self._made: dict[int, Made] = {}
        self._ids: dict[int, int] = {}

    def begin(self) -> None:
        """Begin with a node that is about to run."""
        self._made.clear()
        self._ids.clear()

    def ran(self, func: Any, result: Any) -> None:
        """Note an operation, if it is part of one."""
        node: Any = torch._C._current_autograd_node()
        if not isinstance(node, torch.autograd.function.BackwardCFunction):
            return
        number = len(self._made)
        for tensor in tensors_in(result) if number < _MOST else ():
            dtype = str(tensor.dtype).removeprefix("torch.")
            self._made[number] = Made(str(func), dtype, user_line())
            # One that is gone leaves its place to a later one.
            self._ids[id(tensor)] = number

    def end(self, sent: Sequence[Any]) -> tuple[Made, ...]:
        """Return what ran, now that a node has sent its gradients."""
        for input_nr, gradient in enumerate(sent):
            number = self._ids.get(id(gradient))
            if number is not None:
                made = self._made[number]
                self._made[number] = made._replace(sent=(*made.sent, input_nr))
        made, self._made = tuple(self._made.values()), {}
        self._ids.clear()
        return made
