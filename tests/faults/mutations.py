"""Single faults for any backward step: what one node sends along one edge is changed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# From the right outgoing gradient, and what came in, to a wrong one; None where it cannot be made.


def sign(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    return -sent


def factor(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    return 2 * sent


def slightly_off(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    return 1.001 * sent


def transposed(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    """The last two axes are swapped where that is possible, else the last one runs backwards."""
    if sent.ndim >= 2 and sent.shape[-1] == sent.shape[-2] > 1:
        return sent.transpose(-1, -2).contiguous()
    return sent.flip(-1) if sent.ndim and sent.shape[-1] > 1 else None


def dropped_term(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    """A quarter of the gradient is missing, as where one of several uses is forgotten."""
    if sent.numel() < 2:
        return None
    wrong = sent.clone()
    wrong.view(-1)[: max(1, sent.numel() // 4)] = 0
    return wrong


def dropped_mask(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    """What came in goes out as it is."""
    if arrived is None or (arrived.shape, arrived.dtype) != (sent.shape, sent.dtype):
        return None
    return arrived.clone()


def one_element(sent: Tensor, arrived: Tensor | None) -> Tensor | None:
    if not sent.numel():
        return None
    wrong = sent.clone()
    flat = wrong.view(-1)
    flat[int(sent.abs().argmax())] *= 1.5
    return wrong


MUTATIONS: dict[str, Any] = {
    "sign": sign,
    "factor 2": factor,
    "transpose": transposed,
    "dropped term": dropped_term,
    "dropped mask": dropped_mask,
    "one element": one_element,
    "times 1.001": slightly_off,
}


class Numbers(TorchFunctionMode):
    """While entered, numbers nodes as a tape does: pass by pass, breadth first.

    Attributes
    ----------
    nodes : list
        Those behind the gradients that were asked for, as in a penalty on them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.autograd.grad:
            outputs = args[0] if args else kwargs["outputs"]
            self.behind([outputs] if isinstance(outputs, Tensor) else outputs)
        return func(*args, **kwargs)

    def behind(self, roots: Iterable[Tensor]) -> list[Any]:
        """Return the nodes so far, and those behind more roots."""
        waiting = [root.grad_fn for root in roots]
        seen = set(self.nodes)
        for node in waiting:
            if node is not None and node not in seen:
                seen.add(node)
                self.nodes.append(node)
                waiting.extend(target for target, _ in node.next_functions)
        return self.nodes


@contextlib.contextmanager
def planted(node: Any, input_nr: int, mutation: Any) -> Iterator[list[float]]:
    """Change what a node sends along one edge; yields a list that gets the size of the change.

    The size is the largest change of an element. It stays empty where there is nothing to change.
    """
    sizes: list[float] = []
    came: list[Tensor | None] = []

    def before(arrived: Any) -> None:
        came[:] = list(arrived)

    def after(outgoing: Any, _: Any) -> Any:
        sent = outgoing[input_nr]
        if sent is None:
            return None
        with torch.no_grad():
            whole = sent.contiguous()
            wrong = mutation(whole, came[0] if came else None)
            if wrong is None:
                return None
            change = (wrong - whole).abs().max().item()
        if not change > 0:
            return None
        sizes.append(float(change))
        return tuple(wrong if n == input_nr else g for n, g in enumerate(outgoing))

    handles = [node.register_prehook(before), node.register_hook(after)]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()
