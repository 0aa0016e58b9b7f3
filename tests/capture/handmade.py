"""A tape written by hand: every number of it by NumPy, any one of them wrong if wanted.

Forward, with x, w, b the leaves and c data::

    y = x w    z = y + x    p = z c    s = sum(p)    q = b c    r = sum(q)    L = s + r

What comes after a wrong number follows from it, as it would in a program, so that one step only
is wrong. The names are those of the quantities above; ``a0`` to ``a9`` for the gradient that
arrives at a node, ``d3`` for what node 3 sends (``d0.1``: at its second edge), ``after x`` for
the gradient that is left behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.tape import (
    Call,
    Edge,
    Kind,
    LeafUpdate,
    Node,
    NodeRun,
    Ref,
    Source,
    Sweep,
    Tape,
    Value,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

X, W, B = ([1.0, 2.0, 3.0], [2.0, -1.0, 4.0], [4.0, 5.0, 6.0])
C = [5.0, 6.0, 7.0]
BEFORE_X = [1.0, 1.0, 1.0]
# Whole numbers, so nothing is rounded; and far from each of them.
WRONG = 100.0

FORWARD = {"y": 0, "z": 1, "p": 2, "s": 3, "q": 4, "r": 5, "L": 6}
# What node sends at which input.
SENT = {
    "d0.0": (0, 0),
    "d0.1": (0, 1),
    "d1": (1, 0),
    "d2": (2, 0),
    "d3": (3, 0),
    "d4": (4, 0),
    "d5.0": (5, 0),
    "d5.1": (5, 1),
    "d6.0": (6, 0),
    "d6.1": (6, 1),
}
ARRIVING = {f"a{node}": node for node in range(10)}
LEFT = {"after x": 7, "after b": 8, "after w": 9}
# The leaves whose gradients come through each node, read off the drawing above.
BEHIND = {0: "xwb", 1: "xw", 2: "b", 3: "xw", 4: "b", 5: "xw", 6: "xw", 7: "x", 8: "b", 9: "w"}
EDGES = {
    0: (1, 2),
    1: (3,),
    2: (4,),
    3: (5, None),
    4: (8, None),
    5: (6, 7),
    6: (7, 9),
}
NAMES = {0: "Add", 1: "Sum", 2: "Sum", 3: "Mul", 4: "Mul", 5: "Add", 6: "Mul"}
CALLS = {0: 6, 1: 3, 2: 5, 3: 2, 4: 4, 5: 1, 6: 0}


@dataclass
class Maker:
    """Writes values down, the wanted one wrongly."""

    wrong: str
    element: int
    values: list[Value] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def put(self, name: str, array: Any, *, leaf: bool = False) -> NDArray[np.float32]:
        """Write a quantity down as it shall stand on the tape, and return that."""
        made = np.array(array, dtype=np.float32)
        if name == self.wrong:
            made.reshape(-1)[self.element % made.size] += WRONG
        self.numbers[name] = len(self.values)
        shown = name if leaf else ""
        self.values.append(
            Value(len(self.values), made.shape, "float32", made, name=shown, requires_grad=leaf)
        )
        return made

    def ref(self, name: str) -> Ref:
        """Return a quantity as an argument."""
        return Ref(self.numbers[name])


def tape(wrong: str = "", element: int = 0) -> Tape:
    """Return the tape, one number of one quantity being wrong."""
    m = Maker(wrong, element)
    calls = _forward(m)
    node_runs = _backward(m)
    nodes = tuple(_node(m, number) for number in range(10))
    leaves = tuple(
        LeafUpdate(LEFT[f"after {n}"], m.numbers.get(f"before {n}"), m.numbers[f"after {n}"])
        for n in "xbw"
    )
    sweep = Sweep(((Edge(0, 0), None),), node_runs, leaves)
    return Tape(tuple(m.values), calls, nodes, (sweep,))


def _forward(m: Maker) -> tuple[Call, ...]:
    x, w, b = (m.put(n, a, leaf=True) for n, a in zip("xwb", (X, W, B), strict=True))
    c = m.put("c", C)
    y = m.put("y", x * w)
    z = m.put("z", y + x)
    p = m.put("p", z * c)
    s = m.put("s", p.sum())
    q = m.put("q", b * c)
    r = m.put("r", q.sum())
    m.put("L", s + r)
    recipes = [
        ("mul", "x", "w", "y"),
        ("add", "y", "x", "z"),
        ("mul", "z", "c", "p"),
        ("sum", "p", "", "s"),
        ("mul", "b", "c", "q"),
        ("sum", "q", "", "r"),
        ("add", "s", "r", "L"),
    ]
    made_by = {call: node for node, call in CALLS.items()}
    calls = []
    for number, (op, first, second, result) in enumerate(recipes):
        arguments: dict[str, Any] = {"self": m.ref(first)}
        if op == "sum":
            arguments["dtype"] = None
        else:
            arguments["other"] = m.ref(second)
        if op == "add":
            arguments["alpha"] = 1
        overload = "default" if op == "sum" else "Tensor"
        calls.append(
            Call(
                number,
                f"aten.{op}.{overload}",
                arguments,
                (m.numbers[result],),
                node=made_by[number],
                source=Source("net", f"net.py:{number + 1}"),
            )
        )
    return tuple(calls)


def _backward(m: Maker) -> tuple[NodeRun, ...]:
    def quantity(name: str) -> Any:
        return m.values[m.numbers[name]].array

    x, w, c = quantity("x"), quantity("w"), quantity("c")
    a0 = m.put("a0", 1.0)
    d0, d1 = m.put("d0.0", a0), m.put("d0.1", a0)
    a1, a2 = m.put("a1", d0), m.put("a2", d1)
    a3 = m.put("a3", m.put("d1", np.full(3, a1)))
    a4 = m.put("a4", m.put("d2", np.full(3, a2)))
    a5 = m.put("a5", m.put("d3", a3 * c))
    gb = m.put("a8", m.put("d4", a4 * c))
    to_y, past = m.put("d5.0", a5), m.put("d5.1", a5)
    a6 = m.put("a6", to_y)
    through, gw = m.put("d6.0", a6 * w), m.put("d6.1", a6 * x)
    gx = m.put("a7", past + through)
    arriving_w = m.put("a9", gw)
    before = m.put("before x", BEFORE_X)
    m.put("after x", before + gx)
    m.put("after b", gb)
    m.put("after w", arriving_w)
    order = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    return tuple(_firing(m, node) for node in order)


def _firing(m: Maker, node: int) -> NodeRun:
    sent = {input_nr: m.numbers[name] for name, (n, input_nr) in SENT.items() if n == node}
    input_nrs = range(len(EDGES.get(node, ())))
    return NodeRun(
        node, (m.numbers[f"a{node}"],), tuple(sent.get(input_nr) for input_nr in input_nrs)
    )


def _node(m: Maker, number: int) -> Node:
    leaf = {7: "x", 8: "b", 9: "w"}.get(number)
    if leaf is not None:
        value = m.numbers[leaf]
        return Node(number, "AccumulateGrad", Kind.ACCUMULATE, (), (value,), leaf=value)
    edges = tuple(None if target is None else Edge(target, 0) for target in EDGES[number])
    result = list(FORWARD)[CALLS[number]]
    return Node(
        number,
        f"{NAMES[number]}Backward0",
        Kind.OPERATION,
        edges,
        (m.numbers[result],),
        call=CALLS[number],
    )
