"""Samples of optimizers' steps that are one operation, and of the scale for 16-bit gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rules.sampling import Draw, aten, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Step(Draw):
    """The number of steps so far, as torch keeps it: a tensor without axes."""

    count: float = 1.0

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del rng, length
        return np.array(self.count)


_STEPS = [Step((), constant=True, count=3.0), Step((), constant=True, count=1.0)]
_SHAPES = ((4, 3), (5,))
# Fewer than any processor's vector of 16-bit numbers: torch's fused SGD leaves such vectors as they
# are (test_fused_steps.py).
_SMALL = ((2, 3), (5,))


def _each(*shapes: tuple[int, ...], positive: bool = False) -> list[Draw]:
    gap = 0.5 if positive else 0.0
    return [Draw(shape, gap=gap, positive=positive, constant=True) for shape in shapes or _SHAPES]


_ADAM: dict[str, Any] = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6}
_LESS: dict[str, Any] = {"lr": 0.03, "beta1": 0.3, "beta2": 0.9, "eps": 1e-6}
_SGD: dict[str, Any] = {"lr": 0.02, "momentum": 0.9}
_SCALE, _FINITE, _INFINITE = torch.tensor(4.0), torch.tensor(0.0), torch.tensor(1.0)

OPTIMIZERS = (
    *(
        sample(
            op, _each(), _each(), _each(), _each(positive=True), [], _STEPS,
            **_ADAM, weight_decay=0.1, amsgrad=False, maximize=False,
            exact="y[2] y[3]",
        )
        for op in (aten._fused_adam_.default, aten._fused_adamw_.default)
    ),
    *(
        sample(
            op, _each(), _each(), _each(), _each(positive=True), _each(positive=True), _STEPS,
            **_LESS, weight_decay=0.0, amsgrad=True, maximize=True, grad_scale=torch.tensor(3.0),
            found_inf=_FINITE, note="amsgrad, scaled",
        )
        for op in (aten._fused_adam_.default, aten._fused_adamw_.default)
    ),
    *(
        sample(
            op, _each(), _each(), _each(), _each(positive=True), [], _STEPS,
            **_ADAM, weight_decay=0.1, amsgrad=False, maximize=False,
            grad_scale=_SCALE, found_inf=_INFINITE, exact="y", note="left out",
        )
        for op in (aten._fused_adam_.default, aten._fused_adamw_.default)
    ),
    sample(
        aten._fused_sgd_.default, _each(*_SMALL), _each(*_SMALL), _each(*_SMALL),
        **_SGD, weight_decay=0.1, dampening=0.2, nesterov=False, maximize=True,
        is_first_step=False, exact="y[2] y[3]",
    ),
    sample(
        aten._fused_sgd_.default, _each(*_SMALL), _each(*_SMALL), _each(*_SMALL),
        **_SGD, weight_decay=0.0, dampening=0.0, nesterov=True, maximize=False,
        is_first_step=True, grad_scale=torch.tensor(3.0), found_inf=_FINITE, note="first, scaled",
    ),
    sample(
        aten._fused_sgd_.default, _each(*_SMALL), _each(*_SMALL), [],
        lr=0.02, momentum=0.0, weight_decay=0.0, dampening=0.0, nesterov=False, maximize=False,
        is_first_step=False, note="plain", exact="y[2] y[3]",
    ),
    sample(
        aten._fused_sgd_.default, _each(*_SMALL), _each(*_SMALL), [],
        lr=0.02, momentum=0.0, weight_decay=0.0, dampening=0.0, nesterov=False, maximize=False,
        is_first_step=False, grad_scale=_SCALE, found_inf=_INFINITE, note="left out", exact="y",
    ),
    sample(
        aten._fused_adagrad_.default, _each(), _each(), _each(positive=True), _STEPS,
        lr=0.02, lr_decay=0.1, weight_decay=0.1, eps=1e-6, maximize=True,
        exact="y[2] y[3] y[6] y[7]",
    ),
    sample(
        aten._fused_adagrad_.default, _each(), _each(), _each(positive=True), _STEPS,
        lr=0.02, lr_decay=0.0, weight_decay=0.0, eps=1e-6, maximize=False,
        grad_scale=torch.tensor(3.0), found_inf=_FINITE, note="scaled", exact="y[6] y[7]",
    ),
    sample(
        aten._fused_adagrad_.default, _each(), _each(), _each(positive=True), _STEPS,
        lr=0.02, lr_decay=0.1, weight_decay=0.1, eps=1e-6, maximize=True,
        grad_scale=_SCALE, found_inf=_INFINITE, note="left out", exact="y",
    ),
    sample(
        aten._amp_foreach_non_finite_check_and_unscale_.default,
        _each(), _FINITE, torch.tensor(1 / 3), exact="y[2]",
    ),
    *(
        sample(
            aten._amp_update_scale_.default,
            _SCALE, torch.tensor(tracked, dtype=torch.int32), found, 2.0, 0.7, 3,
            note=note, exact=exact, unused="" if exact else "y",
        )
        for note, tracked, found, exact in (
            ("waits", 1, _FINITE, "y"),
            ("grows", 2, _FINITE, "y"),
            ("falls", 2, _INFINITE, ""),
        )
    ),
)  # fmt: skip
