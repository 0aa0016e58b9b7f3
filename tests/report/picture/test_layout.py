"""Nothing overlaps, arrows lead down, and odd graphs neither hang nor fail."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwitness.report.picture.layout import Layout, lay_out
from gradwitness.report.picture.layout_columns import nearest_rising
from gradwitness.report.picture.layout_layers import choose_cuts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

Graph = tuple[list[float], list[float], list[tuple[int, int]]]


@st.composite
def graphs(draw: st.DrawFn, *, cycles: bool = False) -> Graph:
    count = draw(st.integers(0, 25))
    sizes = st.floats(20, 500, width=32)
    widths = draw(st.lists(sizes, min_size=count, max_size=count))
    heights = draw(st.lists(sizes, min_size=count, max_size=count))
    ends = st.tuples(st.integers(0, max(count - 1, 0)), st.integers(0, max(count - 1, 0)))
    arrows = [(s, t) for s, t in draw(st.lists(ends, max_size=2 * count)) if s != t]
    if not cycles:
        # A drawn renaming, so that the order of the boxes is not the order of the arrows.
        name = draw(st.permutations(range(count)))
        arrows = [(name[min(arrow)], name[max(arrow)]) for arrow in arrows]
    return widths, heights, arrows


def lay(graph: Graph) -> Layout:
    widths, heights, arrows = graph
    return lay_out(widths, heights, [s for s, _ in arrows], [t for _, t in arrows])


def overlaps(layout: Layout, graph: Graph) -> list[tuple[int, int]]:
    widths, heights, _ = graph
    right, bottom = layout.x + widths, layout.y + heights
    return [
        (a, b)
        for a, b in product(range(len(widths)), repeat=2)
        if a < b
        and layout.x[a] < right[b]
        and layout.x[b] < right[a]
        and layout.y[a] < bottom[b]
        and layout.y[b] < bottom[a]
    ]


def points_on(piece: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the joined cubic curves, ends included."""
    t = np.linspace(0, 1, 15)[:, None]
    curves = [
        (1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3
        for p0, p1, p2, p3 in (piece[i : i + 4] for i in range(0, len(piece) - 1, 3))
    ]
    return np.concatenate(curves)


def assert_joined(layout: Layout, graph: Graph) -> None:
    """Every arrow starts on the lower edge of its source and ends on top of its target."""
    widths, heights, arrows = graph
    for (source, target), pieces in zip(arrows, layout.routes, strict=True):
        start, stop = pieces[0][0], pieces[-1][-1]
        assert start[1] == pytest.approx(layout.y[source] + heights[source])
        assert stop[1] == pytest.approx(layout.y[target])
        assert layout.x[source] < start[0] < layout.x[source] + widths[source]
        assert layout.x[target] < stop[0] < layout.x[target] + widths[target]


@given(graphs())
def test_boxes_never_overlap_and_stay_inside(graph: Graph) -> None:
    layout = lay(graph)
    assert overlaps(layout, graph) == []
    for piece in [piece for pieces in layout.routes for piece in pieces]:
        assert np.all(piece >= -1e-6)
        assert np.all(piece <= np.array([layout.width, layout.height]) + 1e-6)
    assert np.all(layout.x >= -1e-6)
    assert np.all(layout.y >= 0)
    assert np.all(layout.x + graph[0] <= layout.width + 1e-6)
    assert np.all(layout.y + graph[1] <= layout.height + 1e-6)


@given(graphs())
def test_arrows_go_down_from_source_to_target(graph: Graph) -> None:
    layout = lay(graph)
    assert_joined(layout, graph)
    for pieces in layout.routes:
        for piece in pieces:
            assert len(piece) % 3 == 1
            assert np.all(np.diff(piece[:, 1]) >= -1e-9)


@given(graphs())
def test_arrows_do_not_run_under_boxes(graph: Graph) -> None:
    widths, heights, _ = graph
    layout = lay(graph)
    for piece in [piece for pieces in layout.routes for piece in pieces]:
        x, y = points_on(piece).T
        for box in range(len(widths)):
            inside_x = (x > layout.x[box] + 1e-6) & (x < layout.x[box] + widths[box] - 1e-6)
            inside_y = (y > layout.y[box] + 1e-6) & (y < layout.y[box] + heights[box] - 1e-6)
            assert not np.any(inside_x & inside_y)


@given(graphs(cycles=True))
def test_cycles_are_opened(graph: Graph) -> None:
    layout = lay(graph)
    assert overlaps(layout, graph) == []
    assert len(layout.routes) == len(graph[2])


def test_one_arrow_of_a_cycle_points_up() -> None:
    layout = lay(([80.0] * 3, [40.0] * 3, [(0, 1), (1, 2), (2, 0)]))
    assert layout.y[0] < layout.y[1] < layout.y[2]
    (back,) = layout.routes[2]
    assert back[0, 1] == pytest.approx(layout.y[2])
    assert back[-1, 1] == pytest.approx(layout.y[0] + 40)
    assert np.all(np.diff(back[:, 1]) <= 0)


@given(graphs(cycles=True))
@settings(max_examples=30)
def test_the_same_graph_gives_the_same_layout(graph: Graph) -> None:
    first, second = lay(graph), lay(graph)
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.y, second.y)
    for a, b in zip(first.routes, second.routes, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def test_nothing_and_one_box() -> None:
    empty = lay(([], [], []))
    assert (empty.width, empty.height, empty.routes) == (0, 0, ())
    one = lay(([70.0], [30.0], []))
    assert (one.x[0], one.y[0], one.width, one.height) == (0, 0, 70, 30)


def test_an_arrow_to_its_own_box_is_refused(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is read)
        lay(([70.0], [30.0], [(0, 0)]))
    assert str(error.value) == snapshot


def network(layers: int) -> Graph:
    """A chain; every link has a leaf and a branch of two boxes, and the last a longer one."""
    arrows = []
    for layer in range(layers):
        node, leaf, view, weight = range(4 * layer, 4 * layer + 4)
        arrows += [(node, leaf), (node, node + 4), (node, view), (view, weight)]
    arrows += [(4 * layers, 4 * layers + 1), (4 * layers + 1, 4 * layers + 2)]
    rng = np.random.default_rng(7)
    count = 4 * layers + 3
    return list(rng.uniform(150, 450, count)), list(rng.uniform(50, 130, count)), arrows


def test_the_main_chain_is_straight_and_leaves_stand_beside_it() -> None:
    graph = network(30)
    layout = lay(graph)
    centres = layout.x + np.array(graph[0]) / 2
    assert np.ptp(centres[::4]) == pytest.approx(0, abs=1e-6)
    for node in range(0, 120, 4):
        # The leaf shares its layer with the next link, and does not sink to the bottom.
        bands = [(layout.y[box], layout.y[box] + graph[1][box]) for box in (node + 1, node + 4)]
        assert max(top for top, _ in bands) < min(bottom for _, bottom in bands)
    straight = [route[0] for route in layout.routes[1::4]]
    assert all(np.ptp(piece[:, 0]) < 1e-6 for piece in straight)


def test_parallel_arrows_stay_apart() -> None:
    layout = lay(([200.0] * 2, [50.0] * 2, [(0, 1)] * 4))
    for t in (0.0, 0.5, 1.0):
        places = [points_on(pieces[0])[int(t * 14), 0] for pieces in layout.routes]
        assert min(b - a for a, b in pairwise(places)) > 10


def test_a_tree_is_drawn_without_crossings() -> None:
    arrows = [((box - 1) // 3, box) for box in range(1, 13)]
    # Numbered so that an order by number would cross.
    name = np.random.default_rng(3).permutation(13).tolist()
    layout = lay(([100.0] * 13, [40.0] * 13, [(name[s], name[t]) for s, t in arrows]))
    for a, b in product(layout.routes, repeat=2):
        if a[0][0, 1] == b[0][0, 1] and a[0][0, 0] < b[0][0, 0]:
            assert a[0][-1, 0] < b[0][-1, 0]


def test_sweeps_take_crossings_away() -> None:
    # The first order sets the targets of 0 side by side, and arrows of 1 and 2 cross them.
    layout = lay(([60.0] * 6, [30.0] * 6, [(0, 3), (0, 4), (1, 3), (2, 3), (2, 5)]))
    upper, lower = layout.x[[0, 1, 2]], layout.x[[4, 3, 5]]
    assert np.argsort(upper).tolist() == np.argsort(lower).tolist()
    assert np.argsort(upper).tolist() in ([0, 1, 2], [2, 1, 0])


def test_a_second_root_stands_just_above_what_it_points_at() -> None:
    layout = lay(([60.0] * 5, [30.0] * 5, [(0, 1), (1, 2), (2, 3), (4, 3)]))
    assert layout.y[4] == layout.y[2]


def test_arrows_turn_aside_only_between_the_layers() -> None:
    # A low box next to a very tall one: its arrows connect to the tall one's column.
    heights = [30.0, 600.0, 30.0, 30.0, 30.0]
    graph: Graph = ([300.0] * 5, heights, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (2, 4)])
    layout = lay(graph)
    for piece in [pieces[0] for pieces in layout.routes]:
        x, y = points_on(piece).T
        beside = (y > layout.y[1]) & (y < layout.y[1] + 600)
        assert len(set(x[beside].round(6))) <= 1


def test_separate_parts_go_side_by_side_not_into_one_row() -> None:
    graph: Graph = ([100.0] * 60, [40.0] * 60, [(box, box + 1) for box in range(0, 60, 2)])
    layout = lay(graph)
    assert overlaps(layout, graph) == []
    assert layout.width < 4 * layout.height < 16 * layout.width


def test_a_wide_row_of_leaves_is_folded() -> None:
    graph: Graph = ([100.0] * 61, [40.0] * 61, [(0, leaf) for leaf in range(1, 61)])
    layout = lay(graph)
    assert len(set(layout.y[1:])) == 5
    assert overlaps(layout, graph) == []


def recurrent(steps: int) -> Graph:
    """All steps of a chain point at one shared leaf."""
    arrows = [(step, step + 1) for step in range(steps - 1)]
    arrows += [(step, steps) for step in range(steps)]
    return [100.0] * (steps + 1), [40.0] * (steps + 1), arrows


def test_arrows_to_what_many_share_are_cut_unless_they_end_on_the_next_layer() -> None:
    graph = recurrent(50)
    layout = lay(graph)
    assert_joined(layout, graph)
    # All but the last, and no arrow of the chain itself.
    assert np.flatnonzero(layout.cut).tolist() == list(range(49, 98))
    assert [len(pieces) for pieces in layout.routes] == (1 + layout.cut).tolist()
    # No lanes: the picture is as wide as a box.
    assert layout.width == 100


def spans(lengths: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Arrows of these lengths, each from a box of its own on top to one of its own below."""
    layers = [layer for length in lengths for layer in (0, length)]
    return layers, [(2 * arrow, 2 * arrow + 1) for arrow in range(len(lengths))]


def test_the_longest_arrows_are_cut_until_few_dummy_points_are_left() -> None:
    assert choose_cuts(*spans([3, 40, 2, 41])) == [False, False, False, True]
    # Each needs 39 dummy points, and brings two boxes, which allow 8: 1000 / 31 fit beside those.
    assert sum(choose_cuts(*spans([40] * 32))) == 0
    assert sum(choose_cuts(*spans([40] * 33))) == 1


def test_a_leaf_that_two_share_is_led_through_when_near_and_cut_when_far() -> None:
    def cuts(length: int) -> list[bool]:
        chain = [(box, box + 1) for box in range(length)]
        return choose_cuts(
            [*range(length + 1), length], [*chain, (0, length + 1), (length - 1, length + 1)]
        )

    assert not any(cuts(4))
    assert cuts(5) == [False] * 5 + [True, False]


@given(graphs(), st.integers(2, 3), st.booleans())
def test_columns_and_directions_keep_boxes_apart_and_arrows_joined(
    graph: Graph, columns: int, rightward: bool
) -> None:
    widths, heights, arrows = graph
    sources, targets = [s for s, _ in arrows], [t for _, t in arrows]
    layout = lay_out(widths, heights, sources, targets, rightward=rightward, columns=columns)
    assert overlaps(layout, graph) == []
    assert np.all(layout.x >= -1e-6)
    assert np.all(layout.y >= -1e-6)
    assert np.all(layout.x + widths <= layout.width + 1e-6)
    assert np.all(layout.y + heights <= layout.height + 1e-6)
    for (source, target), pieces in zip(arrows, layout.routes, strict=True):
        start, stop = pieces[0][0], pieces[-1][-1]
        if rightward:
            assert start[0] == pytest.approx(layout.x[source] + widths[source])
            assert stop[0] == pytest.approx(layout.x[target])
        else:
            assert start[1] == pytest.approx(layout.y[source] + heights[source])
            assert stop[1] == pytest.approx(layout.y[target])
        for piece in pieces:
            x, y = points_on(piece).T
            assert min(x.min(), y.min()) >= -1e-6
            assert x.max() <= layout.width + 1e-6
            assert y.max() <= layout.height + 1e-6
            for box in range(len(widths)):
                inside_x = (x > layout.x[box] + 1e-6) & (x < layout.x[box] + widths[box] - 1e-6)
                inside_y = (y > layout.y[box] + 1e-6) & (y < layout.y[box] + heights[box] - 1e-6)
                assert not np.any(inside_x & inside_y)


def test_a_chain_is_broken_into_columns_of_like_heights() -> None:
    chain: Graph = ([100.0] * 12, [40.0] * 12, [(box, box + 1) for box in range(11)])
    whole = lay(chain)
    layout = lay_out(chain[0], chain[1], range(11), range(1, 12), columns=3)
    assert len(set(layout.x)) == 3
    assert layout.height < whole.height / 2
    assert [list(layout.x).count(x) for x in sorted(set(layout.x))] == [4, 4, 4]


def test_labels_have_room_between_the_layers() -> None:
    layout = lay_out([50.0] * 2, [30.0] * 2, [0], [1], lengths=[300.0], rightward=True)
    assert layout.x[1] - (layout.x[0] + 50) == 300


def test_five_thousand_boxes() -> None:
    graph = network(1250)
    layout = lay(graph)
    assert np.ptp((layout.x + np.array(graph[0]) / 2)[::4]) == pytest.approx(0, abs=1e-6)
    assert layout.width < 3000


@given(
    st.lists(
        st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 3)), min_size=1, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_nearest_rising_is_the_best_of_all_sequences(wishes: list[list[tuple[int, int]]]) -> None:
    def cost(sequence: tuple[float, ...]) -> float:
        return sum(
            weight * abs(y - value)
            for y, wish in zip(sequence, wishes, strict=True)
            for value, weight in wish
        )

    best = nearest_rising([[(float(v), w) for v, w in wish] for wish in wishes])
    assert best == sorted(best)
    rising = (s for s in product(range(-4, 5), repeat=len(wishes)) if list(s) == sorted(s))
    assert cost(tuple(best)) == pytest.approx(min(cost(s) for s in rising))
