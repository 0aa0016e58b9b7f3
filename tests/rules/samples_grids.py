"""Samples of images that are read off at given places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rules.sampling import Draw, aten, normal, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZEROS, BORDER, REFLECTION = range(3)


@dataclass(frozen=True)
class Places(Draw):
    """Coordinates of places that lie well off the pixels, their edges and their borders.

    In the image and, by two pixels at most, outside of it.
    """

    sizes_of_image: tuple[int, ...] = ()
    align: bool = False

    def make(self, rng: np.random.Generator, length: int) -> NDArray[Any]:
        del length
        columns = []
        for size in reversed(self.sizes_of_image):
            at = rng.integers(-2, size + 1, self.shape[:-1])
            # Between a pixel and its edge, on either side.
            at = at + rng.uniform(0.1, 0.4, at.shape) + rng.choice([0.0, 0.5], at.shape)
            columns.append(2 * at / (size - 1) - 1 if self.align else (2 * at + 1) / size - 1)
        return np.stack(columns, axis=-1).astype(np.float32).astype(np.float64)


def _grid(sizes: tuple[int, ...], *, align: bool) -> Places:
    # In space a place reads 64 pixels: few places.
    count = 3 if len(sizes) == 2 else 2
    return Places((2, *(count,) * len(sizes), len(sizes)), sizes_of_image=sizes, align=align)


_FORMS = (
    ("zeros", (4, 5), 0, ZEROS, False),
    ("border", (4, 5), 0, BORDER, True),
    ("reflection", (5, 4), 0, REFLECTION, False),
    ("reflection aligned", (5, 4), 0, REFLECTION, True),
    ("nearest", (4, 5), 1, ZEROS, True),
    ("cubic", (5, 4), 2, ZEROS, False),
    ("cubic aligned border", (4, 5), 2, BORDER, True),
    ("cubic reflection", (4, 5), 2, REFLECTION, False),
    ("cubic aligned reflection", (4, 5), 2, REFLECTION, True),
    ("zeros", (3, 4, 2), 0, ZEROS, True),
    ("border", (3, 4, 2), 0, BORDER, False),
    ("nearest reflection", (3, 4, 2), 1, REFLECTION, False),
)

GRIDS = tuple(
    sample(
        aten.grid_sampler_2d.default if len(sizes) == 2 else aten.grid_sampler_3d.default,
        normal(2, 2, *sizes), _grid(sizes, align=align), mode, padding, align,
        note=note, exact="dgrid" if mode == 1 else "", unused="y" if mode == 1 else "",
    )
    for note, sizes, mode, padding, align in _FORMS
)  # fmt: skip

_AFFINE = aten.affine_grid_generator.default

GRIDS += (
    sample(_AFFINE, normal(2, 2, 3), [2, 1, 4, 3], False),
    sample(_AFFINE, normal(1, 2, 3), [1, 1, 5, 1], True, note="aligned, one wide"),
    sample(_AFFINE, normal(2, 3, 4), [2, 1, 2, 3, 4], False, note="space"),
    sample(_AFFINE, normal(1, 3, 4), [1, 2, 3, 2, 2], True, note="space, aligned"),
)

_BACK = aten.grid_sampler_2d_backward.default, aten.grid_sampler_3d_backward.default

_DY = {2: (2, 2, 3, 3), 3: (2, 1, 2, 2, 2)}

TWICE_GRIDS = tuple(
    sample(
        _BACK[len(sizes) - 2], normal(*dy), normal(*dy[:2], *sizes),
        _grid(sizes, align=align), mode, padding, align, [True, True],
        note=note, exact="y[1] dx dgrid" if mode == 1 else "",
        unused="ddy" if mode == 1 else "",
    )
    for note, sizes, mode, padding, align in _FORMS
    # A cubic place reads 16 pixels: few channels.
    for dy in ((2, 1, 3, 3) if mode == 2 else _DY[len(sizes)],)
    # Of a cubic's 16 pixels that are reflected, differences show too few digits.
    if (note, len(sizes)) != ("border", 3) and not note.startswith(("cubic r", "cubic aligned r"))
)  # fmt: skip
