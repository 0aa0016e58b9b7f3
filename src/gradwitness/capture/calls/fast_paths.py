"""Torch's transformer layers, which compute otherwise where a function mode is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.overrides import TorchFunctionMode

# Those that ask whether a mode is on, before they compute in one kernel.
_LAYERS = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)


class FastPaths:
    """Takes a function mode away while a layer that computes no gradients runs.

    The mode sees where backward passes begin: none does there.
    """

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode = mode
        self._without: nn.Module | None = None

    def stop(self) -> None:
        """Put the mode back if an interrupt ended a layer."""
        if self._without is not None:
            self.leave(self._without)

    def enter(self, layer: nn.Module) -> None:
        """Take the mode away if a layer that begins is one."""
        # One of the program's own, or a second recorder's, keeps the layers from it anyway.
        alone = torch._C._len_torch_function_stack() == 1
        if isinstance(layer, _LAYERS) and alone and not layer.training:
            graded = torch.is_grad_enabled() and any(p.requires_grad for p in layer.parameters())
            if torch._C._get_function_stack_at(0) is self._mode and not graded:
                torch._C._pop_torch_function_stack()
                self._without = layer

    def leave(self, layer: nn.Module) -> None:
        """Put the mode back if it was taken away for a layer."""
        if layer is self._without:
            torch._C._push_on_torch_function_stack(self._mode)
            self._without = None
