"""The autograd graph that a program left behind, and which call made which node."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.drafts import CallDraft, NodeDraft
from gradwitness.rules.registry import node_name
from gradwitness.tape import Edge, Kind, Ref, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradwitness.capture.dispatch import DispatchRecorder
    from gradwitness.capture.values import ValueStore

_SAVED = "_saved_"

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
        self._saved = saved

    def number(self, node: Any) -> int | None:
        """Return a node's number, or None if no walk has met it."""
        return self._numbers.get(node)

    def calls_of(self, number: int) -> Iterator[int]:
        """Yield the calls that only this node differentiates."""
        draft = self.nodes[number]
        if draft.call is not None:
            yield draft.call
        yield from (call for call in draft.inner if self._calls[call].node == number)

    def walk(self, roots: Iterable[Any]) -> list[int]:
        """Give every node that the roots reach a number; return the new ones."""
        new: list[int] = []
        waiting = [root for root in roots if root is not None]
        # Breadth first, so that numbers follow the backward order.
        for node in waiting:
            if node in self._numbers:
                continue
            self._numbers[node] = len(self.nodes)
            new.append(len(self.nodes))
            self.nodes.append(NodeDraft(node, node.name().rpartition("::")[2]))
            waiting.extend(target for target, _ in node.next_functions if target is not None)
        for number in new:
            draft = self.nodes[number]
            draft.edges = tuple(
                None if target is None else Edge(self._numbers[target], index)
                for target, index in draft.alive.next_functions
            )
        self._join(new)
        return new

    def _join(self, new: list[int]) -> None:
        by_sequence: dict[int, list[int]] = {}
        for number, call in enumerate(self._calls):
            by_sequence.setdefault(call.sequence, []).append(number)
        for number in new:
            draft = self.nodes[number]
            if self._saved:
                draft.saved = tuple(self._saved_tensors(draft.alive))
            self._classify(number, draft, by_sequence)
        self._find_outputs()
        for number in new:
            self._complete_function(number)
            self._complete_view(number)
        self._views_are_known()

    def _classify(self, number: int, draft: NodeDraft, by_sequence: dict[int, list[int]]) -> None:
        if draft.name == "AccumulateGrad":
            draft.kind = Kind.ACCUMULATE
            draft.leaf = self._values.leaf(draft.alive.variable)
            draft.outputs = [draft.leaf]
            return
        sequence = draft.alive._sequence_nr()
        if draft.name == "CopySlices":
            # Made right after the node of the operation that it wraps. A custom function's last
            # write is not all that the function did.
            before = by_sequence.get(sequence - 1, ())
            own = [c for c in before if self._calls[c].writes and self._calls[c].grad_mode]
            if own:
                draft.kind, draft.call = Kind.COPY_SLICES, own[0]
                self._calls[own[0]].node = number
            return
        if isinstance(draft.alive, torch.autograd.function.BackwardCFunction):
            draft.kind = Kind.CUSTOM
            # Their count is known even if its forward was not seen.
            draft.outputs = _unknown_outputs(draft)
            return
        for call in self._candidates(draft.alive, by_sequence):
            maker = self._calls[call]
            if _same_operation(draft.name, maker.op):
                draft.kind, draft.call = Kind.OPERATION, call
                first = 1 if maker.op.startswith(_CONSTANT_FIRST) else 0
                draft.outputs = list(maker.outputs[first:])
                maker.node = number
                return
        # No call is known, but the number of its results is.
        draft.outputs = _unknown_outputs(draft)

    def _candidates(self, node: Any, by_sequence: dict[int, list[int]]) -> list[int]:
        """Return the calls that may have made a node.

        A node gets its sequence number before its operands are prepared, which may take further
        numbers before the call runs: one for each view whose history is rebuilt, and one for the
        copy that an in-place operation keeps of what it overwrites.
        """
        sequence = node._sequence_nr()
        rebuilt = {
            target._sequence_nr()
            for target, _ in node.next_functions
            if target is not None and target.name().startswith("AsStrided")
        }
        while sequence + 1 in rebuilt:
            sequence += 1
        after = by_sequence.get(sequence + 1, [])
        copied = [
            second
            for first, second in pairwise(after)
            if self._calls[first].op == "aten.clone.default" and self._calls[second].writes
        ]
        return by_sequence.get(sequence, []) + copied

    def _find_outputs(self) -> None:
        """Learn from each tensor which node it belongs to, or belonged to before a write."""
        for node, index, value in self._values.histories():
            number = self._numbers.get(node)
            if number is None:
                continue
            outputs = self.nodes[number].outputs
            outputs.extend([None] * (index + 1 - len(outputs)))
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
        sequence = draft.alive._sequence_nr()
        results = {output for output in draft.outputs if output is not None}
        after = [n for n, call in enumerate(self._calls) if call.sequence >= sequence]
        makers = [
            n
            for n in after
            if results.intersection(self._calls[n].outputs) or self._calls[n].base in results
        ]
        draft.inner = tuple(n for n in after if makers and n <= makers[-1])
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
            )
        )

    def _saved_tensors(self, node: Any) -> Iterable[tuple[str, int | None]]:
        for attribute in dir(node):
            if not attribute.startswith(_SAVED):
                continue
            saved = getattr(node, attribute)
            if isinstance(saved, torch.Tensor):
                yield attribute.removeprefix(_SAVED), self._values.of(saved)


def _unknown_outputs(draft: NodeDraft) -> list[int | None]:
    return [None] * len(draft.alive._input_metadata)


def _same_operation(node: str, op: str) -> bool:
    # The copying form of a view, diagonal_copy, leaves DiagonalBackward0_copy.
    copies = node.endswith("_copy")
    node_op = node.removesuffix("_copy").rstrip("0123456789").lower()
    _, name, *_ = op.split(".")
    call_op = node_name(name.removesuffix("_copy") if copies else name).lower()
    # CopyBackwards is the one plural.
    return node_op in (call_op, call_op + "s")
