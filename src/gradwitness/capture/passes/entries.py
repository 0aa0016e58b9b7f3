"""Where backward passes start: torch's entry points and their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.calls.source import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Request:
    """What a program asked of autograd: from where, with which gradients, for which inputs.

    Attributes
    ----------
    retains, creates : bool
        Whether the graph is kept, and whether one of the pass itself is made.
    """

    roots: list[torch.Tensor]
    seeds: list[torch.Tensor | None]
    inputs: list[torch.Tensor] | None
    retains: bool
    creates: bool


def _request(roots: Any, seeds: Any, inputs: Any, retain: Any, create: Any) -> Request:
    roots = list(tensors_in(roots))
    seeds = [None] * len(roots) if seeds is None else list(tensors_in(seeds, keep_none=True))
    inputs = None if inputs is None else list(tensors_in(inputs))
    return Request(roots, seeds, inputs, bool(create if retain is None else retain), bool(create))


def _of_method(
    tensor: Any,
    gradient: Any = None,
    retain_graph: Any = None,
    create_graph: Any = False,
    inputs: Any = None,
) -> Request:
    return _request(tensor, gradient, inputs, retain_graph, create_graph)


def _of_backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: Any = None,
    create_graph: Any = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> Request:
    seeds = grad_variables if grad_tensors is None else grad_tensors
    return _request(tensors, seeds, inputs, retain_graph, create_graph)


def _of_grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: Any = None,
    create_graph: Any = False,
    *_: Any,
    **__: Any,
) -> Request:
    return _request(outputs, grad_outputs, inputs, retain_graph, create_graph)


ENTRIES: dict[Any, Callable[..., Request]] = {
    torch.Tensor.backward: _of_method,
    torch.autograd.backward: _of_backward,
    torch.autograd.grad: _of_grad,
}


def edge_of(tensor: torch.Tensor) -> Any:
    """Return where a tensor's gradient arrives; None if it has none, or not at this level.

    Inside a transform (torch.func, vmap), a tensor's graph may belong to another level.
    """
    if not tensor.requires_grad:
        return None
    try:
        return torch.autograd.graph.get_gradient_edge(tensor)
    except (AssertionError, AttributeError, RuntimeError):
        return None
