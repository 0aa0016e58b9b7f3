"""Samples of recurrent layers, and of sequences of unequal lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rules.sampling import Draw, N, aten, normal, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Layer:
    """The kernel for an LSTM; in float64, which it does not have, what torch runs in its stead."""

    _op = aten.mkldnn_rnn_layer.default
    _schema = _op._schema

    def __str__(self) -> str:
        return str(self._op)

    def __call__(self, x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        if x.dtype is not torch.float64:
            return tuple(self._op(x, *rest))
        w, u, b, v, h, c, reverse, _, _, _, _, has_biases, *_ = rest
        weights = (w, u, b, v) if has_biases else (w, u)
        y, h, c = torch.lstm(
            x.flip(0) if reverse else x,
            (h[None], c[None]),
            weights,
            has_biases=has_biases,
            num_layers=1,
            dropout=0.0,
            train=True,
            bidirectional=False,
            batch_first=False,
        )
        y = y.flip(0) if reverse else y
        return y, h[0], c[0], torch.empty(0, dtype=torch.uint8)


@dataclass(frozen=True)
class Lengths(Draw):
    """The lengths of some sequences, from the longest on."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del rng, length
        return np.array([4, 2, 2, 1])


_LSTM = 2
_START = (normal(2, 3), normal(2, 3))


def _how(*, reverse: bool, has_biases: bool) -> tuple[Any, ...]:
    return reverse, [], _LSTM, 3, 1, has_biases, False, False, True


RECURRENT = (
    sample(
        _Layer(),
        normal(3, 2, N),
        normal(12, N),
        normal(12, 3),
        normal(12),
        normal(12),
        *_START,
        *_how(reverse=False, has_biases=True),
    ),
    sample(
        _Layer(),
        normal(3, 2, 3),
        normal(12, 3),
        normal(12, 3),
        Draw((12,), constant=True),
        Draw((12,), constant=True),
        *_START,
        *_how(reverse=True, has_biases=False),
        note="backwards, no biases",
    ),
    sample(
        aten._pack_padded_sequence.default,
        normal(5, 4, 3),
        Lengths((4,)),
        False,
        exact="y dx",
    ),
    sample(
        aten._pack_padded_sequence.default,
        normal(4, 4, 2),
        Lengths((4,)),
        True,
        note="batch first",
        exact="y dx",
    ),
)
