"""Samples of backward kernels as operations, of a product of three tensors, and of `set_`."""

from __future__ import annotations

import torch

from rules.sampling import N, aten, away, normal, sample

TWICE = (
    sample(aten.tanh_backward.default, normal(4, N), normal(4, N)),
    sample(aten.sigmoid_backward.default, normal(4, N), normal(4, N)),
    sample(aten.threshold_backward.default, normal(4, N), away(4, N), 0, exact="y ddy dx"),
    sample(aten.leaky_relu_backward.default, normal(4, N), away(4, N), 0.1, False, exact="dx"),
    sample(aten._softmax_backward_data.default, normal(4, N), normal(4, N), -1, torch.float64),
    sample(aten._log_softmax_backward_data.default, normal(4, N), normal(4, N), 1, torch.float64),
    sample(aten.mse_loss_backward.default, normal(), normal(4, N), normal(4, N), 1, note="mean"),
    sample(aten.mse_loss_backward.default, normal(), normal(4, N), normal(4, N), 2, note="sum"),
    sample(
        aten.mse_loss_backward.default, normal(4, N), normal(4, N), normal(4, N), 0, note="none"
    ),
    sample(aten.set_.source_Tensor, normal(3), normal(4, 2), exact="y"),
    sample(
        aten._trilinear.default,
        normal(4, N),
        normal(2, N, 3),
        normal(4, 3),
        [1, 3],
        [0],
        [1, 2],
        [2, 3],
        note="bilinear layer",
    ),
)
