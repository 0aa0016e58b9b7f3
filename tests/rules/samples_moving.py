"""Samples of joining, splitting and rearranging."""

from __future__ import annotations

from rules.sampling import aten, normal, sample

JOINING = (
    sample(
        aten.block_diag.default,
        [normal(2, 3), normal(4), normal(), normal(1, 2)],
        exact="y dtensors",
    ),
    sample(aten.cat.default, [normal(2, 3), normal(1, 3)], exact="y dtensors"),
    sample(aten.cat.default, [normal(2, 1), normal(2, 3)], -1, exact="y dtensors", note="-1"),
    sample(aten.stack.default, [normal(2, 3), normal(2, 3)], 1, exact="y dtensors"),
    sample(aten.stack.default, [normal(), normal()], exact="y dtensors", note="0-d"),
    sample(aten.split.Tensor, normal(2, 5), 2, 1, exact="y dx"),
    sample(aten.split.Tensor, normal(2, 3), 3, -1, exact="y dx", note="one part"),
    sample(aten.unsafe_split.Tensor, normal(4, 3), 3, exact="y dx"),
    sample(aten.split_with_sizes.default, normal(2, 6), [1, 3, 2], -1, exact="y dx"),
    sample(aten.unsafe_split_with_sizes.default, normal(4, 2), [3, 1], exact="y dx"),
    sample(aten.unbind.int, normal(2, 3), 1, exact="y dx"),
    sample(aten.unbind.int, normal(1, 3), exact="y dx", note="one layer"),
)

REARRANGING = (
    sample(aten.repeat.default, normal(2, 3), [3, 1, 2], exact="y"),
    sample(aten.flip.default, normal(2, 3, 2), [0, -1], exact="y dx"),
    sample(aten.rot90.default, normal(3, 4), exact="y dx"),
    sample(aten.rot90.default, normal(2, 3, 4), -1, [2, 0], exact="y dx", note="back"),
    sample(aten.rot90.default, normal(2, 3), 2, [1, 0], exact="y dx", note="twice"),
    sample(aten.roll.default, normal(3, 4), [1, -2], [0, 1], exact="y dx"),
    sample(aten.roll.default, normal(3, 4), [5], exact="y dx", note="flattened"),
    sample(aten.tril.default, normal(2, 3, 4), 1, exact="y dx"),
    sample(aten.triu.default, normal(3, 4), -1, exact="y dx"),
    sample(aten.diagonal.default, normal(3, 4), 1, exact="y dx"),
    sample(aten.diagonal.default, normal(2, 3, 4), -1, -1, 0, exact="y dx", note="of 3 axes"),
    sample(aten.unfold.default, normal(2, 7), -1, 3, 2, exact="y"),
    sample(aten.unfold.default, normal(5, 2), 0, 2, 3, exact="y dx", note="no overlap"),
    sample(aten.constant_pad_nd.default, normal(2, 3), [1, 2], exact="y dx"),
    sample(aten.constant_pad_nd.default, normal(3, 4), [-1, 2, 1, -2], 0.5, exact="y dx",
           note="negative"),
    sample(aten.constant_pad_nd.default, normal(2, 2), [0, 1], 0.1, exact="dx",
           unused="y", note="not representable"),
)  # fmt: skip
