"""Matrix products in groups of different sizes, as mixtures of experts take them.

``offs`` says where each group ends along the axis that the groups share: rows of the first factor,
columns of the second, or what is summed over. Both gradients are products of the same kind.
"""

from __future__ import annotations

import itertools

import numpy as np

from gradwitness.rules.registry import Array, rule


def _product(A: Array, B: Array, offs: Array | None) -> Array:
    if offs is None:
        return A @ B
    ragged = A.shape[0] if B.ndim == 3 else B.shape[1] if A.ndim == 3 else A.shape[1]
    ends = [int(end) for end in offs]
    if not ends or ends[-1] != ragged:
        # What belongs to no group is memory that nobody wrote to.
        raise NotImplementedError("groups that leave something over")
    groups = [slice(*pair) for pair in itertools.pairwise((0, *ends))]
    if A.ndim == B.ndim:
        return np.stack([A[:, group] @ B[group] for group in groups])
    if B.ndim == 3:
        return np.concatenate([A[group] @ B[k] for k, group in enumerate(groups)])
    return np.concatenate([A[k] @ B[:, group] for k, group in enumerate(groups)], axis=1)


@rule(
    "aten._grouped_mm",
    "y = grouped_product(A, B, offs)",
    meaning="multiplies the gradient by the other factor, transposed, group by group",
    ignores=("out_dtype",),
)
def grouped_mm(A: Array, B: Array, offs: Array | None, *, bias: None = None) -> Array:
    if bias is not None:  # nor does torch
        raise NotImplementedError("groups with a bias")
    return _product(A, B, offs)


grouped_mm.vjp("A", "grouped_product(g, swap(B, -1, -2), offs)")(
    lambda g, B, offs: _product(g, np.swapaxes(B, -1, -2), offs)
)
grouped_mm.vjp("B", "grouped_product(swap(A, -1, -2), g, offs)")(
    lambda g, A, offs: _product(np.swapaxes(A, -1, -2), g, offs)
)
