"""Torch's transformer layers, which compute otherwise where a function mode is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

if TYPE_CHECKING:
    from torch.overrides import TorchFunctionMode
    from torch.utils.hooks import RemovableHandle

# Those that ask whether a mode is on, before they compute in one kernel.
_LAYERS = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)


class FastPaths:
    """Takes a function mode away while a layer that computes no gradients runs.

    The mode sees where backward passes begin: none does there.
    """

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode = mode
        self._without: nn.Module | None = None
        self._handles: list[RemovableHandle] = []

    def start(self) -> None:
        """Follow such layers from now on."""
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._enter),
            torch_module.register_module_forward_hook(self._leave, always_call=True),
        ]

    def stop(self) -> None:
        """Remove the hooks; the mode is on again, even if an interrupt ended a layer."""
        for handle in self._handles:
            handle.remove()
        if self._without is not None:
            self._leave(self._without)

    def _enter(self, layer: nn.Module, _: Any) -> None:
        # One of the program's own, or a second recorder's, keeps the layers from it anyway.
        alone = torch._C._len_torch_function_stack() == 1
        if isinstance(layer, _LAYERS) and alone and not layer.training:
            graded = torch.is_grad_enabled() and any(p.requires_grad for p in layer.parameters())
            if torch._C._get_function_stack_at(0) is self._mode and not graded:
                torch._C._pop_torch_function_stack()
                self._without = layer

    def _leave(self, layer: nn.Module, *_: Any) -> None:
        if layer is self._without:
            torch._C._push_on_torch_function_stack(self._mode)
            self._without = None
