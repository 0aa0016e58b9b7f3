"""Samples of softmax and its kin, and of normalisation."""

from __future__ import annotations

from rules.sampling import Draw, N, aten, normal, sample

SOFTMAX = (
    sample(aten._softmax.default, normal(3, N), -1, False),
    sample(aten._softmax.default, normal(2, N, 3), 1, False, note="middle axis"),
    sample(aten._safe_softmax.default, normal(3, N), -1),
    sample(aten._log_softmax.default, normal(3, N), -1, False),
    sample(aten._log_softmax.default, normal(2, N, 3), 1, False, note="middle axis"),
    sample(aten.logsumexp.default, normal(3, N), [1]),
    sample(aten.logsumexp.default, normal(2, N, 3), [0, -1], True, note="two axes kept"),
    sample(aten.log_sigmoid_forward.default, normal(4, N), constant="y[1]"),
)


def _constant(*shape: int, positive: bool = False) -> Draw:
    return Draw(shape, gap=0.5 if positive else 0.0, positive=positive, constant=True)


_EPS = 1e-5
_BATCH = (aten.native_batch_norm.default, normal(3, 4, N))
_STATISTICS = (_constant(4), _constant(4, positive=True))
_ROWS = (*_BATCH[1:], normal(4), normal(4), *_STATISTICS)

NORMALISATION = (
    sample(aten._native_batch_norm_legit.default, *_ROWS, True, 0.1, _EPS, constant="y[1] y[2]"),
    sample(
        aten._native_batch_norm_legit_no_training.default, *_ROWS, 0.1, _EPS, constant="y[1] y[2]"
    ),
    sample(aten._batch_norm_with_update.default, *_ROWS, 0.1, _EPS, constant="y[1] y[2] y[3]"),
    sample(
        aten.native_layer_norm.default,
        normal(2, 3, 6),
        [6],
        normal(6),
        normal(6),
        _EPS,
        constant="y[1] y[2]",
    ),
    sample(
        aten.native_layer_norm.default,
        normal(3, 2, 4),
        [2, 4],
        None,
        None,
        _EPS,
        constant="y[1] y[2]",
        note="two axes, plain",
    ),
    sample(
        *_BATCH,
        normal(4),
        normal(4),
        *_STATISTICS,
        True,
        0.1,
        _EPS,
        constant="y[1] y[2]",
        note="training",
    ),
    sample(*_BATCH, None, None, None, None, True, 0.1, _EPS, constant="y[1] y[2]", note="plain"),
    sample(
        *_BATCH,
        normal(4),
        normal(4),
        *_STATISTICS,
        False,
        0.1,
        _EPS,
        constant="y[1] y[2]",
        note="evaluation",
    ),
)
