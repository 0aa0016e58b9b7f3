"""Samples of matrix products and convolutions."""

from __future__ import annotations

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
    sample(aten.vdot.default, normal(N), normal(N)),
    sample(aten.dot.default, normal(N), normal(N)),
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
)
