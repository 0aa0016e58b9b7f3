"""Long drawings in columns: what is moved where, and that arrows still join what they joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness.report.page.wrapping import _split, wrapped
from gradwitness.report.picture.layout import lay_out

if TYPE_CHECKING:
    from gradwitness.report.page.wrapping import Drawing


def drawn(arrows: list[tuple[int, int]], count: int) -> tuple[Drawing, np.ndarray]:
    sizes = np.tile([[100.0], [40.0]], count)
    sources, targets = zip(*arrows, strict=True)
    return wrapped(lay_out(sizes[0], sizes[1], sources, targets), sizes[1]), sizes


def chain(count: int, skip: int = 0) -> list[tuple[int, int]]:
    """Return a chain, and arrows beside it that skip as many boxes."""
    beside = [(n, n + skip) for n in range(0, count - skip, skip)] if skip else []
    return [(n, n + 1) for n in range(count - 1)] + beside


@pytest.mark.parametrize("skip", [0, 3, 7])
def test_a_chain_becomes_columns_that_read_like_a_text(skip: int) -> None:
    drawing, _ = drawn(chain(60, skip), 60)
    assert 0.5 < drawing.width / drawing.height < 2
    # From box to box one goes down, or to the right and up to the top.
    right, down = np.diff(drawing.x), np.diff(drawing.y)
    turns = down < 0
    assert 2 <= turns.sum() <= 8
    assert np.all(right[turns] > 100)
    assert np.all(np.abs(right[~turns]) < 100)


@pytest.mark.parametrize("skip", [0, 3, 7])
def test_arrows_join_what_they_joined(skip: int) -> None:
    arrows = chain(60, skip)
    drawing, sizes = drawn(arrows, 60)
    for (source, target), pieces in zip(arrows, drawing.routes, strict=True):
        start, end = pieces[0][0], pieces[-1][-1]
        assert start[1] == pytest.approx(drawing.y[source] + sizes[1, source])
        assert end[1] == pytest.approx(drawing.y[target])
        for point, box in ((start, source), (end, target)):
            assert drawing.x[box] <= point[0] <= drawing.x[box] + sizes[0, box]
        for piece in pieces:
            assert len(piece) % 3 == 1
            assert piece.min() > -1e-6
            assert piece[:, 0].max() < drawing.width + 1e-6
            assert piece[:, 1].max() < drawing.height + 1e-6


def test_an_arrow_that_points_up_keeps_its_direction() -> None:
    arrows = [*chain(60), (59, 0)]  # a cycle: one of its arrows is turned
    drawing, sizes = drawn(arrows, 60)
    pieces = drawing.routes[-1]
    assert pieces[0][0, 1] == pytest.approx(drawing.y[59])
    assert pieces[-1][-1, 1] == pytest.approx(drawing.y[0] + sizes[1, 0])


def test_what_is_not_tall_stays_as_it_is() -> None:
    arrows = [(0, n) for n in range(1, 20)]
    drawing, sizes = drawn(arrows, 20)
    layout = lay_out(sizes[0], sizes[1], *zip(*arrows, strict=True))
    assert np.array_equal(drawing.x, layout.x)
    assert np.array_equal(drawing.y, layout.y)


def test_a_curve_is_split_where_it_passes() -> None:
    # y(t) = t^3 and x(t) = 3 t (1 - t): at y = 1/8, t = 1/2. The halves by hand:
    curve = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    upper, lower = _split(curve, 1 / 8)
    assert upper == pytest.approx(np.array([(0, 0), (0.5, 0), (0.75, 0), (0.75, 1 / 8)]))
    assert lower == pytest.approx(np.array([(0.75, 1 / 8), (0.75, 0.25), (0.5, 0.5), (0, 1)]))


def test_joined_curves_are_split_in_the_right_one() -> None:
    straight = [(5.0, y) for y in np.linspace(0, 2, 7)]  # two curves, each 1 high
    upper, lower = _split(np.array(straight), 1.25)
    assert upper[-1] == pytest.approx((5, 1.25))
    assert (len(upper), len(lower)) == (7, 4)
    assert lower[0] == pytest.approx(upper[-1])
