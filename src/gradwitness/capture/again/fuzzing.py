"""A function of the program with inputs of other shapes, strides and numbers, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.capture.again.aside import aside, attempt, numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from gradwitness.judging.fuzz.drawn import Drawn


class Refunction:
    """A function that runs on tensors drawn for it: a `gradwitness.judging.fuzz.drawn.Subject`.

    Parameters
    ----------
    apply : callable
        Maps tensors, by number, to a list of results.
    device : mapping of int to device
        Where each tensor is.
    """

    def __init__(
        self,
        apply: Callable[[Mapping[int, torch.Tensor]], Sequence[torch.Tensor | None]],
        given: Mapping[int, Drawn],
        names: Mapping[int, str],
        graded: tuple[int, ...],
        device: Mapping[int, torch.device],
    ) -> None:
        self._apply = apply
        self._device = device
        self.given = given
        self.names = names
        self.graded = graded

    def aside(self) -> AbstractContextManager[None]:
        """Leave no trace of what runs within."""
        return aside()

    def forward(self, inputs: Mapping[int, Drawn]) -> list[NDArray[Any] | None]:
        """Return its results; raise Unjudgeable if it fails."""
        tensors = self._tensors(inputs)
        return [None if y is None else numbers_of(y) for y in attempt(lambda: self._run(tensors))]

    def backward(
        self, inputs: Mapping[int, Drawn], cotangents: Sequence[Drawn | None]
    ) -> dict[int, NDArray[Any]]:
        """Return the gradients in question; raise Unjudgeable if it fails."""
        tensors = self._tensors(inputs)

        def sent() -> Sequence[torch.Tensor | None]:
            pairs = [
                (result, _placed(g, result.device))
                for result, g in zip(self._run(tensors), cotangents, strict=False)
                if g is not None and result is not None
            ]
            results, arrived = zip(*pairs, strict=True) if pairs else ((), ())
            graded = [tensors[number] for number in self.graded]
            # The program's own formula, not torch's, where the function is one of its own.
            return torch.autograd.grad(results, graded, arrived, allow_unused=True)

        found = {}
        for number, gradient in zip(self.graded, attempt(sent), strict=True):
            zeros = np.zeros(inputs[number].array.shape)
            numbers = None if gradient is None else numbers_of(gradient)
            found[number] = zeros if numbers is None else numbers
        return found

    def _run(self, tensors: Mapping[int, torch.Tensor]) -> list[torch.Tensor | None]:
        """Return the results that gradients lead from, and None for others."""
        for number in self.graded:
            tensors[number].requires_grad_()
        with torch.enable_grad():
            results = self._apply(tensors)
        return [None if y is None or not y.requires_grad else y for y in results]

    def _tensors(self, inputs: Mapping[int, Drawn]) -> dict[int, torch.Tensor]:
        return {n: _placed(drawn, self._device[n]) for n, drawn in inputs.items()}


def _placed(drawn: Drawn, device: torch.device) -> torch.Tensor:
    """Return a tensor of these numbers that lies in memory as they shall."""
    memory, shape = drawn.memory, drawn.array.shape
    tensor = torch.from_numpy(np.array(drawn.array)).to(device)
    if drawn.is_contiguous:
        return tensor
    for axis in memory.repeated:
        tensor = tensor.narrow(axis, 0, 1)
    order = memory.order or tuple(range(len(shape)))
    # Its memory holds no more than it repeats.
    tensor = tensor.permute(order).clone(memory_format=torch.contiguous_format)
    if memory.gapped:
        tensor = torch.stack((tensor, torch.zeros_like(tensor)), -1)[..., 0]
    back = sorted(range(len(order)), key=lambda place: order[place])
    return tensor.permute(back).expand(shape)
