"""The autograd graph that a program left behind, and which call made which node."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.calls.drafts import CallDraft, NodeDraft
from gradwitness.capture.calls.order import CallOrder, Thread
from gradwitness.capture.calls.source import is_custom_backward
from gradwitness.capture.memory.known import identity
from gradwitness.rules.registry import node_name
from gradwitness.tape import Edge, Kind, Ref, Source, references

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradwitness.capture.calls.dispatch import DispatchRecorder
    from gradwitness.capture.memory.values import ValueStore

_SAVED = "_saved_"
_COPY_SLICES = "CopySlices"

# Their first result, the row order, is a constant for autograd: not an output of the node.
_CONSTANT_FIRST = ("aten.linalg_lu.", "aten.lu_unpack.")


class GraphRecorder:
    """Numbers autograd nodes and joins them to the calls that made them."""

    def __init__(self, values: ValueStore, dispatch: DispatchRecorder, *, saved: bool) -> None:
        self.nodes: list[NodeDraft] = []
        self._numbers: dict[Any, int] = {}
        self._values = values
        self._add_call = dispatch.add
        self._views_are_known = dispatch.views_are_known
        self._calls = dispatch.calls
        self._order = CallOrder(dispatch.calls)
        self._saved = saved

    def number(self, node: Any) -> int | None:
        """Return a node's number, or None if no walk has met it."""
        return self._numbers.get(node)

    def calls_of(self, number: int) -> list[int]:
        """Return the calls that only this node differentiates."""
        draft = self.nodes[number]
        own = [] if draft.call is None else [draft.call]
        return own + [call for call in draft.inner if self._calls[call].node == number]

    def walk(self, roots: Iterable[Any]) -> list[int]:
        """Give every node that the roots reach a number; return the new ones."""
        new: list[int] = []
        waiting = [root for root in roots if root is not None]
        # Breadth first, so that numbers follow the backward order.
        for node in waiting:
            if node in self._numbers:
                continue
            # By its identity, too.
            self._numbers[node] = self._numbers[identity(node)] = len(self.nodes)
            new.append(len(self.nodes))
            self.nodes.append(NodeDraft(node, node.name().rpartition("::")[2]))
            waiting += [target for target, _ in node.next_functions if target is not None]
        for number in new:
            draft = self.nodes[number]
            draft.edges = tuple(
                [
                    None if target is None else Edge(self._numbers[target], index)
                    for target, index in draft.alive.next_functions
                ]
            )
        self._join(new)
        return new

    def _join(self, new: list[int]) -> None:
        self._order.read()
        histories = self._values.histories
        made = histories.read(self._numbers, [self.nodes[number].alive for number in new])
        for number in new:
            draft = self.nodes[number]
            if self._saved:
                draft.saved = tuple(self._saved_tensors(draft.alive))
            self._classify(number, draft)
        self._find_outputs(made)
        self._values.ask_again(self._after_functions(new))
        self._find_outputs(histories.read(self._numbers, ()))
        for number in new:
            self._complete_function(number)
            self._complete_view(number)
        self._views_are_known()

    def _after_functions(self, new: list[int]) -> Iterator[int]:
        """Yield what calls read and made since the first custom function without all its results.

        It may have given a history to a tensor that was asked before it ended.
        """
        functions = [self.nodes[n] for n in new if self.nodes[n].kind == Kind.CUSTOM]
        first = min((d.alive._sequence_nr() for d in functions if None in d.outputs), default=None)
        if first is None:
            return
        for thread in self._order.threads.values():
            for call in map(self._calls.__getitem__, thread.until(thread.calls[-1], first)):
                yield from (value for value in call.outputs if value is not None)
                yield from (n for a in call.arguments.values() for n in references(a))

    def _classify(self, number: int, draft: NodeDraft) -> None:
        if draft.name == "AccumulateGrad":
            draft.kind = Kind.ACCUMULATE
            draft.leaf = self._values.leaf(draft.alive.variable)
            draft.outputs = [draft.leaf]
            return
        if is_custom_backward(draft.alive):
            draft.kind = Kind.CUSTOM
        else:
            draft.call = self._maker(draft)
        if draft.call is None:
            # Their count is known even if no call is.
            draft.outputs = [None] * len(draft.alive._input_metadata)
            return
        maker = self._calls[draft.call]
        maker.node = number
        if draft.name == _COPY_SLICES:
            draft.kind = Kind.COPY_SLICES
            return
        draft.kind = Kind.OPERATION
        first = 1 if maker.op.startswith(_CONSTANT_FIRST) else 0
        draft.outputs = list(maker.outputs[first:])

    def _maker(self, draft: NodeDraft) -> int | None:
        """Return the call that made a node, if it is known.

        Each thread counts its nodes itself. So calls of several threads may have the number of a
        node: those whose results belong to other nodes are ruled out, and one must be left.
        """
        found: dict[int, bool] = {}
        for thread in self._order.threads.values():
            for call in self._candidates(draft, thread):
                maker = self._calls[call]
                if not _may_make(draft.name, maker):
                    continue
                made = (maker.base,) if draft.name == _COPY_SLICES else maker.outputs
                nodes = {n for value in made for n in self._values.histories.nodes_of(value)}
                if not nodes or identity(draft.alive) in nodes:
                    found[call] = bool(nodes)
                    break
        known = [call for call, is_known in found.items() if is_known]
        left = known or list(found)
        return left[0] if len(left) == 1 else None

    def _candidates(self, draft: NodeDraft, thread: Thread) -> list[int]:
        """Return the calls of a thread that may have made a node.

        A node gets its sequence number before its operands are prepared, which may take further
        numbers before the call runs: one for each view whose history is rebuilt, and one for the
        copy that an in-place operation keeps of what it overwrites.
        """
        sequence = draft.alive._sequence_nr()
        if draft.name == _COPY_SLICES:
            # Made right after the node of the operation that it wraps.
            return list(thread.at(sequence - 1))
        targets = [self.nodes[edge.node] for edge in draft.edges if edge is not None]
        rebuilt = [t.alive._sequence_nr() for t in targets if t.name.startswith("AsStrided")]
        while sequence + 1 in rebuilt:
            sequence += 1
        copied = [
            second
            for first, second in pairwise(thread.at(sequence + 1))
            if self._calls[first].op == "aten.clone.default" and self._calls[second].writes
        ]
        return [*thread.at(sequence), *copied]

    def _find_outputs(self, histories: Iterable[tuple[Any, int, int]]) -> None:
        """Learn from each tensor which node it belongs to, or belonged to before a write."""
        for node, index, value in histories:
            number = self._numbers.get(node)
            if number is None:
                continue
            outputs = self.nodes[number].outputs
            outputs += [None] * (index + 1 - len(outputs))
            if outputs[index] is None:
                outputs[index] = value

    def _complete_function(self, number: int) -> None:
        """Find the calls of a custom function's forward.

        They run from the first call after its node was numbered to the one that made its last
        output. Other custom functions, and operations with grad mode on, may be among them.
        """
        draft = self.nodes[number]
        if draft.kind != Kind.CUSTOM:
            return
        results = [self._values.origin(output) for output in draft.outputs if output is not None]
        draft.inner = tuple(self._order.making(results, draft.alive._sequence_nr()))
        for call in draft.inner:
            if self._calls[call].node is None:
                self._calls[call].node = number

    def _complete_view(self, number: int) -> None:
        """Add the call that torch makes silently to rebuild the history of a view.

        After an in-place change of a base, its views get a new graph with AsStrided.
        """
        draft = self.nodes[number]
        if draft.kind != Kind.UNKNOWN or draft.name.rstrip("0123456789") != "AsStridedBackward":
            return
        node = draft.alive
        owner = draft.edges[0]
        bases = [] if owner is None else self.nodes[owner.node].outputs[owner.index :]
        base = bases[0] if bases else None
        view = draft.outputs[0] if draft.outputs else None
        if view is None or base is None:
            return
        draft.kind = Kind.OPERATION
        draft.call = self._add_call(
            CallDraft(
                op="aten.as_strided.default",
                arguments={
                    "self": Ref(base),
                    "size": tuple(node._saved_size),
                    "stride": tuple(node._saved_stride),
                    "storage_offset": node._saved_storage_offset,
                },
                outputs=(view,),
                writes=(),
                is_view=True,
                sequence=-1,
                grad_enabled=True,
                backward_of=None,
                source=Source(),
                node=number,
            ),
            [base],
        )

    def _saved_tensors(self, node: Any) -> Iterable[tuple[str, int | None]]:
        for attribute in dir(node):
            if not attribute.startswith(_SAVED):
                continue
            saved = getattr(node, attribute)
            if isinstance(saved, torch.Tensor):
                yield attribute.removeprefix(_SAVED), self._values.of(saved)


def _may_make(name: str, maker: CallDraft) -> bool:
    if name == _COPY_SLICES:
        # A custom function's last write is not all that the function did.
        return bool(maker.writes) and maker.grad_mode
    return _same_operation(name, maker.op)


@cache
def _same_operation(node: str, op: str) -> bool:
    # The copying form of a view, diagonal_copy, leaves DiagonalBackward0_copy.
    copies = node.endswith("_copy")
    node_op = node.removesuffix("_copy").rstrip("0123456789").lower()
    _, name, *_ = op.split(".")
    call_op = node_name(name.removesuffix("_copy") if copies else name).lower()
    # CopyBackwards is the one plural.
    return node_op in (call_op, call_op + "s")
