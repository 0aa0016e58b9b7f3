"""Samples of attention, with masks that hide some places, and all of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import Draw, N, aten, normal, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Hiding(Draw):
    """Numbers to be added to scores; some are -inf, and so are all of the last row's."""

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        numbers = np.array(super().make(rng, length))
        hidden = rng.random(numbers.shape) < 0.3
        hidden[..., -1, :] = True
        hidden[..., 0, :] = False
        return np.where(hidden, -np.inf, numbers)


def _hiding(*shape: int) -> Draw:
    return Hiding(shape, constant=True)


_FLASH = aten._scaled_dot_product_flash_attention_for_cpu.default
_LOG = {"constant": "y[1]"}
# As many keys as a vector unit takes at once: 16-bit kernels are less exact there.
_KEYS = 16


def _operands(batch: int, heads: int, shared: int, queries: int, each: int) -> tuple[Draw, ...]:
    keys = normal(batch, shared, _KEYS, each)
    return normal(batch, heads, queries, each), keys, keys


ATTENTION = (
    sample(_FLASH, *_operands(1, 2, 2, 3, N), **_LOG),
    sample(_FLASH, *_operands(2, 1, 1, 5, 4), is_causal=True, note="causal", **_LOG),
    sample(_FLASH, *_operands(1, 4, 2, 2, 3), scale=0.3, note="shared heads, scaled", **_LOG),
    sample(_FLASH, *_operands(1, 2, 2, 3, 4), attn_mask=_hiding(3, 16), note="masked", **_LOG),
    sample(
        _FLASH,
        *_operands(2, 2, 2, 3, 4),
        attn_mask=_hiding(2, 1, 3, 16),
        note="masked, one for each of a batch",
        **_LOG,
    ),
)
