"""Backward passes: hooks on every node, added when a pass starts and removed when it ends."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from gradwitness.capture.balance import ASSIGNMENTS
from gradwitness.capture.entries import ENTRIES, Request
from gradwitness.capture.hooks import described, hooks_of_node
from gradwitness.capture.inside import Inside
from gradwitness.tape import Edge, Kind, LeafUpdate, NodeRun, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradwitness.capture.border import Border
    from gradwitness.capture.dispatch import DispatchRecorder
    from gradwitness.capture.graph import GraphRecorder
    from gradwitness.capture.observer import Audience
    from gradwitness.capture.outside import Outside
    from gradwitness.capture.retention import Retention
    from gradwitness.capture.values import ValueStore

# Where a tensor holds its hooks that run after the accumulation.
_AFTERWARDS = "_post_accumulate_grad_hooks"

Values = tuple[int | None, ...]


class BackwardRecorder(TorchFunctionMode):
    """Sees each call of backward or grad, and records the gradients at every node."""

    def __init__(
        self,
        values: ValueStore,
        graph: GraphRecorder,
        dispatch: DispatchRecorder,
        retention: Retention,
        audience: Audience,
        border: Border,
        outside: Outside,
    ) -> None:
        super().__init__()
        self.drafts: list[SweepDraft] = []
        self._running = 0
        self._context = _Context(values, graph, dispatch, retention, audience, border, outside)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        border = self._context.border
        entry = ENTRIES.get(func)
        if entry is None:
            way = _WAYS_OUT.get(func)
            if way is not None and args and isinstance(args[0], torch.Tensor):
                border.take(self._goes_out, way, args[0])
            # Within a pass, an assignment bypasses the graph.
            seen = func in ASSIGNMENTS and not self._running
            leaves = border.take(self._assigns, args[0]) if seen else ()
            result = func(*args, **kwargs)
            for leaf in leaves or ():
                border.take(self._context.values.balance.settle, leaf)
            return result
        inside = Inside(self)
        sweep = SweepDraft(self._context, len(self.drafts), inside)
        self.drafts.append(sweep)
        captured: Sequence[torch.Tensor | None] = ()
        self._running += 1
        try:
            border.take(sweep.start, lambda: entry(*args, **kwargs))
            result = func(*args, **kwargs)
            captured = result or ()
        finally:
            self._running -= 1
            inside.close()
            sweep.stop()
            # Nodes that ran before an exception can still be judged.
            border.take(sweep.end, captured)
        return result

    def _assigns(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return self._context.values.balance.before_assignment(tensor)

    def _goes_out(self, way: str, tensor: torch.Tensor) -> None:
        self._context.dispatch.hands_out(way, tensor)
        if way in _LENDING:
            self._context.values.lend(tensor)


@dataclass(frozen=True)
class _Context:
    """Shared by the passes of one recording."""

    values: ValueStore
    graph: GraphRecorder
    dispatch: DispatchRecorder
    retention: Retention
    audience: Audience
    border: Border
    outside: Outside


# How a tensor's numbers leave torch.
_WAYS_OUT: dict[Any, str] = {
    getattr(torch.Tensor, name): name
    for name in (
        "numpy",
        "item",
        "tolist",
        "data_ptr",
        "untyped_storage",
        "storage",
        "share_memory_",
        "__array__",
        "__dlpack__",
        "__float__",
        "__int__",
    )
}

# Those that return the memory as an object, which can be resized.
_LENDING = ("untyped_storage", "storage", "share_memory_")


class SweepDraft:
    """One backward pass while it runs.

    Parameters
    ----------
    number : int
        Position among the passes.
    """

    def __init__(self, context: _Context, number: int, inside: Inside) -> None:
        self._number = number
        self._inside = inside
        self._values = context.values
        self._graph = context.graph
        self._dispatch = context.dispatch
        self._retention = context.retention
        self._audience = context.audience
        self._border = context.border
        self._outside = context.outside
        self._request = Request([], [], None, retains=True)
        self._handles: list[Any] = []
        self._roots: list[tuple[Edge, int | None]] = []
        self._begun = False
        self._after = 0
        self._hooks: tuple[tuple[Edge, str], ...] = ()
        self._limited: tuple[Edge, ...] | None = None
        self._captured: tuple[tuple[Edge, int | None], ...] = ()
        self._incoming: dict[int, Values] = {}
        # Checksums of the gradients that arrived at custom functions.
        self._prints: dict[int, tuple[int, ...]] = {}
        self._before: dict[int, int | None] = {}
        # The .grad of leaves before the program's own hooks ran.
        self._accumulated: dict[int, int] = {}
        self._node_runs: list[NodeRun] = []
        self._leaves: list[LeafUpdate] = []
        # Values held until they arrive, by destination.
        self._sent: dict[tuple[int, int], list[int]] = {}

    def start(self, request: Callable[[], Request]) -> None:
        """Walk the graph and put a hook before and after every node."""
        try:
            self._request = request()
        except TypeError:
            # Wrong arguments: torch itself will complain.
            return
        # Of a root without a graph, too.
        roots = [root for root in self._request.roots if root.requires_grad]
        seeds = self._request.seeds
        nodes = [edge.node for edge in map(edge_of, roots) if edge is not None]
        self._graph.walk(nodes)
        for root, seed in zip(roots, seeds, strict=False):
            edge = self._edge(root)
            if edge is not None:
                seed_value = None if seed is None else self._values.of(seed)
                self._send(edge, seed_value)
                self._roots.append((edge, seed_value))
        if self._request.inputs is not None:
            edges = map(self._edge, self._request.inputs)
            self._limited = tuple(edge for edge in edges if edge is not None)
        reached = self._reached(nodes)
        for number in reached:
            node = self._graph.nodes[number].alive
            arrival = node.register_prehook(self._arrive(number))
            self._handles.append(arrival)
            leaving = node.register_hook(self._leave(number))
            self._handles.append(leaving)
            self._hooks += tuple(hooks_of_node(Edge(number, 0), arrival, leaving))
        self._hooks += tuple(self._program_hooks())
        for number in reached:
            self._handles += self._first_after(number)
        self._after = len(self._dispatch.calls)
        received = any(s is not None and self._dispatch.received(s) for s in seeds)
        self._outside.begins(self._number, received=received)
        self._audience.tell(lambda o: o.begins(self._number, self._roots, self._limited))
        self._begun = True

    def _first_after(self, number: int) -> Iterator[Any]:
        """Read a ``.grad`` before hooks that may use and clear it."""
        draft = self._graph.nodes[number]
        own = getattr(draft.alive.variable, _AFTERWARDS) if draft.kind == Kind.ACCUMULATE else None
        if not own:
            return

        def keep(leaf: torch.Tensor) -> None:
            if leaf.grad is not None:
                self._accumulated[number] = self._values.of(leaf.grad)
                self._retention.hold([self._accumulated[number]])

        def look(leaf: torch.Tensor) -> None:
            self._border.take(keep, leaf)

        # Torch calls them in insertion order.
        others = dict(own)
        try:
            yield draft.alive.variable.register_post_accumulate_grad_hook(look)
            for key in others:
                own[key] = own.pop(key)
        finally:
            # Lose none, whatever happens in between.
            for key, hook in others.items():
                own.setdefault(key, hook)

    def _program_hooks(self) -> Iterator[tuple[Edge, str]]:
        """Yield the program's hooks on gradients, and where they are."""
        for tensor, _ in self._values.tensors():
            for hooks in (tensor._backward_hooks, getattr(tensor, _AFTERWARDS, None)):
                edge = self._edge(tensor) if hooks else None
                if hooks and edge is not None:
                    yield from ((edge, described(hook)) for hook in hooks.values())

    def _edge(self, tensor: torch.Tensor) -> Edge | None:
        edge = edge_of(tensor)
        number = None if edge is None else self._graph.number(edge.node)
        return None if edge is None or number is None else Edge(number, edge.output_nr)

    def _reached(self, starts: Sequence[Any]) -> list[int]:
        seen: dict[int, None] = {}
        waiting = [n for n in map(self._graph.number, starts) if n is not None]
        for number in waiting:
            if number not in seen:
                seen[number] = None
                waiting.extend(e.node for e in self._graph.nodes[number].edges if e is not None)
        return list(seen)

    def stop(self) -> None:
        """Remove every hook, whatever happened."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def end(self, captured: Sequence[torch.Tensor | None]) -> None:
        """Write down what the pass returned."""
        for number in self._before:
            # It was cut short.
            self._values.balance.settle(self._graph.nodes[number].alive.variable)
        self._values.balance.verify_all(self._number)
        nodes = self._graph.nodes
        self._outside.ends(self._number, [nodes[u.node].alive.variable for u in self._leaves])
        if self._request.inputs is not None:
            pairs = zip(map(self._edge, self._request.inputs), captured, strict=False)
            self._captured = tuple(
                (edge, None if g is None else self._values.of(g))
                for edge, g in pairs
                if edge is not None
            )
        returned = [value for _, value in self._captured]
        self._retention.hold(returned)
        # The observer knows of no pass that failed before it began.
        if self._begun:
            self._audience.tell(lambda o: o.ends(self._number, self._captured))
        self._retention.drop(returned)
        for numbers in self._sent.values():
            self._retention.drop(numbers)

    def finish(self) -> Sweep:
        """Return the frozen pass."""
        return Sweep(
            tuple(self._roots),
            tuple(self._node_runs),
            tuple(self._leaves),
            self._captured,
            self._limited,
            self._after,
            self._hooks,
        )

    def _send(self, edge: Edge, value: int | None) -> None:
        if value is not None:
            self._retention.hold([value])
            self._sent.setdefault((edge.node, edge.index), []).append(value)

    def _arrive(self, number: int) -> Callable[[Any], None]:
        def hook(gradients: Any) -> None:
            self._border.take(self._arrived, number, gradients)
            if self._graph.nodes[number].kind == Kind.CUSTOM:
                self._inside.enter()

        return hook

    def _arrived(self, number: int, gradients: Any) -> None:
        arrived = self._recorded(gradients)
        self._retention.hold(arrived)
        self._incoming[number] = arrived
        draft = self._graph.nodes[number]
        if draft.kind == Kind.ACCUMULATE:
            self._values.balance.accumulates(draft.alive.variable)
            before = draft.alive.variable.grad
            self._before[number] = None if before is None else self._values.of(before)
            self._retention.hold([self._before[number]])
        elif draft.kind == Kind.CUSTOM:
            self._prints[number] = tuple(map(self._print, arrived))
            self._outside.node_begins(number)

    def _leave(self, number: int) -> Callable[[Any, Any], None]:
        def hook(outgoing: Any, incoming: Any) -> None:
            del incoming
            if self._graph.nodes[number].kind == Kind.CUSTOM:
                self._inside.leave()
            self._border.take(self._node_ran, number, outgoing)

        return hook

    def _node_ran(self, number: int, gradients: Any) -> None:
        outgoing = self._recorded(gradients)
        draft = self._graph.nodes[number]
        arrived = self._incoming.pop(number)
        self._outside.node_ran(number)
        # A backward may write to its arguments through NumPy, too.
        prints = self._prints.pop(number, ())
        changed = tuple(
            index
            for index, value in enumerate(arrived)
            if value is not None
            and (
                self._values.is_overwritten(value)
                or (prints and prints[index] != self._print(value))
            )
        )
        # Built-in nodes rely on autograd to undo their broadcasting.
        summed = self._dispatch.summed and draft.kind == Kind.CUSTOM
        self._dispatch.summed = False
        node_run = NodeRun(number, arrived, outgoing, changed, summed, len(self._dispatch.calls))
        self._node_runs.append(node_run)
        for edge, value in zip(draft.edges, outgoing, strict=False):
            if edge is not None:
                self._send(edge, value)
        update = None
        needed: Values = node_run.incoming
        if draft.kind == Kind.ACCUMULATE:
            grad, seen = draft.alive.variable.grad, self._accumulated.pop(number, None)
            after = None if grad is None else self._values.of(grad)
            self._values.balance.settle(draft.alive.variable, self._number)
            self._retention.hold([after])
            needed = (*needed, after, seen)
            if seen is not None and (grad is None or not grad.any()):
                # A hook has used it: an optimizer within the backward pass.
                after = seen
            update = LeafUpdate(number, self._before.pop(number), after)
            self._leaves.append(update)
            needed = (*needed, update.before)
        self._audience.tell(lambda o: o.node_ran(self._number, node_run, update))
        self._retention.drop(needed)
        for index in range(len(node_run.incoming)):
            self._retention.drop(self._sent.pop((number, index), ()))
        if not self._request.retains:
            for call in self._graph.calls_of(number):
                self._dispatch.close(call)

    def _print(self, number: int | None) -> int:
        array: Any = None if number is None else self._values.value(number).array
        # A scattered array would have to be copied.
        plain = array is not None and array.flags.c_contiguous
        return zlib.crc32(array.reshape(-1).view("u1")) if plain else 0

    def _recorded(self, gradients: Any) -> Values:
        return tuple(self._values.of(g) if isinstance(g, torch.Tensor) else None for g in gradients)


def edge_of(tensor: torch.Tensor) -> Any:
    """Return where a tensor's gradient arrives; None if it has none, or not at this level.

    Inside a transform (torch.func, vmap), a tensor's graph may belong to another level.
    """
    if not tensor.requires_grad:
        return None
    try:
        return torch.autograd.graph.get_gradient_edge(tensor)
    except (AttributeError, RuntimeError):
        return None
