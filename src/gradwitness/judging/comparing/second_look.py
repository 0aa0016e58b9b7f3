"""What a node sends, computed once more where a comparison settled nothing."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gradwitness.engine.backward import sending
from gradwitness.engine.in_pieces import sent_together

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Node, NodeRun, Tape


class SecondLook:
    """The gradients of a node run: those that its rule computes together are computed once.

    Parameters
    ----------
    tape : Tape
    records : Records
    node : Node
    node_run : NodeRun
    expected : callable
        Computes what a node sends, with sums in turn rounded as so many threads do.
    """

    def __init__(
        self,
        tape: Tape,
        records: Records,
        node: Node,
        node_run: NodeRun,
        expected: Callable[[Node, NodeRun, int], tuple[Any, ...]],
    ) -> None:
        self._records = records
        self._together: Callable[[int], frozenset[int]] = partial(sent_together, tape, node)

        def sizes(inputs: frozenset[int]) -> list[float]:
            return records.sent_sizes(sending(node, inputs), node_run)

        def rounded(inputs: frozenset[int], threads: int) -> tuple[Any, ...]:
            return expected(sending(node, inputs), node_run, threads)

        self._sizes, self._rounded = cache(sizes), cache(rounded)

    def size(self, input_nr: int) -> float:
        """Return how large a gradient is if no terms cancel; 0 if unknown."""
        return self._sizes(self._together(input_nr))[input_nr]

    def in_turn(self, input_nr: int, sent: int, threads: int) -> tuple[Comparison, Any]:
        """Compare with sums rounded as so many threads do; return what was expected, too."""
        expected = self._rounded(self._together(input_nr), threads)[input_nr]
        return self._records.against(sent, expected), expected
