"""Samples of tensors made from numbers, and of questions about numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rules.sampling import Apart, Draw, apart, aten, index, mask, normal, positive, sample

whole = torch.int64


class Sorted(Apart):
    """Numbers in order along the last axis."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return np.sort(super().make(rng, length), axis=-1)


class Tied(Draw):
    """Halves from 0 to 1.5, so that some are equal."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del length
        return rng.integers(0, 4, self.shape) / 2


MADE = (
    sample(aten.new_ones.default, normal(2, 3), [4, 1], exact="y"),
    sample(aten.new_full.default, normal(2, 3), [4, 1], 0.5, exact="y"),
    sample(aten.eye.default, 3, exact="y"),
    sample(aten.eye.m, 3, 4, exact="y"),
    sample(aten.tril_indices.default, 3, 4, 1, dtype=whole, exact="y"),
    sample(aten.triu_indices.default, 4, 3, -1, dtype=whole, exact="y"),
    sample(aten.arange.default, 7, dtype=whole, exact="y", note="whole"),
    sample(aten.arange.start_step, 9, -2, -3, dtype=whole, exact="y", note="whole"),
    sample(aten.arange.default, 20, unused="y"),
    sample(aten.arange.start, 2.5, 40.0, unused="y"),
    sample(aten.arange.start_step, -1000.3, 1000.0, 0.7),
    sample(aten.arange.start_step, 3, -2, -0.25, unused="y", note="downwards"),
    sample(aten.linspace.default, 0.3, 0.7, 14),
    sample(aten.linspace.default, 1000.1, 1000.9, 40, note="narrow"),
    sample(aten.linspace.default, 0.5, 2.0, 1, unused="y", note="one"),
    sample(aten.logspace.default, -0.3, 0.7, 13),
    sample(aten.logspace.default, -1.3, 4.1, 11, 2.0, note="base 2"),
)

CHOOSING = (
    sample(aten.any.default, mask(2, 3), exact="y"),
    sample(aten.any.dim, mask(4, 3), 1, exact="y"),
    sample(aten.any.dims, mask(2, 4, 3), [0, -1], True, exact="y"),
    sample(aten.all.default, mask(1), exact="y"),
    sample(aten.all.dim, mask(5, 2), -1, True, exact="y"),
    sample(aten.all.dims, mask(5, 2), exact="y"),
    sample(aten._is_all_true.default, mask(3), exact="y"),
    sample(aten._is_any_true.default, mask(3), exact="y"),
    sample(aten.argmax.default, apart(3, 4), exact="y"),
    sample(aten.argmax.default, apart(3, 4), 1, True, exact="y", note="kept"),
    sample(aten.argmin.default, apart(3, 4), 0, exact="y"),
    sample(aten.nonzero.default, mask(3, 4), exact="y"),
    sample(aten.bucketize.Tensor, apart(3, 4), Sorted((4,), shift=0.125),
           exact="y"),
    sample(aten.searchsorted.Tensor, Sorted((4,)), apart(5, shift=0.125), right=True, exact="y"),
    sample(aten.searchsorted.Tensor, Sorted((3, 5)), apart(3, 4, shift=0.125), side="right",
           exact="y",
           note="rows"),
    sample(aten.histc.default, apart(3, 4), 5, -2, 3, exact="y"),
    sample(aten.histc.default, apart(9), 4, exact="y", note="own limits"),
    sample(aten.histogram.bin_ct, apart(3, 4), 4, exact="y[0]", unused="y[1]"),
    sample(
        aten.histogram.bin_ct, apart(9), 3, range=[-1.0, 1.25], weight=positive(9), density=True,
        unused="y[1]", note="weighted, in limits",
    ),
    sample(aten.histogram.bins_tensor, apart(3, 4), Sorted((4,), shift=0.125), exact="y"),
    sample(
        aten.histogram.bins_tensor, apart(9), Sorted((3,)), weight=normal(9), exact="y[1]",
        note="weighted",
    ),
    sample(aten._histogramdd_bin_edges.default, apart(5, 2), [5, 3]),
    sample(
        aten._histogramdd_from_bin_cts.default, apart(5, 2), [2, 3], range=[-3.0, 3.0, -3.0, 3.0],
        exact="y",
    ),
    sample(
        aten._histogramdd_from_bin_cts.default, apart(5, 2), [1, 1], exact="y", note="own limits"
    ),
    sample(
        aten._histogramdd_from_bin_cts.default, apart(5, 2), [1, 2], range=[-3.0, 3.0, -2.0, 2.0],
        weight=positive(5), density=True, note="weighted, in limits",
    ),
    sample(
        aten._histogramdd_from_bin_tensors.default, apart(5, 2),
        [Sorted((3,), shift=0.125), Sorted((4,), shift=0.125)], exact="y",
    ),
    sample(
        aten._histogramdd_from_bin_tensors.default, apart(5, 2),
        [Sorted((9,), shift=0.125), Sorted((6,), shift=0.125)], weight=positive(5), density=True,
        note="density",
    ),
    sample(aten.repeat_interleave.Tensor, index(5, high=4), exact="y"),
    sample(aten.isin.Tensor_Tensor, index(3, 4, high=9), index(4, high=9), exact="y"),
    sample(aten.isin.Tensor_Tensor, index(3, 4, high=9), index(2, 2, high=9), invert=True,
           exact="y", note="inverted"),
    sample(aten.count_nonzero.default, index(3, 4, high=3), exact="y"),
    sample(aten.count_nonzero.default, Tied((3, 4)), 1, exact="y", note="rows"),
    sample(aten.count_nonzero.dim_IntList, Tied((2, 3, 4)), [0, -1], exact="y"),
    sample(aten.bincount.default, index(9, high=5), exact="y"),
    sample(aten.bincount.default, index(3, high=3), None, 7, exact="y", note="at least 7"),
    sample(aten.bincount.default, index(40, high=3), normal(40), note="weighted"),
    sample(aten._unique2.default, Tied((3, 4)), exact="y"),
    sample(aten._unique2.default, index(3, 4, high=5), True, True, True, exact="y", note="all"),
    sample(aten._unique2.default, mask(6), True, True, exact="y", note="truth values"),
    sample(aten.unique_dim.default, Tied((7, 2)), 0, exact="y"),
    sample(aten.unique_dim.default, index(2, 9, high=3), -1, exact="y", note="columns"),
    sample(aten.unique_consecutive.default, Tied((4, 3)), True, exact="y"),
    sample(aten.unique_consecutive.default, index(12, high=2), False, True, exact="y",
           note="lengths"),
    sample(aten.unique_consecutive.default, index(2, 12, high=2), dim=1, exact="y",
           note="columns"),
)  # fmt: skip
