"""Samples of padding, of sliding blocks, of bags of rows, and of writing to places."""

from __future__ import annotations

from typing import Any

import numpy as np

from rules.samples_products import Vanishing
from rules.sampling import Draw, apart, aten, away, index, mask, normal, sample

into, rows_into = aten.scatter_reduce.two, aten.index_reduce.default
bag = aten._embedding_bag.default


class Starts(Draw):
    """Where bags begin among 6 indices: one of them is empty."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array([0, 2, 2, 5, 6][: self.shape[0]], dtype=np.int64)


PADDING = (
    sample(aten.reflection_pad1d.default, normal(2, 5), [2, 3], exact="y"),
    sample(aten.reflection_pad2d.default, normal(2, 3, 4), [1, 2, 2, 0], exact="y"),
    sample(aten.reflection_pad2d.default, normal(2, 3, 4), [-1, 1, 0, 0], exact="y", note="cut"),
    sample(aten.reflection_pad3d.default, normal(1, 2, 2, 3), [1, 2, 0, 1, 1, 1], exact="y"),
    sample(aten.replication_pad1d.default, normal(2, 3), [4, 1], exact="y"),
    sample(aten.replication_pad2d.default, normal(1, 2, 3, 4), [1, 2, 0, 3], exact="y"),
    sample(aten.replication_pad3d.default, normal(1, 2, 2, 3), [1, 2, 0, 1, 1, 1], exact="y"),
    sample(aten.im2col.default, normal(2, 2, 4, 5), [2, 3], [1, 1], [0, 0], [1, 1], exact="y"),
    sample(aten.im2col.default, normal(2, 5, 6), [2, 2], [2, 1], [1, 1], [1, 3], exact="y",
           note="no batch"),
    sample(aten.col2im.default, normal(2, 12, 9), [4, 5], [2, 3], [1, 1], [0, 0], [1, 1],
           exact="dx"),
    sample(aten.col2im.default, normal(8, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1], exact="dx",
           note="no batch"),
)  # fmt: skip

BAGS = (
    sample(bag, normal(5, 3), index(6, high=5), Starts((4,)), False, 0, False, None, False, 4,
           exact="y[1] y[2] y[3]"),
    sample(bag, normal(5, 3), index(6, high=5), Starts((5,)), False, 1, False, None, True, 2,
           exact="y[1] y[2] y[3]", note="mean"),
    sample(bag, normal(5, 3), index(6, high=5), Starts((4,)), False, 2, exact="y", note="max"),
    sample(bag, normal(5, 3), index(6, high=5), Starts((4,)), False, 0, False, normal(6), False, 1,
           exact="y[1] y[2] y[3]", note="weighted"),
    sample(aten.embedding_renorm_.default, away(5, 3), index(2, 2, high=5), 1.1, 2.0),
    sample(aten.embedding_renorm_.default, away(5, 3), index(6, high=5), 3.1, 1.0,
           note="1"),
)  # fmt: skip

other = apart(3, 4, shift=0.125)
distinct = index(3, high=5, distinct=True)

segments = aten.segment_reduce.default


class Lengths(Draw):
    """How many of 5 rows each segment has."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.broadcast_to(np.array([2, 0, 3]), self.shape).copy()


class Beyond(Draw):
    """Indices of which some lie outside, where a mask leaves them out."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array([1, 9, 0, 1, -7, 2])


class Inside(Draw):
    """A mask that leaves those out."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array([True, False, True, True, False, True])


_indices = [Beyond((6,), constant=True), index(6, high=6, distinct=True)]
_inside = Inside((6,), constant=True)

