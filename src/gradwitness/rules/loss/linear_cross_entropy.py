"""Cross entropy of scores that a linear map makes, row by row so that not all are held at once.

Of ``d_nc = u_n (p_nc - t_nc)`` torch adds up both terms apart from each other, with the softmax p,
the target t and the weight u of each row, and so do the sums here. Its other results are gradients,
scaled by what comes in later: they are judged there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import round_to_format
from gradwitness.rules.loss.losses_classes import weights_of
from gradwitness.rules.reduce.softmax import shifted
from gradwitness.rules.registry import ALWAYS, Array, Rule, rule

if TYPE_CHECKING:
    from collections.abc import Callable

_MEANING = (
    "multiplies each row's weight and gradient by the softmax of its scores, less 1 at its target, "
    "and takes that through the linear map"
)


def _scores(x: Array, W: Array, bias: Array | None) -> tuple[Array, Array]:
    """Return each row's scores less the largest one, and the sum of the exponentials of that."""
    made = x @ np.swapaxes(W, 0, 1)
    made = round_to_format(made if bias is None else made + bias)
    down, total = shifted(made, 1)
    return round_to_format(down), total


def _shares(target: Array, weight: Array | None, ignore_index: int, reduction: str) -> Any:
    at, w = weights_of(target, weight, ignore_index)
    return at, w / np.sum(w) if reduction == "mean" else w


def _added_up(terms: Array, reduction: str) -> Array:
    """Add up a loss's terms, which weights may have made a mean: of no rows that is 0 / 0."""
    total = np.sum(terms)
    return total / 0 if reduction == "mean" and 0 in terms.shape else total


def _pieces(u: Array, at: Array, x: Array, W: Array, bias: Array | None) -> list[Array]:
    """Return u_n p_nc, and - u_n t_nc."""
    down, total = _scores(x, W, bias)
    hit = np.equal(np.arange(W.shape[0], like=W), at[:, None])
    u = np.expand_dims(u, 1)
    return [round_to_format(np.exp(down)) * (u / total), np.where(hit, -u, 0)]


def _enter(name: str, extra: tuple[str, ...], is_reduced: bool) -> Rule:
    arguments = "x, W, target, bias, weight, ignore_index" + ", reduction" * is_reduced
    word = "mapped_entropy" if is_reduced else "mapped_entropies"

    @rule(
        f"torch_nn.{name}",
        f"y = {word}({arguments})" + ", None, None, None" * is_reduced,
        meaning=_MEANING,
        node=f"GeneratedBackwardFor_torch_nn_{name}_defaultBackward",
        ignores=("batch_chunk_size", "acc_policy", "acc_dtype", *extra),
    )
    def entropy(
        x: Array,
        W: Array,
        target: Array,
        bias: Array | None,
        weight: Array | None,
        *,
        ignore_index: int,
        reduction: str = "none",
    ) -> Any:
        down, total = _scores(x, W, bias)
        at, w = _shares(target, weight, ignore_index, reduction)
        chosen = np.take_along_axis(down, at[:, None], axis=1)[:, 0]
        if not is_reduced:
            return w * (np.log(total)[:, 0] - chosen)
        terms = np.concatenate([w * np.log(total)[:, 0], -(w * chosen)])
        return _added_up(terms, reduction), None, None, None

    def enter_gradient(
        operand: str, to: str, lead: Callable[[list[Array], Array, Array], Array]
    ) -> None:
        @entropy.vjp(operand, f"{to}({'g[0]' if is_reduced else 'g'}, {arguments})", kernel=ALWAYS)
        def _(
            g: Any,
            x: Array,
            W: Array,
            target: Array,
            bias: Array | None,
            weight: Array | None,
            *,
            ignore_index: int,
            reduction: str,
        ) -> Array:
            at, w = _shares(target, weight, ignore_index, reduction)
            u = (g[0] if is_reduced else g) * w
            return lead(_pieces(u, at, x, W, bias), x, W)

    def to_shift(pieces: list[Array], x: Array, W: Array) -> Array:  # noqa: ARG001
        return np.sum(np.concatenate(pieces), axis=0)

    def to_map(pieces: list[Array], x: Array, W: Array) -> Array:  # noqa: ARG001
        return np.swapaxes(np.concatenate(pieces), 0, 1) @ np.concatenate([x, x])

    def to_mapped(pieces: list[Array], x: Array, W: Array) -> Array:  # noqa: ARG001
        return np.concatenate(pieces, axis=1) @ np.concatenate([W, W])

    enter_gradient("x", "to_mapped", to_mapped)
    enter_gradient("W", "to_map", to_map)
    enter_gradient("bias", "to_shift", to_shift)
    return entropy


linear_cross_entropy = _enter(
    "_linear_cross_entropy_batch_chunked",
    (
        "label_smoothing", "allow_retain_graph", "compute_input_grad",
        "compute_linear_weight_grad", "compute_linear_bias_grad",
    ),
    is_reduced=True,
)  # fmt: skip
linear_cross_entropies = _enter(
    "_linear_cross_entropy_batch_chunked_no_reduction", (), is_reduced=False
)
