"""Samples of complex numbers: what makes them, rules of real numbers over them, and transforms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gradwitness.rules import find
from gradwitness.rules.elementwise.complex_numbers import HOLOMORPHIC
from rules.samples_indexing import INDEXING
from rules.samples_moving import JOINING, REARRANGING
from rules.samples_placing import PADDING, PLACING
from rules.samples_resampling import SHUFFLING
from rules.sampling import (
    Draw,
    Mask,
    N,
    Planar,
    Sample,
    aten,
    away,
    normal,
    planar,
    positive,
    sample,
)


def holds_for_complex(one: Sample) -> bool:
    """Whether the rule of a sample of real numbers says that it holds for complex ones."""
    rule = find(one.op._schema.name.replace("::", ".").rstrip("_"))
    return rule is not None and rule.name in HOLOMORPHIC


def over_complex(one: Sample) -> Sample:
    """The same sample with complex numbers for the real ones."""

    def drawn(item: Any) -> Any:
        if isinstance(item, list):
            return [drawn(each) for each in item]
        return Planar(**vars(item)) if type(item) is Draw else item

    args = tuple(map(drawn, one.args))
    return replace(one, args=args, note=f"{one.note}, complex".removeprefix(", "))


PARTS = (
    sample(aten.complex.default, normal(4, N), normal(4, N), exact="y dre dim"),
    sample(aten.complex.default, normal(4, 1), normal(N), exact="y", note="broadcast"),
    sample(aten.polar.default, positive(4, N), normal(4, N)),
    sample(aten.view_as_real.default, planar(4, N), exact="y dx"),
    sample(aten.view_as_complex.default, normal(4, 3, 2), exact="y dx"),
    sample(aten._conj.default, planar(4, N), exact="y dx"),
    sample(aten._conj_physical.default, planar(4, N), exact="y dx"),
    sample(aten.conj_physical.default, planar(4, N), exact="y dx"),
    sample(aten._neg_view.default, normal(4, N), exact="y dx"),
    sample(aten.abs.default, planar(4, N, gap=0.5), note="complex"),
    sample(aten.angle.default, planar(4, N, gap=0.5)),
    sample(aten.angle.default, away(4, N), exact="dx", note="real"),
    sample(aten.sgn.default, planar(4, N, gap=0.5), note="complex"),
    sample(aten.sgn.default, away(4, N), exact="y dx", note="real"),
)

OVER_COMPLEX = (
    sample(aten.add.Tensor, planar(4, N), planar(4, N), exact="da db", note="complex"),
    sample(
        aten.add.Tensor, planar(4, N), normal(4, 1), alpha=0.3, exact="da", note="complex and real"
    ),
    sample(aten.sub.Tensor, normal(4, N), planar(4, N), exact="da db", note="real and complex"),
    sample(aten.rsub.Scalar, planar(4, N), 0.5 - 2j, exact="da", note="complex"),
    sample(aten.mul.Tensor, planar(4, N), planar(4, N), note="complex"),
    sample(aten.mul.Tensor, normal(3, 1, N), planar(4, 1), note="real and complex, broadcast"),
    sample(aten.mul.Scalar, planar(4, N), -0.7 + 0.1j, note="complex"),
    sample(aten.div.Tensor, planar(4, N), planar(4, N, gap=0.5), note="complex"),
    sample(aten.div.Tensor, planar(4, N), away(4, N), note="complex by real"),
    sample(aten.div.Tensor, normal(4, N), planar(4, N, gap=0.5), note="real by complex"),
    sample(aten.neg.default, planar(4, N), exact="y dx", note="complex"),
    sample(aten.reciprocal.default, planar(4, N, gap=0.5), note="complex"),
    sample(aten.pow.Tensor_Scalar, planar(4, N), 2, note="2, complex"),
    sample(aten.pow.Tensor_Scalar, planar(4, N), 3, note="3, complex"),
    sample(aten.pow.Tensor_Scalar, planar(4, N, gap=0.5), -1, note="-1, complex"),
    sample(aten.exp.default, planar(4, N), note="complex"),
    *(
        sample(op.default, planar(4, N, gap=0.5), note="complex")
        for op in (
            aten.sqrt,
            aten.rsqrt,
            aten.exp2,
            aten.expm1,
            aten.log,
            aten.log2,
            aten.log10,
            aten.log1p,
            aten.sin,
            aten.cos,
            aten.tan,
            aten.sinh,
            aten.cosh,
            aten.tanh,
            aten.asin,
            aten.acos,
            aten.atan,
            aten.asinh,
            aten.acosh,
            aten.atanh,
            aten.sinc,
            aten.sigmoid,
        )
    ),
    sample(aten.pow.Tensor_Scalar, planar(4, N, gap=0.5), 0.5, note="0.5, complex"),
    sample(aten.pow.Tensor_Scalar, planar(4, N, gap=0.5), 4, note="4, complex"),
    sample(aten.pow.Scalar, 0.7, planar(4, N), note="complex"),
    sample(aten.pow.Tensor_Tensor, planar(4, N, gap=0.5), planar(N), note="complex"),
    sample(aten.logaddexp.default, planar(4, N), planar(4, N), note="complex"),
    sample(
        aten.addcdiv.default,
        planar(4, N),
        planar(4, N),
        planar(N, gap=0.5),
        exact="dx",
        note="complex",
    ),
    sample(aten.lerp.Scalar, planar(4, N), planar(4, N), 0.3 + 0.2j, note="complex"),
    sample(aten.cumsum.default, planar(3, N), 1, note="complex"),
    sample(aten.logcumsumexp.default, planar(3, 4), 1, note="complex"),
    sample(aten.cumprod.default, planar(3, 6, gap=0.5), 1, note="complex"),
    sample(aten.prod.dim_int, planar(3, 6, gap=0.5), 1, note="complex"),
    sample(aten.logsumexp.default, planar(3, N), [1], note="complex"),
    sample(aten.linalg_cross.default, planar(4, 3), planar(4, 3), note="complex"),
    sample(aten.addr.default, planar(3, 4), planar(3), planar(4), exact="db", note="complex"),
    sample(aten.trace.default, planar(3, 4), exact="dx", note="complex"),
    sample(aten.addcmul.default, planar(4, N), planar(4, N), planar(N), exact="dx", note="complex"),
    sample(aten.mm.default, planar(3, N), planar(N, 4), note="complex"),
    sample(aten.addmm.default, planar(4), planar(3, N), planar(N, 4), note="complex"),
    sample(aten.bmm.default, planar(2, 3, N), planar(2, N, 4), note="complex"),
    sample(aten.baddbmm.default, planar(3, 4), planar(2, 3, N), planar(2, N, 4), note="complex"),
    sample(aten.mv.default, planar(3, N), planar(N), note="complex"),
    sample(aten.addmv.default, planar(3), planar(3, N), planar(N), exact="db", note="complex"),
    sample(aten.dot.default, planar(N), planar(N), note="complex"),
    sample(aten.vdot.default, planar(N), planar(N), note="complex"),
    sample(aten.sum.dim_IntList, planar(3, N), [1], exact="dx", note="complex"),
    sample(aten.mean.dim, planar(3, N), [1], note="complex"),
    sample(aten.eq.Tensor, planar(4), planar(4), exact="y", note="complex"),
)

MOVED_COMPLEX = (
    sample(aten.permute.default, planar(2, 3, 4), [2, 0, 1], exact="y dx", note="complex"),
    sample(aten.view.default, planar(2, 3, 4), [6, -1], exact="y dx", note="complex"),
    sample(aten.select.int, planar(2, 3, 4), 1, 2, exact="y dx", note="complex"),
    sample(aten.slice.Tensor, planar(2, 7), 1, 1, 6, 2, exact="y dx", note="complex"),
    sample(aten.expand.default, planar(3, 1), [2, -1, 4], exact="y", note="complex"),
    sample(aten.as_strided.default, planar(9), [4, 3], [2, 1], exact="y", note="complex"),
    sample(aten.clone.default, planar(2, 3), exact="y dx", note="complex"),
    sample(
        aten._to_copy.default,
        normal(2, 3),
        dtype=torch.complex128,
        exact="y dx",
        note="real to complex",
    ),
    sample(aten.copy_.default, planar(2, 3), normal(3), exact="y dx", note="real into complex"),
    sample(
        aten.cat.default,
        [planar(2, 3), normal(2, 4)],
        1,
        exact="y dtensors",
        note="real and complex",
    ),
    sample(
        aten.masked_fill.Scalar, planar(3, 4), Mask((3, 4)), 2j, exact="y dx", note="complex number"
    ),
    *map(over_complex, filter(holds_for_complex, (*INDEXING, *PADDING, *PLACING))),
    *map(over_complex, filter(holds_for_complex, (*REARRANGING, *JOINING, *SHUFFLING))),
    sample(aten.full.default, [2, 3], 1.5 - 2j, exact="y", dtype=torch.complex128, note="complex"),
    sample(aten.zeros_like.default, planar(2, 3), exact="y", note="complex"),
)

FOURIER = (
    sample(aten._fft_c2c.default, planar(3, 8), [1], 0, True),
    sample(aten._fft_c2c.default, planar(3, 6), [1], 2, False, note="inverse"),
    sample(aten._fft_c2c.default, planar(4, 3, 5), [0, 2], 1, True, note="two axes, by the root"),
    sample(aten._fft_r2c.default, normal(3, 8), [1], 0, True),
    sample(aten._fft_r2c.default, normal(3, 7), [1], 2, True, note="odd"),
    sample(aten._fft_r2c.default, normal(4, 6), [0, 1], 1, True, note="two axes, by the root"),
    sample(aten._fft_r2c.default, normal(3, 6), [1], 0, False, note="two-sided"),
    sample(aten._fft_c2r.default, planar(3, 5), [1], 2, 8),
    sample(aten._fft_c2r.default, planar(3, 5), [1], 0, 9, note="odd"),
    sample(aten._fft_c2r.default, planar(4, 4), [0, 1], 1, 6, note="two axes, by the root"),
    sample(aten.hann_window.default, 9),
    sample(aten.hann_window.periodic, 8, False, note="not periodic"),
    sample(aten.hann_window.default, 1, exact="y", note="of one"),
    sample(aten.hamming_window.default, 9),
    sample(aten.hamming_window.periodic_alpha_beta, 9, True, 0.5, 0.4, note="by its numbers"),
)
