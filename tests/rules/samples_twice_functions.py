"""Samples of the backward kernels of activations and losses, as operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from rules.samples_functions import THREE, UNIT, between
from rules.sampling import Draw, N, aten, away, index, made, normal, sample


def _buffer(dy: Any, x: Any, _: Any) -> Any:
    return np.exp(-np.abs(x))


selu = (1.6732632423543772, 1.0507009873554805, 1)

TWICE_ACTIVATIONS = (
    sample(aten.elu_backward.default, normal(4, N), 1.3, 1, 1, False, away(4, N)),
    sample(aten.elu_backward.default, normal(4, N), *selu, False, away(4, N), note="selu"),
    sample(
        aten.elu_backward.default,
        normal(4, N),
        1.3,
        1,
        0.7,
        True,
        between(4, N, ends=((-1.0, -0.5), (0.5, 2.0))),
        note="of the result",
    ),
    sample(aten.gelu_backward.default, normal(4, N), normal(4, N)),
    sample(aten.gelu_backward.default, normal(4, N), normal(4, N), approximate="tanh", note="tanh"),
    sample(aten.softplus_backward.default, normal(4, N), normal(4, N), 1, 20),
    sample(aten.softplus_backward.default, normal(4, N), away(4, N), 2, 0.0, note="scaled"),
    sample(aten.hardswish_backward.default, normal(4, N), between(4, N, ends=THREE)),
    sample(
        aten.hardtanh_backward.default,
        normal(4, N),
        between(4, N, ends=UNIT),
        -1.1,
        0.7,
        exact="y ddy dx",
    ),
    sample(aten.softshrink_backward.default, normal(4, N), away(4, N), 0.3, exact="y ddy dx"),
    sample(aten.hardshrink_backward.default, normal(4, N), away(4, N), 0.3, exact="y ddy dx"),
    sample(aten.log_sigmoid_backward.default, normal(4, N), normal(4, N), made(_buffer)),
    sample(aten.glu_backward.default, normal(4, 3), normal(4, 6), 1),
    sample(aten.glu_backward.default, normal(3, N), normal(6, N), 0, note="first axis"),
    sample(aten._prelu_kernel_backward.default, normal(4, 3, N), away(4, 3, N), away(1, 3, 1)),
    sample(
        aten.rrelu_with_noise_backward.default,
        normal(4, N),
        away(4, N),
        Draw((4, N), gap=0.5, positive=True, constant=True),
        0.1,
        0.3,
        True,
        False,
        exact="dx",
        note="training",
    ),
    sample(
        aten.rrelu_with_noise_backward.default,
        normal(4, N),
        away(4, N),
        Draw((4, N), constant=True),
        0.1,
        0.3,
        False,
        False,
        exact="dx",
    ),
)


def _total(dy: Any, x: Any, target: Any, weight: Any, reduction: int, ignored: int, _: Any) -> Any:
    """Return the sum of the weights of the targets that count."""
    kept = target[target != ignored]
    return float(kept.size) if weight is None else np.sum(weight[kept])


_WEIGHT = Draw((5,), gap=0.5, positive=True, constant=True)
# Few of them: the gradient of a mean's own gradient is one sum over all.
_APART, _NEAR = between(2, 3, ends=((-3.0, -1.6), (-1.0, 1.0), (1.6, 3.0))), (-0.1, 0.1)
_PROBABLE, _LIKELY = between(2, 3, ends=((0.42, 0.58),)), between(2, 3, ends=((0.1, 0.9),))
nll, nll2d = aten.nll_loss_backward.default, aten.nll_loss2d_backward.default
soft, bce = aten.soft_margin_loss_backward.default, aten.binary_cross_entropy_backward.default

TWICE_LOSSES = (
    *(
        sample(op, dy, _APART, between(2, 3, ends=(_NEAR,)), reduction, 1.3, note=note)
        for op in (aten.smooth_l1_loss_backward.default, aten.huber_loss_backward.default)
        for note, dy, reduction in (("mean", normal(), 1), ("none", normal(2, 3), 0))
    ),
    sample(nll, normal(), normal(4, 5), index(4, high=5), _WEIGHT, 1, 2, made(_total),
           note="mean, one ignored", exact="dx"),
    sample(nll, normal(7), normal(7, 5), index(7, high=5), None, 0, -100, made(_total),
           note="none", exact="y ddy dx"),
    sample(nll2d, normal(), normal(2, 5, 3, 2), index(2, 3, 2, high=5), _WEIGHT, 2, -100,
           made(_total), note="weighted sum", exact="dx"),
    sample(nll2d, normal(), normal(1, 4, 3, 1), index(1, 3, 1, high=4), None, 1, -100,
           made(_total), note="mean", exact="dx"),
    sample(soft, normal(), normal(2, 3), Draw((2, 3), gap=0.5, constant=True), 1, note="mean"),
    sample(soft, normal(4, N), normal(4, N), Draw((4, N), constant=True), 0, note="none"),
    sample(bce, normal(), _PROBABLE, _LIKELY, None, 1, note="mean"),
    sample(bce, normal(2, 3), _PROBABLE, _LIKELY,
           Draw((3,), gap=0.5, positive=True, constant=True), 0, note="weighted, none"),
)  # fmt: skip
