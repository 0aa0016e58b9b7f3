"""Samples of losses, of distances and of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rules.samples_functions import between
from rules.sampling import Draw, N, aten, index, normal, positive, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Fixed(Draw):
    """Whole numbers that are given: labels."""

    numbers: tuple[Any, ...] = ()

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del rng, length
        return np.array(self.numbers, dtype=np.int64)


@dataclass(frozen=True)
class Tiers(Draw):
    """Numbers ``start``, ``start + step``, ... in the order of the places, each moved by 1/8 at
    most: no margin between two of them is nearly met.
    """

    step: float = 0.75

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        sizes = self.sizes(length)
        order = rng.permutation(int(np.prod(sizes))) % 7
        moved = rng.uniform(-0.1, 0.1, order.size)
        return np.asarray(order * self.step + moved, np.float32).astype(np.float64).reshape(sizes)


_NEAR_AND_FAR = between(4, N, ends=((-3.0, -1.6), (-1.0, 1.0), (1.6, 3.0)))
_PROBABLE = between(4, N, ends=((0.42, 0.58),))
_LIKELY = between(4, N, ends=((0.1, 0.9),))
_LABELS = Fixed((3, 5), numbers=((0, 2, -1, 1, 1), (4, -1, 0, 0, 0), (1, 3, 0, 2, 4)))

GAPS = tuple(
    sample(op, _NEAR_AND_FAR, between(4, N, ends=((-0.1, 0.1),)), *rest, note=note)
    for op in (aten.smooth_l1_loss.default, aten.huber_loss.default)
    for note, rest in (
        ("mean", (1, 1.3)),
        ("sum", (2, 1.3)),
        ("none", (0, 1.3)),
        ("plain", ()),
    )
)

BINARY = (
    sample(aten.binary_cross_entropy.default, _PROBABLE, _LIKELY, None, 1, note="mean"),
    sample(aten.binary_cross_entropy.default, _PROBABLE, _LIKELY, None, 2, note="sum"),
    sample(
        aten.binary_cross_entropy.default,
        _PROBABLE,
        _LIKELY,
        Draw((N,), gap=0.5, positive=True, constant=True),
        0,
        note="weighted none",
    ),
    sample(aten.binary_cross_entropy_with_logits.default, normal(4, N), _LIKELY, note="mean"),
    sample(
        aten.binary_cross_entropy_with_logits.default,
        normal(4, N),
        _LIKELY,
        None,
        None,
        2,
        note="sum",
    ),
    sample(
        aten.binary_cross_entropy_with_logits.default,
        normal(4, N),
        _LIKELY,
        Draw((N,), gap=0.5, positive=True, constant=True),
        Draw((N,), gap=0.5, positive=True, constant=True),
        0,
        note="weighted none",
    ),
    sample(
        aten.soft_margin_loss.default,
        normal(4, N),
        Draw((4, N), gap=0.5, constant=True),
        note="mean",
    ),
    sample(
        aten.soft_margin_loss.default, normal(4, N), Draw((4, N), constant=True), 0, note="none"
    ),
)

_POSITIVE = Draw((5,), gap=0.5, positive=True, constant=True)

CLASSES = (
    sample(
        aten.nll_loss2d_forward.default,
        positive(2, 4, 3, 2),
        index(2, 3, 2, high=4),
        None,
        1,
        -100,
        note="mean",
        exact="y[1]",
        constant="y[1]",
    ),
    sample(
        aten.nll_loss2d_forward.default,
        positive(2, 5, 3, 2),
        index(2, 3, 2, high=5),
        _POSITIVE,
        1,
        2,
        note="weighted, one ignored",
        constant="y[1]",
    ),
    sample(
        aten.nll_loss2d_forward.default,
        positive(2, 5, 3, 2),
        index(2, 3, 2, high=5),
        _POSITIVE,
        2,
        1,
        note="weighted sum",
        constant="y[1]",
    ),
    sample(
        aten.nll_loss2d_forward.default,
        positive(2, 4, 3, 2),
        index(2, 3, 2, high=4),
        None,
        0,
        1,
        note="none",
        exact="y dx",
        constant="y[1]",
    ),
    sample(
        aten.multi_margin_loss.default,
        Tiers((4, 5)),
        index(4, high=5),
        note="mean",
    ),
    sample(
        aten.multi_margin_loss.default,
        Tiers((4, 5)),
        index(4, high=5),
        2,
        1.4,
        _POSITIVE,
        2,
        note="squares, weighted",
    ),
    sample(
        aten.multi_margin_loss.default,
        Tiers((4, 5)),
        index(4, high=5),
        1,
        1.4,
        None,
        0,
        note="none",
    ),
    sample(
        aten.multilabel_margin_loss_forward.default,
        Tiers((3, 5)),
        _LABELS,
        1,
        note="mean",
        exact="y[1]",
        constant="y[1]",
    ),
    sample(
        aten.multilabel_margin_loss_forward.default,
        Tiers((3, 5)),
        _LABELS,
        0,
        note="none",
        exact="y[1]",
        constant="y[1]",
    ),
)

# So unlikely that exp(x), by which torch's gradient is not that of the value, is nothing beside the
# rest (see test_conventions_sequences).
_UNLIKELY = between(5, 2, 4, ends=((-41.0, -39.0),))

ALIGNMENTS = (
    sample(
        aten._ctc_loss.default,
        _UNLIKELY,
        Fixed((2, 3), numbers=((1, 1, 2), (3, 1, 0))),
        [5, 4],
        [3, 2],
        note="a label twice, two lengths",
        constant="y[1]",
    ),
    sample(
        aten._ctc_loss.Tensor,
        _UNLIKELY,
        Fixed((3,), numbers=(0, 1, 0)),
        torch.tensor([4, 5]),
        torch.tensor([0, 3]),
        2,
        note="targets in one row, no label",
        constant="y[1]",
    ),
)
