"""Samples of elementary functions and of activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import Draw, N, aten, away, normal, positive, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Between(Draw):
    """Numbers evenly spread over one of several intervals each, all of which are hit in turn."""

    ends: tuple[tuple[float, float], ...] = ((0.3, 0.7),)

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        sizes = self.sizes(length)
        ends = np.array(self.ends)[np.arange(np.prod(sizes, dtype=int)) % len(self.ends)]
        numbers = np.asarray(rng.uniform(ends[:, 0], ends[:, 1]), dtype=np.float32)
        return numbers.astype(np.float64).reshape(sizes)


def between(*shape: int, ends: tuple[tuple[float, float], ...]) -> Draw:
    return Between(shape, ends=ends)


ELEMENTARY = (
    sample(aten.reciprocal.default, away(4, N)),
    sample(aten.rsqrt.default, positive(4, N)),
    sample(aten.exp2.default, normal(4, N)),
    sample(aten.expm1.default, normal(4, N)),
    sample(aten.log1p.default, positive(4, N)),
    sample(aten.log2.default, positive(4, N)),
    sample(aten.log10.default, positive(4, N)),
    sample(aten.erf.default, normal(4, N)),
)

# Between the kinks at -1 and 1 and beyond them; and the same for -3 and 3.
UNIT = ((-2.0, -1.5), (-0.5, 0.5), (1.5, 2.0))
THREE = ((-5.0, -3.5), (-2.5, 2.5), (3.5, 5.0))

ACTIVATIONS = (
    sample(aten.leaky_relu.default, away(4, N)),
    # In training it draws: see the conventions.
    sample(aten.rrelu_with_noise.default, away(4, N), Draw((4, N), constant=True), 0.1, 0.3),
    sample(aten.leaky_relu_.default, away(4, N), 0.2, note="in place"),
    sample(aten._prelu_kernel.default, away(4, 3, N), away(1, 3, 1)),
    sample(aten.elu.default, away(4, N), 1.3),
    sample(aten.elu.default, away(4, N), 1.6732632423543772, 1.0507009873554805, note="selu"),
    sample(aten.celu.default, away(4, N), 2.0),
    sample(aten.elu_.default, away(4, N), 1.3, note="in place"),
    sample(aten.celu.default, away(4, N), 1.3, note="1.3"),
    sample(aten.celu_.default, away(4, N), 1.3, note="in place"),
    sample(aten.hardtanh.default, between(4, N, ends=UNIT), exact="y dx"),
    sample(
        aten.hardtanh.default,
        between(4, N, ends=UNIT),
        -1.1,
        0.7,
        exact="dx",
        unused="y",
        note="odd",
    ),
    sample(aten.hardsigmoid.default, between(4, N, ends=THREE)),
    sample(aten.hardswish.default, between(4, N, ends=THREE)),
    sample(aten.softplus.default, normal(4, N)),
    sample(aten.softplus.default, away(4, N), 2, 0.0, note="scaled, above 0 itself"),
    sample(aten.mish.default, between(4, N, ends=((-1.0, 1.0), (3.0, 6.0)))),
    sample(aten.threshold.default, away(4, N), 0.0, 0.3, exact="dx", unused="y"),
    sample(aten.softshrink.default, away(4, N), 0.3, exact="dx"),
    sample(aten.hardshrink.default, away(4, N), 0.3, exact="y dx"),
    sample(aten.glu.default, normal(4, 6)),
    sample(aten.glu.default, normal(6, N), 0, note="first axis"),
)
