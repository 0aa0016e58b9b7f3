"""Which kernel torch uses for a convolution: it decides where sums are rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_aten: Any = torch.ops.aten
_CONVOLUTIONS = (_aten.convolution.default, _aten.convolution_backward.default)
_HOW = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")


def adds_in_parts(func: Any, bound: Iterable[tuple[str, Any, bool]]) -> bool:
    """Whether a call is a convolution by one of torch's own kernels, in 16 bits.

    Those store partial sums in the tensors' format. Torch uses them where oneDNN does not support
    the format on this processor: float16 on most, bfloat16 on those without AVX-512.
    """
    if func not in _CONVOLUTIONS:
        return False
    arguments = {name: argument for name, argument, _ in bound}
    x, w = arguments["input"], arguments["weight"]
    if w.dtype not in (torch.float16, torch.bfloat16):
        return False
    chosen: Any = torch._C._select_conv_backend(x, w, None, *(arguments[name] for name in _HOW))
    return str(chosen.name).startswith("Slow")
