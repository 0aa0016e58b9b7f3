"""Samples of matrix products and convolutions."""

from __future__ import annotations

import torch

from rules.sampling import Draw, N, Sample, aten, normal, sample

LINEAR = (
    sample(aten.mm.default, normal(3, N), normal(N, 4)),
    sample(aten.mm.default, normal(1, N), normal(N, 1), note="row by column"),
    sample(aten.mm.default, normal(N, 3), normal(3, N), note="square"),
    sample(aten.addmm.default, normal(4), normal(3, N), normal(N, 4)),
    sample(aten.addmm.default, normal(3, 1), normal(3, N), normal(N, 4), note="column bias"),
    sample(
        aten.addmm.default,
        normal(3, 4),
        normal(3, N),
        normal(N, 4),
        beta=0.3,
        alpha=-1.7,
        note="scaled",
    ),
    sample(
        aten.addmm.default, normal(4), normal(1, N), normal(N, 4), exact="db", note="batch of 1"
    ),
    sample(aten.bmm.default, normal(2, 3, N), normal(2, N, 4)),
    sample(aten.mv.default, normal(3, N), normal(N)),
    sample(aten.addmv.default, normal(3), normal(3, N), normal(N), alpha=0.7, beta=0.3),
    sample(aten.addr.default, normal(3, 4), normal(3), normal(4), alpha=0.7, beta=0.3),
    sample(
        aten.addbmm.default, normal(3, 4), normal(2, 3, N), normal(2, N, 4), alpha=0.7, beta=0.3
    ),
    sample(aten.vdot.default, normal(N), normal(N)),
    sample(aten.dot.default, normal(N), normal(N)),
)


def _in_groups(A: torch.Tensor, B: torch.Tensor, offs: torch.Tensor | None = None) -> torch.Tensor:
    """The grouped product, group by group."""
    if offs is None:
        return torch.bmm(A, B)
    sizes = torch.diff(offs, prepend=torch.zeros(1, dtype=torch.int32)).tolist()
    lefts = A.unbind() if A.ndim == 3 else torch.split(A, sizes, dim=1 if B.ndim == 2 else 0)
    rights = B.unbind() if B.ndim == 3 else torch.split(B, sizes, dim=0 if A.ndim == 2 else 1)
    parts = [a @ b for a, b in zip(lefts, rights, strict=True)]
    if A.ndim == B.ndim:
        return torch.stack(parts)
    return torch.cat(parts, dim=0 if A.ndim == 2 else 1)


def _grouped(A: Draw, B: Draw, note: str, ends: list[int] | None = None) -> Sample:
    # Its kernel wants rows of whole 16 bytes.
    offs = [] if ends is None else [torch.tensor(ends, dtype=torch.int32)]
    return sample(aten._grouped_mm.default, A, B, *offs, note=note, double=_in_groups)


RAGGED = (
    _grouped(normal(8, 8), normal(3, 8, 16), "rows", [3, 3, 8]),
    _grouped(normal(2, 8, 8), normal(8, 16), "columns", [6, 16]),
    _grouped(normal(8, 16), normal(16, 8), "summed over", [5, 16]),
    _grouped(normal(2, 8, 8), normal(2, 8, 16), "batch"),
)


def convolution(
    x: Draw,
    w: Draw,
    b: Draw | None,
    note: str,
    *,
    stride: int = 1,
    padding: list[int] | None = None,
    dilation: int = 1,
    groups: int = 1,
    transposed: bool = False,
    extra: int = 0,
) -> Sample:
    axes = len(x.shape) - 2
    steps, gaps, more = ([n] * axes for n in (stride, dilation, extra))
    place = (steps, padding or [0] * axes, gaps, transposed, more, groups)
    return sample(aten.convolution.default, x, w, b, *place, note=note)


CONVOLUTION = (
    convolution(normal(2, N, 6), normal(4, N, 3), normal(4), "1-d"),
    convolution(normal(1, N, 3, 3), normal(3, N, 3, 2), normal(3), "2-d padded", padding=[1, 2]),
    convolution(normal(1, 2, 3, 4, 3), normal(2, 2, 2, 2, 2), None, "3-d, no bias"),
    # (7 - 3) is no multiple of the stride 3: the last input meets no kernel.
    convolution(normal(2, 2, 7), normal(3, 2, 3), normal(3), "stride", stride=3),
    convolution(
        normal(1, 2, 8, 7), normal(3, 2, 2, 3), None, "dilated", dilation=2, padding=[1, 1]
    ),
    convolution(
        normal(2, 4, 5, 5),
        normal(6, 2, 3, 3),
        normal(6),
        "grouped",
        stride=2,
        padding=[1, 1],
        groups=2,
    ),
    convolution(normal(2, 3, 5), normal(3, 1, 2), normal(3), "depthwise", groups=3),
    convolution(normal(2, N, 3, 3), normal(4, N, 1, 1), normal(4), "1 by 1"),
    convolution(normal(2, N, 5), normal(N, 3, 3), normal(3), "transposed 1-d", transposed=True),
    convolution(
        normal(1, 4, 3, 2),
        normal(4, 3, 2, 3),
        None,
        "transposed, grouped",
        stride=2,
        padding=[1, 0],
        dilation=2,
        groups=2,
        transposed=True,
        extra=1,
    ),
    # The last two results of each axis belong to no element of the input.
    convolution(
        normal(1, 2, 3, 4),
        normal(2, 3, 2, 2),
        None,
        "transposed, more than a stride",
        dilation=3,
        transposed=True,
        extra=2,
    ),
    *(
        sample(
            aten.convolution.default,
            normal(2, 2, 4, 3),
            normal(2, 3, 2, 3) if transposed else normal(3, 2, 2, 3),
            None if transposed else normal(3),
            *([2], [1], [1], transposed, [1 if transposed else 0], 1),
            note=note,
        )
        for transposed, note in ((False, "one number"), (True, "transposed, one number"))
    ),
)
