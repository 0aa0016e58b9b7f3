"""Which kernel torch uses for a convolution: it decides where sums are rounded."""

from __future__ import annotations

from typing import Any

import torch

_aten: Any = torch.ops.aten
CONVOLUTIONS = (_aten.convolution.default, _aten.convolution_backward.default)
_HOW = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")


def adds_in_parts(arguments: dict[str, Any]) -> bool:
    """Whether a convolution runs in 16 bits and by one of torch's own kernels.

    Those store partial sums in the tensors' format. Torch uses them where oneDNN does not support
    the format on this processor: float16 on most, bfloat16 on those without AVX-512.
    """
    x, w = arguments["input"], arguments["weight"]
    if w.dtype not in (torch.float16, torch.bfloat16):
        return False
    chosen: Any = torch._C._select_conv_backend(x, w, None, *(arguments[name] for name in _HOW))
    return str(chosen.name).startswith("Slow")
