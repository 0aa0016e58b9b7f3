"""One forward and backward pass of a model that leaves no trace."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import InputError
from gradwitness.capture.again.keeping import Keeper
from gradwitness.capture.calls.source import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def left_alone(model: torch.nn.Module, inputs: Sequence[Any]) -> Iterator[None]:
    """Run a block that starts without any ``.grad``, and restore everything at its end.

    Parameters, buffers, ``.grad``, training modes and random numbers are then as they were, bit
    for bit.
    """
    tensors = list(tensors_in(list(inputs)))
    keeper = Keeper([model], tensors)
    # A model that is compiled is run eagerly on purpose.
    loaded = "torch._dynamo" in sys.modules
    stance: Any = torch.compiler.set_stance("force_eager") if loaded else contextlib.nullcontext()
    try:
        keeper.meet_given()
        for tensor in (*model.parameters(), *tensors):
            if tensor.is_leaf:
                tensor.grad = None
        yield
    finally:
        stance.__exit__(None, None, None)
        keeper.restore()


def run_once(
    model: torch.nn.Module, inputs: Sequence[Any], loss: Callable[[Any], torch.Tensor] | None
) -> None:
    """Run a model forward, and backward from its loss.

    Raises
    ------
    InputError
        If there is no scalar to run backward from.
    """
    output = model(*inputs)
    root = output if loss is None else loss(output)
    if not isinstance(root, torch.Tensor) or root.numel() != 1 or not root.requires_grad:
        what = "the model's output" if loss is None else "what the loss returns"
        raise InputError(
            f"{what} must be a scalar tensor that depends on the parameters; pass "
            "loss=lambda output: ..."
        )
    torch.autograd.backward(root)
