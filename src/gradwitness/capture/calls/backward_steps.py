"""The operations of a custom function's backward: which line made what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradwitness._steps import Made
from gradwitness.capture.calls.source import is_custom_backward, tensors_in, user_line

if TYPE_CHECKING:
    from collections.abc import Sequence

# Operations of one run that are noted: a loop may have any number.
_MOST = 512


class BackwardSteps:
    """Notes what runs within the custom backwards under way; it keeps no tensor."""

    def __init__(self) -> None:
        # By node, the innermost last: what was made, and the places of tensors that may still live.
        self._open: dict[int, tuple[list[Made], dict[int, int]]] = {}

    @property
    def under_way(self) -> bool:
        """Whether a custom backward runs."""
        return bool(self._open)

    def begin(self, node: int) -> None:
        """Begin with a node that is about to run."""
        self._open.pop(node, None)
        self._open[node] = [], {}

    def ran(self, func: Any, result: Any) -> None:
        """Note an operation, if it is part of one."""
        node: Any = torch._C._current_autograd_node()
        if not is_custom_backward(node):
            return
        made, places = self._open[next(reversed(self._open))]
        for tensor in tensors_in(result) if len(made) < _MOST else ():
            # One that is gone leaves its place to a later one.
            places[id(tensor)] = len(made)
            dtype = str(tensor.dtype).removeprefix("torch.")
            made.append(Made(str(func), dtype, user_line()))

    def end(self, node: int, sent: Sequence[Any]) -> tuple[Made, ...]:
        """Return what ran, now that a node has sent its gradients."""
        made, places = self._open.pop(node, ([], {}))
        for input_nr, gradient in enumerate(sent):
            place = places.get(id(gradient))
            if place is not None:
                made[place] = made[place]._replace(sent=(*made[place].sent, input_nr))
        return tuple(made)
