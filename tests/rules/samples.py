"""The one table of samples: an ATen operation, how its operands are drawn, its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

aten = torch.ops.aten

# The axis whose length a test chooses: what is summed over, where the operation sums.
N = -1


@dataclass(frozen=True)
class Draw:
    """An operand to be drawn.

    Normal numbers if ``gap`` is 0. Otherwise their magnitudes start at ``gap``, which keeps central
    differences on one side of a kink or a pole at 0; ``positive`` leaves the signs out.
    """

    shape: tuple[int, ...]
    gap: float = 0.0
    positive: bool = False

    def make(self, rng: np.random.Generator, length: int) -> NDArray[np.float64]:
        """Return numbers of 24 bits: a step of 2^-8 added to them in float64 rounds nothing."""
        shape = tuple(length if n == N else n for n in self.shape)
        numbers = np.asarray(rng.standard_normal(shape))
        if self.gap:
            sign = 1 if self.positive else np.where(numbers < 0, -1, 1)
            numbers = sign * (self.gap + np.abs(numbers))
        return numbers.astype(np.float32).astype(np.float64)


def normal(*shape: int) -> Draw:
    return Draw(shape)


def away(*shape: int) -> Draw:
    return Draw(shape, gap=0.5)


def positive(*shape: int) -> Draw:
    return Draw(shape, gap=0.5, positive=True)


@dataclass(frozen=True, eq=False)
class Sample:
    """One line of the table.

    ``exact`` names the results (``y``, and ``dx`` for operand x) that nothing rounds: their bound
    is exactly 0. ``unused`` names those whose bound counts roundings that torch's kernel need not
    make for these very parameters, so that no error is ever seen.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    exact: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The id in test reports: ``add.Tensor broadcast``."""
        name = str(self.op).removeprefix("aten.").removesuffix(".default")
        return f"{name} {self.note}".rstrip()

    @property
    def sized(self) -> bool:
        """Whether an operand has the axis whose length a test chooses."""
        return any(isinstance(arg, Draw) and N in arg.shape for arg in self.args)


def _sample(
    op: Any, *args: Any, note: str = "", exact: str = "", unused: str = "", **kwargs: Any
) -> Sample:
    return Sample(
        op, args, kwargs, note, exact=frozenset(exact.split()), unused=frozenset(unused.split())
    )


_CREATE = (
    _sample(aten.zeros.default, [2, 3], exact="y"),
    _sample(aten.ones.default, [2, 3], exact="y"),
    _sample(aten.full.default, [2, 3], 7, exact="y", note="whole"),
    _sample(aten.full.default, [2, 3], 0.1, note="not representable"),
    _sample(aten.zeros_like.default, normal(2, 3), exact="y"),
    _sample(aten.zero.default, normal(2, 3), exact="y dx"),
    _sample(aten.zero_.default, normal(2, 3), exact="y dx"),
    _sample(aten.ones_like.default, normal(2, 3), exact="y"),
    _sample(aten.new_zeros.default, normal(2, 3), [4, 1], exact="y"),
    _sample(aten.full_like.default, normal(2, 3), 0.5, exact="y"),
    _sample(aten.scalar_tensor.default, 3, exact="y"),
)

_LINEAR = (
    _sample(aten.mm.default, normal(3, N), normal(N, 4)),
    _sample(aten.mm.default, normal(1, N), normal(N, 1), note="row by column"),
    _sample(aten.mm.default, normal(N, 3), normal(3, N), note="square"),
    _sample(aten.addmm.default, normal(4), normal(3, N), normal(N, 4)),
    _sample(aten.addmm.default, normal(3, 1), normal(3, N), normal(N, 4), note="column bias"),
    _sample(
        aten.addmm.default,
        normal(3, 4),
        normal(3, N),
        normal(N, 4),
        beta=0.3,
        alpha=-1.7,
        note="scaled",
    ),
    _sample(
        aten.addmm.default, normal(4), normal(1, N), normal(N, 4), exact="db", note="batch of 1"
    ),
    _sample(aten.bmm.default, normal(2, 3, N), normal(2, N, 4)),
    _sample(aten.mv.default, normal(3, N), normal(N)),
    _sample(aten.dot.default, normal(N), normal(N)),
)

_LOSSES = (
    _sample(aten.mse_loss.default, normal(4, N), normal(4, N), note="mean"),
    _sample(aten.mse_loss.default, normal(4, N), normal(4, N), 2, note="sum"),
    _sample(aten.mse_loss.default, normal(4, N), normal(4, N), 0, note="none"),
    _sample(aten.mse_loss.default, normal(), normal(), note="0-d"),
    _sample(aten.mse_loss.default, normal(4, 1), normal(3, 1, N), note="broadcast"),
)

_POINTWISE = (
    _sample(aten.add.Tensor, normal(4, N), normal(4, N), exact="da db"),
    _sample(aten.add.Tensor, normal(3, 1, N), normal(4, 1), alpha=0.3, note="broadcast"),
    _sample(aten.add.Tensor, normal(), normal(3, N), alpha=2, exact="db", note="0-d"),
    _sample(aten.add.Scalar, normal(4, N), 0.1, exact="da"),
    _sample(aten.add_.Tensor, normal(4, N), normal(N), exact="da", note="in place"),
    _sample(aten.sub.Tensor, normal(4, N), normal(4, N), exact="da db"),
    _sample(aten.sub.Tensor, normal(3, 1, N), normal(4, 1), alpha=0.3, note="broadcast"),
    _sample(aten.rsub.Tensor, normal(4, N), normal(4, N), exact="da db"),
    _sample(aten.rsub.Scalar, normal(4, N), 0.1, 0.3),
    _sample(aten.mul.Tensor, normal(4, N), normal(4, N)),
    _sample(aten.mul.Tensor, normal(3, 1, N), normal(4, 1), note="broadcast"),
    _sample(aten.mul.Tensor, normal(), normal(), note="0-d"),
    _sample(aten.mul.Scalar, normal(4, N), -0.7),
    _sample(aten.mul.Scalar, normal(4, N), 0.5, exact="y da", note="by a half"),
    _sample(aten.div.Tensor, normal(4, N), away(4, N)),
    _sample(aten.div.Tensor, normal(4, 1), away(3, 1, N), note="broadcast"),
    _sample(aten.div.Scalar, normal(4, N), 3),
    _sample(aten.neg.default, normal(4, N), exact="y dx"),
    _sample(aten.pow.Tensor_Scalar, normal(4, N), 2, note="2"),
    _sample(aten.pow.Tensor_Scalar, normal(4, N), 3, note="3"),
    # torch multiplies the gradient by a 1 or a 0 that it may or may not compute.
    _sample(aten.pow.Tensor_Scalar, away(4, N), 1, exact="y", unused="dx", note="1"),
    _sample(aten.pow.Tensor_Scalar, normal(4, N), 0, exact="y dx", note="0"),
    _sample(aten.pow.Tensor_Scalar, away(4, N), -1, note="-1"),
    _sample(aten.pow.Tensor_Scalar, away(4, N), -2, note="-2"),
    _sample(aten.pow.Tensor_Scalar, positive(4, N), 0.5, note="0.5"),
    _sample(aten.pow.Tensor_Scalar, positive(4, N), -1.7, note="-1.7"),
    _sample(aten.pow.Tensor_Tensor, positive(4, N), normal(4, N)),
    _sample(aten.pow.Tensor_Tensor, positive(N), away(3, 1), note="broadcast"),
    _sample(aten.pow.Scalar, 1.3, normal(4, N)),
    _sample(aten.exp.default, normal(4, N)),
    _sample(aten.log.default, positive(4, N)),
    _sample(aten.sqrt.default, positive(4, N)),
    _sample(aten.sin.default, normal(4, N)),
    _sample(aten.cos.default, normal(4, N)),
    _sample(aten.abs.default, away(4, N), exact="y dx"),
    _sample(aten.relu.default, away(4, N), exact="y dx"),
    _sample(aten.relu_.default, away(4, N), exact="y dx", note="in place"),
    _sample(aten.sigmoid.default, normal(4, N)),
    _sample(aten.tanh.default, normal(4, N)),
    _sample(aten.silu.default, normal(4, N)),
    _sample(aten.gelu.default, normal(4, N)),
    _sample(aten.gelu.default, normal(4, N), approximate="tanh", note="tanh"),
)

_REDUCTIONS = (
    _sample(aten.sum.default, normal(4, N), exact="dx"),
    _sample(aten.sum.default, normal(), exact="y dx", note="0-d"),
    _sample(aten.sum.dim_IntList, normal(2, N, 3), [1], exact="dx", note="one axis"),
    _sample(aten.sum.dim_IntList, normal(2, N, 3), [-1, 0], exact="dx", note="two axes"),
    _sample(aten.sum.dim_IntList, normal(2, N, 3), [1], True, exact="dx", note="kept"),
    _sample(aten.sum.dim_IntList, normal(4, 1), [-1], exact="y dx", note="axis of size 1"),
    _sample(aten.sum.dim_IntList, normal(2, N), [], exact="dx", note="no axes named"),
    _sample(aten.sum.dim_IntList, normal(2, N), None, exact="dx", note="None"),
    _sample(aten.mean.default, normal(3, N)),
    _sample(aten.mean.dim, normal(2, N, 3), [1], note="one axis"),
    _sample(aten.mean.dim, normal(2, N, 3), [-3, 2], True, note="two axes kept"),
    _sample(aten.mean.dim, normal(2, 4), [1], exact="dx", note="power of two"),
    _sample(aten.mean.default, normal(), exact="y dx", note="0-d"),
)

_SHAPE = (
    _sample(aten.t.default, normal(3, 4), exact="y dx"),
    _sample(aten.t.default, normal(3), exact="y dx", note="vector"),
    _sample(aten.transpose.int, normal(2, 3, 4), -1, 0, exact="y dx"),
    _sample(aten.permute.default, normal(2, 3, 4), [2, 0, 1], exact="y dx"),
    _sample(aten.permute.default, normal(2, 3, 4), [-2, -1, 0], exact="y dx", note="negative"),
    _sample(aten.view.default, normal(2, 3, 4), [6, -1], exact="y dx"),
    _sample(aten.view.default, normal(1), [], exact="y dx", note="to 0-d"),
    _sample(aten._unsafe_view.default, normal(2, 6), [3, 4], exact="y dx"),
    _sample(aten._reshape_alias.default, normal(2, 6), [3, 4], [4, 1], exact="y dx"),
    _sample(aten.unsqueeze.default, normal(2, 3), 1, exact="y dx"),
    _sample(aten.unsqueeze.default, normal(2, 3), -1, exact="y dx", note="last"),
    _sample(aten.squeeze.default, normal(1, 3, 1), exact="y dx"),
    _sample(aten.squeeze.dim, normal(1, 3, 1), -1, exact="y dx", note="-1"),
    _sample(aten.squeeze.dim, normal(1, 3, 1), 1, exact="y dx", note="no axis of size 1"),
    _sample(aten.squeeze.dims, normal(1, 3, 1), [0, 1, 2], exact="y dx"),
    _sample(aten.squeeze.dim, normal(), 0, exact="y dx", note="0-d"),
    _sample(aten.expand.default, normal(3, 1), [2, -1, 4], exact="y"),
    _sample(aten.expand.default, normal(), [3], exact="y", note="0-d"),
    _sample(aten.expand.default, normal(2, 3), [2, 3], exact="y dx", note="to itself"),
    _sample(aten.clone.default, normal(2, 3), exact="y dx"),
    _sample(aten.alias.default, normal(2, 3), exact="y dx"),
    _sample(aten._to_copy.default, normal(2, 3), exact="y dx"),
    _sample(aten.contiguous.default, normal(2, 3), exact="y dx"),
    _sample(aten.detach.default, normal(2, 3), exact="y dx"),
    _sample(aten.copy_.default, normal(2, 3), normal(2, 3), exact="y dx dsrc"),
    _sample(aten.copy_.default, normal(4, 3), normal(3), exact="y dx", note="broadcast"),
    _sample(aten.fill.Tensor, normal(2, 3), normal(), exact="y dx"),
    _sample(aten.fill.Scalar, normal(2, 3), 0.5, exact="y dx"),
    _sample(aten.select.int, normal(2, 3, 4), 1, 2, exact="y dx"),
    _sample(aten.select.int, normal(2, 3, 4), -1, -4, exact="y dx", note="negative"),
    _sample(aten.slice.Tensor, normal(2, 7), 1, 1, 6, 2, exact="y dx"),
    _sample(aten.slice.Tensor, normal(2, 7), -1, -3, 99, exact="y dx", note="past the end"),
    _sample(aten.slice.Tensor, normal(7, 2), exact="y dx", note="whole"),
    _sample(aten.as_strided.default, normal(3, 4), [2, 2], [4, 2], exact="y dx"),
    _sample(aten.as_strided.default, normal(3, 4), [2, 3], [1, 3], 2, exact="y dx", note="offset"),
)


def _convolution(
    x: Draw,
    w: Draw,
    b: Draw | None,
    note: str,
    *,
    stride: int = 1,
    padding: list[int] | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> Sample:
    axes = len(x.shape) - 2
    several = [[n] * axes for n in (stride, dilation, 0)]
    place = (several[0], padding or [0] * axes, several[1], False, several[2], groups)
    return _sample(aten.convolution.default, x, w, b, *place, note=note)


_CONVOLUTION = (
    _convolution(normal(2, N, 6), normal(4, N, 3), normal(4), "1-d"),
    _convolution(normal(1, N, 3, 3), normal(3, N, 3, 2), normal(3), "2-d padded", padding=[1, 2]),
    _convolution(normal(1, 2, 3, 4, 3), normal(2, 2, 2, 2, 2), None, "3-d, no bias"),
    # (7 - 3) is no multiple of the stride 3: the last input meets no kernel.
    _convolution(normal(2, 2, 7), normal(3, 2, 3), normal(3), "stride", stride=3),
    _convolution(
        normal(1, 2, 8, 7), normal(3, 2, 2, 3), None, "dilated", dilation=2, padding=[1, 1]
    ),
    _convolution(
        normal(2, 4, 5, 5),
        normal(6, 2, 3, 3),
        normal(6),
        "grouped",
        stride=2,
        padding=[1, 1],
        groups=2,
    ),
    _convolution(normal(2, 3, 5), normal(3, 1, 2), normal(3), "depthwise", groups=3),
    _convolution(normal(2, N, 3, 3), normal(4, N, 1, 1), normal(4), "1 by 1"),
)

SAMPLES = (
    *_CONVOLUTION,
    *_CREATE,
    *_LINEAR,
    *_LOSSES,
    *_POINTWISE,
    *_REDUCTIONS,
    *_SHAPE,
)
