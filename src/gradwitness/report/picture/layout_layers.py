"""First half of the layout: the layer of each box, and the lanes of long arrows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

# Weights of the pull between neighbours; integers, so that sums of them compare exactly.
# A bend inside a long arrow is the ugliest thing, a crooked main chain comes next.
PULL_ORDINARY = 4
PULL_LANE_END = 8
PULL_LANE = 48
# For each arrow of a straight run: the main chain must not give way to a side branch.
PULL_RUN = 16
PULL_RUN_MOST = 512
# More leaves than this on one layer are folded, but not so often that the dummy points
# of the folded arrows approach what choose_cuts allows.
_WIDE_ROW = 12
_MOST_FOLDS = 6
# Longer arrows, and those of more users of one box, are cut: nobody follows them with the eye.
_LONGEST = 40
_NEAR = 4
_MOST_ARRIVING = 8


def downward(count: int, sources: list[int], targets: list[int]) -> tuple[list[int], list[bool]]:
    """Order the boxes so that arrows lead forward, reversing those that close a cycle.

    Returns all boxes, every one after the sources of its arrows, and for each arrow whether it was
    reversed.
    """
    outgoing: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in zip(sources, targets, strict=True):
        outgoing[source].append(target)
        waiting[target] += 1
    ready = [box for box in range(count - 1, -1, -1) if waiting[box] == 0]
    is_placed = [False] * count
    order: list[int] = []
    next_box = 0
    while len(order) < count:
        if not ready:
            # Only cycles are left: break one at its first box.
            while is_placed[next_box]:
                next_box += 1
            ready.append(next_box)
        box = ready.pop()
        is_placed[box] = True
        order.append(box)
        for target in outgoing[box]:
            waiting[target] -= 1
            if waiting[target] == 0 and not is_placed[target]:
                ready.append(target)
    position = [0] * count
    for index, box in enumerate(order):
        position[box] = index
    turned = [position[s] > position[t] for s, t in zip(sources, targets, strict=True)]
    return order, turned


def assign_layers(order: list[int], ends: list[tuple[int, int]]) -> list[int]:
    """Put every box one layer below the lowest box that points at it; 0 is the top.

    Counted from the top, so a parameter or a saved tensor stands right under its lowest user and
    not at the bottom of the picture. A box that nothing points at is then moved down to just above
    its highest target. In ``order`` and in the arrow's ends the upper box comes first.
    """
    children: list[list[int]] = [[] for _ in order]
    is_root = [True] * len(order)
    for upper, lower in ends:
        children[upper].append(lower)
        is_root[lower] = False
    layers = [0] * len(order)
    for box in order:
        below = layers[box] + 1
        for child in children[box]:
            layers[child] = max(layers[child], below)
    for box in order:
        if is_root[box] and children[box]:
            layers[box] = min(layers[child] for child in children[box]) - 1
    _fold_wide_rows(layers, [box for box in order if not children[box] and not is_root[box]])
    return layers


def _fold_wide_rows(layers: list[int], leaves: list[int]) -> None:
    """Spread the leaves of a very wide layer over the next ones, so that it fits a screen."""
    rows: dict[int, list[int]] = {}
    for leaf in sorted(leaves):
        rows.setdefault(layers[leaf], []).append(leaf)
    most = max([_WIDE_ROW] + [len(row) // _MOST_FOLDS for row in rows.values()])
    layer, last = 0, max(rows, default=-1)
    while layer <= last:
        row = rows.get(layer, [])
        folds = -(-len(row) // most)
        if folds > 1:
            # The remaining ones are spread, so that the arrows of the others pass between them.
            pushed = [leaf for index, leaf in enumerate(row) if index % folds]
            rows[layer], rows[layer + 1] = row[::folds], pushed + rows.get(layer + 1, [])
            last = max(last, layer + 1)
        layer += 1
    for layer, row in rows.items():
        for leaf in row:
            layers[leaf] = layer


def choose_cuts(layers: list[int], ends: list[tuple[int, int]]) -> list[bool]:
    """Choose the arrows to cut into stubs.

    Those to a leaf that others share, unless it is near, those to a box that very many point at (a
    weight that all steps of a loop share), those over very many layers, and then the longest first:
    an arrow over ``span`` layers needs ``span - 1`` dummy points, which must not be far more than
    there are boxes.
    """
    spans = [layers[lower] - layers[upper] for upper, lower in ends]
    arriving = Counter(lower for _, lower in ends)
    inner = {upper for upper, _ in ends}
    cuts = []
    for span, (_, lower) in zip(spans, ends, strict=True):
        is_shared_leaf = arriving[lower] > 1 and lower not in inner
        longest = _NEAR if is_shared_leaf else _LONGEST
        cuts.append(span > (1 if arriving[lower] > _MOST_ARRIVING else longest))
    allowed = 4 * len(layers) + 1000
    needed = sum(span - 1 for span, is_cut in zip(spans, cuts, strict=True) if not is_cut)
    for arrow in sorted(range(len(spans)), key=lambda arrow: (-spans[arrow], arrow)):
        if needed <= allowed:
            break
        if not cuts[arrow]:
            needed -= spans[arrow] - 1
            cuts[arrow] = True
    return cuts


@dataclass(frozen=True)
class LayeredGraph:
    """A connected graph in which every edge leads from one layer to the next."""

    # Width of each point; boxes first, then the dummy points, which have width 0.
    widths: list[float]
    boxes: int  # how many of the points are boxes
    rows: list[list[int]]  # the points of each layer, in an initial order that follows the arrows
    # Neighbours of each point in the layer above and below, with the weight of the pull.
    upper: list[list[tuple[int, int]]]
    lower: list[list[tuple[int, int]]]
    # For each arrow the points that it runs through, from the top; empty if it is cut.
    chains: list[list[int]]


def build_layered(
    widths: list[float],
    layers: list[int],
    ends: list[tuple[int, int]],
    cuts: list[bool],
) -> LayeredGraph:
    """Put a dummy point on every layer that an arrow crosses, unless it is cut.

    The boxes have widths and layers from 0 on; the ends of an arrow are its upper and lower box.
    """
    boxes = len(widths)
    point_layers = list(layers)
    chains: list[list[int]] = []
    for (upper, lower), is_cut in zip(ends, cuts, strict=True):
        if is_cut:
            chains.append([])
            continue
        first = len(point_layers)
        point_layers.extend(range(layers[upper] + 1, layers[lower]))
        chains.append([upper, *range(first, len(point_layers)), lower])
    spine = _spine(layers, chains)
    up: list[list[tuple[int, int]]] = [[] for _ in point_layers]
    down: list[list[tuple[int, int]]] = [[] for _ in point_layers]
    for chain in chains:
        for above, below in pairwise(chain):
            lanes = (above >= boxes) + (below >= boxes)
            pull = (PULL_ORDINARY, PULL_LANE_END, PULL_LANE)[lanes]
            pull = max(pull, spine.get((above, below), 0))
            down[above].append((below, pull))
            up[below].append((above, pull))
    return LayeredGraph(
        widths=widths + [0.0] * (len(point_layers) - boxes),
        boxes=boxes,
        rows=_first_rows(point_layers, up, down),
        upper=up,
        lower=down,
        chains=chains,
    )


def _spine(layers: list[int], chains: list[list[int]]) -> dict[tuple[int, int], int]:
    """Return the pull of arrows that are the longest continuation for both of their ends.

    Such arrows join into runs that share no box; the pull grows with the length of the run.
    """
    heights = [0] * len(layers)
    arrows = sorted(
        ((chain[0], chain[-1]) for chain in chains if chain), key=lambda ends: -layers[ends[0]]
    )
    for upper, lower in arrows:
        heights[upper] = max(heights[upper], heights[lower] + 1)
    deepest: dict[int, int] = {}
    highest: dict[int, int] = {}
    for upper, lower in arrows:
        if upper not in deepest or heights[lower] > heights[deepest[upper]]:
            deepest[upper] = lower
        if lower not in highest or layers[upper] > layers[highest[lower]]:
            highest[lower] = upper
    following = {
        upper: lower
        for upper, lower in deepest.items()
        if highest[lower] == upper and layers[lower] == layers[upper] + 1
    }
    pulls: dict[tuple[int, int], int] = {}
    for start in following.keys() - set(following.values()):
        run = [start]
        while run[-1] in following:
            run.append(following[run[-1]])
        pull = min(PULL_RUN * (len(run) - 1), PULL_RUN_MOST)
        pulls.update(dict.fromkeys(pairwise(run), pull))
    return pulls


def _first_rows(
    layers: list[int], up: list[list[tuple[int, int]]], down: list[list[tuple[int, int]]]
) -> list[list[int]]:
    """Fill the layers in the order of a depth-first walk down the arrows."""
    rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
    met = [False] * len(layers)
    stack = [point for point in range(len(layers) - 1, -1, -1) if not up[point]]
    while stack:
        point = stack.pop()
        if met[point]:
            continue
        met[point] = True
        rows[layers[point]].append(point)
        stack.extend(below for below, _ in reversed(down[point]) if not met[below])
    return rows
