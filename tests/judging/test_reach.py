"""What lies beyond an edge with no rounding between, and that each edge is looked at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gradwitness.judging import large_steps as large
from gradwitness.judging.large_steps import Reach
from gradwitness.tape import Edge, Kind, Node, Tape

NodeInput = tuple[int, int]


def graph(targets: list[list[int]], leaves: set[int]) -> Tape:
    """Return a tape with nothing but nodes, each with edges to others."""
    nodes = tuple(
        Node(
            number,
            f"N{number}",
            Kind.ACCUMULATE if number in leaves else Kind.OPERATION,
            tuple(Edge(target, 0) for target in onward),
            (None,),
        )
        for number, onward in enumerate(targets)
    )
    return Tape(values=(), calls=(), nodes=nodes, sweeps=())


class Rounds:
    """Says of some edges that they round, and counts how often each is asked about."""

    def __init__(self, rounding: set[NodeInput]) -> None:
        self.rounding = rounding
        self.asked: Counter[NodeInput] = Counter()

    def __call__(self, tape: Tape, node: Node, input_nr: int) -> bool:
        del tape
        self.asked[node.id, input_nr] += 1
        return (node.id, input_nr) in self.rounding


def by_paths(tape: Tape, edge: Edge, taken: set[NodeInput], rounding: set[NodeInput]) -> bool:
    """Answer by following every path, as the definition says."""
    node = tape.nodes[edge.node]
    return (
        (edge.node, edge.index) in taken
        or node.kind == Kind.ACCUMULATE
        or any(
            by_paths(tape, onward, taken, rounding)
            for input_nr, onward in enumerate(node.edges)
            if onward is not None and (node.id, input_nr) not in rounding
        )
    )


def test_answers_are_those_of_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    answers: Counter[bool] = Counter()
    for _ in range(200):
        size = 9
        # Every edge leads onward, as in any graph that was made by a program.
        targets = [
            [int(t) for t in random.integers(n + 1, size, random.integers(0, 4))]
            if n + 1 < size
            else []
            for n in range(size)
        ]
        input_nrs = [
            (n, input_nr) for n, onward in enumerate(targets) for input_nr in range(len(onward))
        ]
        rounding = {input_nr for input_nr in input_nrs if random.random() < 0.4}
        taken = {(int(random.integers(size)), 0)} if random.random() < 0.5 else set()
        tape = graph(targets, {size - 1})
        monkeypatch.setattr(large, "surely_rounds", Rounds(rounding))
        reach = Reach(tape, taken)
        for number in random.permutation(size):
            edge = Edge(int(number), 0)
            expected = by_paths(tape, edge, taken, rounding)
            assert reach(edge) == expected
            answers[expected] += 1
    assert min(answers[True], answers[False]) > 100


@pytest.mark.parametrize("reaching", [True, False])
def test_a_long_chain_is_walked_once(monkeypatch: pytest.MonkeyPatch, reaching: bool) -> None:
    length = 5000
    # Each node sends two gradients to the next one: the paths double at every step.
    targets = [[n + 1, n + 1] for n in range(length)] + [[]]
    last = {(length - 1, 0), (length - 1, 1)}
    rounds = Rounds(set() if reaching else last)
    monkeypatch.setattr(large, "surely_rounds", rounds)
    tape = graph(targets, {length})
    reach = Reach(tape, set())
    # As a backward pass asks: at every node, in its order.
    assert all(reach(Edge(n, 0)) is reaching for n in range(length))
    assert len(rounds.asked) == 2 * length
    assert set(rounds.asked.values()) == {1}
