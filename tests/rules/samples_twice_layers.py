"""Samples of the backward kernels of convolutions and normalisation, as operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import Draw, N, aten, made, normal, sample

if TYPE_CHECKING:
    from rules.sampling import Sample


def convolution(
    dy: Draw,
    x: Draw,
    w: Draw,
    note: str,
    *,
    stride: int = 1,
    padding: list[int] | None = None,
    dilation: int = 1,
    groups: int = 1,
    transposed: bool = False,
    extra: int = 0,
) -> Sample:
    axes = len(x.shape) - 2
    steps, gaps, more = ([n] * axes for n in (stride, dilation, extra))
    place = (steps, padding or [0] * axes, gaps, transposed, more, groups)
    bias = [dy.shape[1]]
    back = aten.convolution_backward.default
    return sample(back, dy, x, w, bias, *place, [True] * 3, note=note)


TWICE_CONVOLUTION = (
    convolution(normal(2, 4, 4), normal(2, N, 6), normal(4, N, 3), "1-d"),
    convolution(
        normal(1, 3, 3, 6), normal(1, N, 3, 3), normal(3, N, 3, 2), "2-d padded", padding=[1, 2]
    ),
    convolution(normal(1, 2, 2, 3, 2), normal(1, 2, 3, 4, 3), normal(2, 2, 2, 2, 2), "3-d"),
    # (7 - 3) is no multiple of the stride 3: the last input meets no kernel.
    convolution(normal(2, 3, 2), normal(2, 2, 7), normal(3, 2, 3), "stride", stride=3),
    convolution(
        normal(1, 3, 4, 3),
        normal(1, 2, 4, 5),
        normal(3, 2, 2, 3),
        "dilated",
        dilation=2,
        padding=[1, 1],
    ),
    convolution(
        normal(2, 6, 3, 3),
        normal(2, 4, 5, 5),
        normal(6, 2, 3, 3),
        "grouped",
        stride=2,
        padding=[1, 1],
        groups=2,
    ),
    convolution(normal(2, 3, 4), normal(2, 3, 5), normal(3, 1, 2), "depthwise", groups=3),
    convolution(normal(2, 3, 7), normal(2, N, 5), normal(N, 3, 3), "transposed", transposed=True),
    convolution(
        normal(1, 6, 4, 6),
        normal(1, 4, 2, 1),
        normal(4, 3, 2, 3),
        "transposed, grouped",
        stride=2,
        padding=[1, 0],
        dilation=2,
        groups=2,
        transposed=True,
        extra=1,
    ),
)


_EPS = 1e-5


def _row_mean(dy: Any, x: Any, sizes: list[int], *_: Any) -> Any:
    return np.mean(x, axis=tuple(range(-len(sizes), 0)), keepdims=True)


def _row_inverse(dy: Any, x: Any, sizes: list[int], *_: Any) -> Any:
    return 1 / np.sqrt(np.var(x, axis=tuple(range(-len(sizes), 0)), keepdims=True) + _EPS)


def _batch_mean(dy: Any, x: Any, *_: Any) -> Any:
    return np.mean(x, axis=(0, *range(2, x.ndim)))


def _batch_inverse(dy: Any, x: Any, *_: Any) -> Any:
    return 1 / np.sqrt(np.var(x, axis=(0, *range(2, x.ndim))) + _EPS)


def _layer_norm(shape: tuple[int, ...], axes: int, note: str, fixed: bool = True) -> Sample:
    last = shape[-axes:]
    statistics = made(_row_mean, constant=fixed), made(_row_inverse, constant=fixed)
    given = (normal(*shape), normal(*shape), list(last), *statistics, normal(*last), normal(*last))
    exact = "db" if fixed else "db dm dr"
    back = aten.native_layer_norm_backward.default
    return sample(back, *given, [True] * 3, note=note, exact=exact)


def _batch_norm(shape: tuple[int, ...], train: bool, note: str, fixed: bool = True) -> Sample:
    running = Draw((shape[1],), constant=True), Draw((shape[1],), 0.5, True, constant=True)
    saved: tuple[Any, ...] = (Draw((0,), constant=True),) * 2
    if train:
        saved = made(_batch_mean, constant=fixed), made(_batch_inverse, constant=fixed)
    given = (normal(*shape), normal(*shape), normal(shape[1]), *running, *saved)
    exact = "" if fixed else "dsaved_mean dsaved_inverse"
    back = aten.native_batch_norm_backward.default
    return sample(back, *given, train, _EPS, [True] * 3, note=note, exact=exact)


TWICE_NORMS = (
    _layer_norm((2, 3, 6), 1, "rows"),
    _layer_norm((3, 2, 4), 2, "two axes"),
    # Torch has no gradient for the statistics, whose edges lead nowhere.
    _layer_norm((2, 6), 1, "statistics", fixed=False),
    _batch_norm((4, 3), True, "no positions"),
    _batch_norm((2, 3, 3), True, "training"),
    _batch_norm((2, 3, 4), False, "evaluation"),
    _batch_norm((4, 2), True, "statistics", fixed=False),
)
