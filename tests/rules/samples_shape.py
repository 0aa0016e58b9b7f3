"""Samples of tensors made from numbers, of views and of copies."""

from __future__ import annotations

from rules.sampling import aten, normal, sample

CREATE = (
    sample(aten.zeros.default, [2, 3], exact="y"),
    sample(aten._efficientzerotensor.default, [2, 3], exact="y"),
    sample(aten.ones.default, [2, 3], exact="y"),
    sample(aten.full.default, [2, 3], 7, exact="y", note="whole"),
    sample(aten.full.default, [2, 3], 0.1, unused="y", note="not representable"),
    sample(aten.zeros_like.default, normal(2, 3), exact="y"),
    sample(aten.zero.default, normal(2, 3), exact="y dx"),
    sample(aten.zero_.default, normal(2, 3), exact="y dx"),
    sample(aten.ones_like.default, normal(2, 3), exact="y"),
    sample(aten.new_zeros.default, normal(2, 3), [4, 1], exact="y"),
    sample(aten.full_like.default, normal(2, 3), 0.5, exact="y"),
    sample(aten.scalar_tensor.default, 3, exact="y"),
)

SHAPE = (
    sample(aten.t.default, normal(3, 4), exact="y dx"),
    sample(aten.t.default, normal(3), exact="y dx", note="vector"),
    sample(aten.transpose.int, normal(2, 3, 4), -1, 0, exact="y dx"),
    sample(aten.permute.default, normal(2, 3, 4), [2, 0, 1], exact="y dx"),
    sample(aten.permute.default, normal(2, 3, 4), [-2, -1, 0], exact="y dx", note="negative"),
    sample(aten.view.default, normal(2, 3, 4), [6, -1], exact="y dx"),
    sample(aten.view.default, normal(1), [], exact="y dx", note="to 0-d"),
    sample(aten._unsafe_view.default, normal(2, 6), [3, 4], exact="y dx"),
    sample(aten._reshape_alias.default, normal(2, 6), [3, 4], [4, 1], exact="y dx"),
    sample(aten.unsqueeze.default, normal(2, 3), 1, exact="y dx"),
    sample(aten.unsqueeze.default, normal(2, 3), -1, exact="y dx", note="last"),
    sample(aten.squeeze.default, normal(1, 3, 1), exact="y dx"),
    sample(aten.squeeze.dim, normal(1, 3, 1), -1, exact="y dx", note="-1"),
    sample(aten.squeeze.dim, normal(1, 3, 1), 1, exact="y dx", note="no axis of size 1"),
    sample(aten.squeeze.dims, normal(1, 3, 1), [0, 1, 2], exact="y dx"),
    sample(aten.squeeze.dim, normal(), 0, exact="y dx", note="0-d"),
    sample(aten.expand.default, normal(3, 1), [2, -1, 4], exact="y"),
    sample(aten.expand.default, normal(), [3], exact="y", note="0-d"),
    sample(aten.expand.default, normal(2, 3), [2, 3], exact="y dx", note="to itself"),
    sample(aten.clone.default, normal(2, 3), exact="y dx"),
    sample(aten.alias.default, normal(2, 3), exact="y dx"),
    sample(aten._to_copy.default, normal(2, 3), exact="y dx"),
    sample(aten.contiguous.default, normal(2, 3), exact="y dx"),
    sample(aten.detach.default, normal(2, 3), exact="y dx"),
    sample(aten.copy_.default, normal(2, 3), normal(2, 3), exact="y dx dsrc"),
    sample(aten.copy_.default, normal(4, 3), normal(3), exact="y dx", note="broadcast"),
    sample(aten.fill.Tensor, normal(2, 3), normal(), exact="y dx"),
    sample(aten.fill.Scalar, normal(2, 3), 0.5, exact="y dx"),
    sample(aten.select.int, normal(2, 3, 4), 1, 2, exact="y dx"),
    sample(aten.select.int, normal(2, 3, 4), -1, -4, exact="y dx", note="negative"),
    sample(aten.slice.Tensor, normal(2, 7), 1, 1, 6, 2, exact="y dx"),
    sample(aten.slice.Tensor, normal(2, 7), -1, -3, 99, exact="y dx", note="past the end"),
    sample(aten.slice.Tensor, normal(7, 2), exact="y dx", note="whole"),
    sample(aten.as_strided.default, normal(3, 4), [2, 2], [4, 2], exact="y dx"),
    sample(aten.as_strided.default, normal(3, 4), [2, 3], [1, 3], 2, exact="y dx", note="offset"),
    sample(aten.as_strided.default, normal(9), [4, 3], [2, 1], exact="y", note="overlapping"),
)

# The same as the views, but for the memory.
COPIES = (
    sample(aten.t_copy.default, normal(3, 4), exact="y dx"),
    sample(aten.transpose_copy.int, normal(2, 3, 4), -1, 0, exact="y dx"),
    sample(aten.permute_copy.default, normal(2, 3, 4), [2, 0, 1], exact="y dx"),
    sample(aten.view_copy.default, normal(2, 3, 4), [6, -1], exact="y dx"),
    sample(aten.unsqueeze_copy.default, normal(2, 3), 1, exact="y dx"),
    sample(aten.squeeze_copy.default, normal(1, 3, 1), exact="y dx"),
    sample(aten.expand_copy.default, normal(3, 1), [2, -1, 4], exact="y"),
    sample(aten.alias_copy.default, normal(2, 3), exact="y dx"),
    sample(aten.select_copy.int, normal(2, 3, 4), 1, 2, exact="y dx"),
    sample(aten.narrow_copy.default, normal(2, 7), 1, 2, 3, exact="y dx"),
    sample(aten.slice_copy.Tensor, normal(2, 7), 1, 1, 6, 2, exact="y dx"),
    sample(aten.as_strided_copy.default, normal(3, 4), [2, 2], [4, 2], exact="y dx"),
    sample(aten.unfold_copy.default, normal(2, 7), 1, 3, 2, exact="y"),
    sample(aten.split_copy.Tensor, normal(2, 5), 2, 1, exact="y dx"),
    sample(aten.split_with_sizes_copy.default, normal(2, 6), [1, 3, 2], -1, exact="y dx"),
    sample(aten.unbind_copy.int, normal(2, 3), 1, exact="y dx"),
)