PLACING = (
    sample(aten.as_strided_scatter.default, Draw((3, 4), constant=True), normal(2, 2), [2, 2],
           [4, 2], 1, exact="y dsrc"),
    sample(aten._unsafe_masked_index.default, normal(3, 6), _inside, _indices, 0.5, exact="y dx"),
    sample(aten._unsafe_masked_index_put_accumulate.default, normal(3, 6), _inside, _indices,
           normal(6), exact="dx dvalues"),
    sample(aten.resize_.default, Draw((3, 4), constant=True), [2, 5], exact="y"),
    sample(aten.resize_as_.default, Draw((3, 4), constant=True), Draw((2, 6), constant=True),
           exact="y"),
    sample(aten.nonzero_static.default, mask(3, 4), size=4, exact="y"),
    sample(aten.nonzero_static.default, mask(2, 3), size=9, fill_value=7, exact="y",
           note="padded"),
    sample(aten.hash_tensor.default, Draw((3, 4), constant=True), [1], exact="y"),
    sample(aten._chunk_cat.default,
           [Draw((3, 4), constant=True), Draw((4, 2), constant=True)], 0, 2, exact="y"),
    sample(aten.nextafter.default, normal(3, 4), normal(3, 4), exact="y da db"),
    sample(segments, normal(5, 2), "sum", lengths=Lengths((3,)), initial=0.5, exact="dx"),
    sample(segments, normal(2, 5), "mean", lengths=Lengths((2, 3)), axis=1, initial=1.5,
           note="mean"),
    sample(segments, apart(5, 2), "max", lengths=Lengths((3,)), initial=-9.0, exact="y",
           unused="dx", note="max"),
    sample(segments, away(5), "prod", lengths=Lengths((3,)), initial=1.5, note="prod"),
    sample(aten.index_add.default, normal(5, 2), 0, index(7, high=5), normal(7, 2),
           exact="dx dsource"),
    sample(aten.index_add_.default, normal(2, 4), -1, index(3, high=4), normal(2, 3), alpha=0.7,
           exact="dx", note="in place"),
    sample(aten.index_copy.default, normal(5, 2), 0, distinct, normal(3, 2),
           exact="y dx dsource"),
    sample(aten.index_copy.default, normal(2, 5), 1, distinct, normal(2, 3),
           exact="y dx dsource", note="columns"),
    sample(aten.index_fill.int_Scalar, normal(2, 5), 1, index(3, high=5), 0.5, exact="y dx"),
    sample(aten.index_fill.int_Tensor, normal(5, 2), 0, index(3, high=5), normal(), exact="y dx"),
    sample(aten.take.default, normal(3, 4), index(2, 5, high=12, low=-12), exact="y"),
    sample(aten.put.default, normal(3, 4), index(6, high=12, distinct=True), normal(6),
           exact="y dx dsource"),
    sample(aten.put.default, normal(3, 4), index(2, 9, high=12, low=-12), normal(2, 9), True,
           exact="dx dsource", note="accumulate"),
    sample(aten.masked_scatter.default, normal(3, 4), mask(3, 4), normal(13),
           exact="y dx dsource"),
    sample(aten.masked_scatter.default, normal(3, 4), mask(4), normal(3, 5),
           exact="y dx dsource", note="broadcast"),
    sample(aten.masked_scatter.default, normal(5), mask(4, 5), normal(21),
           exact="y dsource", note="larger mask"),
    sample(into, normal(3, 5), 1, index(3, 4, high=5), normal(3, 4), "sum",
           note="sum", exact="dx dsrc"),
    sample(into, normal(3, 5), 1, index(3, 4, high=5), normal(3, 4), "mean", note="mean"),
    sample(into, normal(3, 5), 0, index(4, 5, high=3), normal(4, 5), "mean",
           include_self=False, unused="dx",
           note="without itself"),
    sample(into, apart(3, 5), 1, index(3, 4, high=5), other, "amax", exact="y",
           unused="dx dsrc", note="largest"),
    sample(into, apart(3, 5), 1, index(3, 4, high=5), other, "amin",
           include_self=False, exact="y", unused="dx dsrc", note="smallest without itself"),
    sample(into, away(3, 5), 1, index(3, 4, high=5), away(3, 4), "prod", note="product"),
    sample(into, away(9, 9), 0, index(4, 9, high=9), away(4, 9), "prod",
           include_self=False, note="product without itself"),
    sample(into, Vanishing((3, 5), gap=0.5), 1, index(3, 6, high=5), Vanishing((3, 6), gap=0.5),
           "prod", note="product of zeros"),
    sample(into, normal(3, 5), 1, index(2, 3, high=5), Draw((2, 4), constant=True), "mean",
           note="mean of a part"),
    sample(rows_into, away(3, 5), 1, index(4, high=5), away(3, 4), "prod", note="product"),
    sample(rows_into, normal(3, 5), 0, index(4, high=3), normal(4, 5), "mean",
           include_self=False, unused="dx", note="mean without itself"),
    sample(rows_into, apart(3, 5), 1, index(4, high=5), other, "amax", exact="y",
           unused="dx dsrc", note="largest"),
    sample(aten.select_scatter.default, normal(3, 4), normal(3), 1, -2, exact="y dx dsrc"),
    sample(aten.slice_scatter.default, normal(7, 2), normal(3, 2), 0, 1, 6, 2,
           exact="y dx dsrc"),
    sample(aten.slice_scatter.default, normal(2, 5), normal(2, 2), -1, -2, exact="y dx dsrc",
           note="from the end"),
    sample(aten.diagonal_scatter.default, normal(3, 4), normal(3), exact="y dx dsrc"),
    sample(aten.diagonal_scatter.default, normal(3, 2, 4), normal(2, 2), -1, 0, 2,
           exact="y dx dsrc", note="first and last"),
    sample(aten.diag_embed.default, normal(2, 3), exact="y dx"),
    sample(aten.diag_embed.default, normal(2, 3), -1, 0, 2, exact="y dx", note="first and last"),
    sample(aten.diagonal_copy.default, normal(3, 4), 1, exact="y dx"),
)  # fmt: skip
