"""Samples of indexing, masks and tables."""

from __future__ import annotations

from rules.sampling import N, aten, index, mask, normal, sample

INDEXING = (
    sample(aten.index_select.default, normal(4, N), -1, index(N, high=N), exact="y"),
    sample(
        aten.index_select.default, normal(4, 2), 0, index(3, high=4, distinct=True),
        exact="y dx", note="each once",
    ),
    sample(aten.embedding.default, normal(N, 2), index(3, N, high=N), exact="y"),
    sample(aten.embedding.default, normal(9, 2), index(2, 3, low=2, high=9), 1, exact="y",
           note="padding not met"),
    sample(aten.gather.default, normal(4, N), 1, index(2, N, high=N), exact="y"),
    sample(
        aten.scatter.src, normal(3, 5), 1, index(2, 3, high=5, distinct=True),
        normal(2, 3), exact="y dx dsrc",
    ),
    sample(aten.scatter.value, normal(3, 5), 1, index(3, 2, high=5), 0.5, exact="y dx"),
    sample(aten.scatter_.value, normal(3, 5), -1, index(3, 2, high=5), 0.1, exact="dx", unused="y",
           note="in place"),
    sample(aten.scatter_add.default, normal(3, N), 1, index(2, N, high=N), normal(2, N),
           exact="dx dsrc"),
    sample(aten.scatter_add_.default, normal(3, 4), 0, index(2, 2, high=3), normal(2, 2),
           exact="dx dsrc", note="in place"),
    sample(aten.index.Tensor, normal(N, 3), [index(2, N, high=N)], exact="y"),
    sample(aten.index.Tensor, normal(N, 3, 5), [index(N, high=N), None, index(3, 1, high=5)],
           exact="y", note="with None between"),
    sample(aten.index.Tensor, normal(2, 4, 3), [None, index(8, high=4, low=-4), index(8, high=3)],
           exact="y", note="after None"),
    sample(aten.index.Tensor, normal(3, 4), [mask(3, 4)], exact="y dx", note="mask"),
    sample(aten._unsafe_index.Tensor, normal(4, N), [None, index(N, high=N)], exact="y"),
    sample(aten.index_put.default, normal(5, 2), [index(3, high=5, distinct=True)], normal(3, 2),
           exact="y dx dvalues"),
    sample(aten.index_put.default, normal(5, 2), [index(3, high=5, distinct=True)], normal(3, 1),
           exact="y dx", note="broadcast"),
    sample(aten.index_put.default, normal(3, 2), [mask(3, 2)], normal(), exact="y dx",
           note="mask"),
    sample(aten.index_put_.default, normal(3, N), [index(N, high=3), index(N, high=N)], normal(N),
           True, exact="dx dvalues", note="accumulate"),
    sample(aten.index_put_.default, normal(3, N), [None, index(N, high=N)], normal(3, N), True,
           exact="dx dvalues", note="accumulate rows"),
    sample(aten._index_put_impl_.default, normal(4), [index(2, high=4, distinct=True)], normal(2),
           exact="y dx dvalues"),
    sample(aten.where.self, mask(3, 4), normal(3, 4), normal(3, 4), exact="y da db"),
    sample(aten.where.self, mask(2, 3, 1), normal(4), normal(3, 1), exact="y", note="broadcast"),
    sample(aten.masked_fill.Scalar, normal(3, 4), mask(3, 4), 0.5, exact="y dx"),
    sample(aten.masked_fill_.Scalar, normal(3, 4), mask(4), 0.1, exact="dx", unused="y", note="in place"),
    sample(aten.masked_fill.Tensor, normal(4), mask(4), normal(), exact="y dx"),
    sample(aten.masked_select.default, normal(3, 4), mask(3, 4), exact="y dx"),
    sample(aten.masked_select.default, normal(4), mask(3, 4), exact="y", note="broadcast"),
)  # fmt: skip
