"""Backward passes: hooks on every node, added when a pass starts and removed when it ends."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.calls.source import is_custom, tensors_in
from gradwitness.capture.memory.devices import fingerprint
from gradwitness.capture.passes.engine_modes import Aside, enter
from gradwitness.capture.passes.engine_run import EngineRun
from gradwitness.capture.passes.entries import Request, edge_of
from gradwitness.capture.passes.hooks import described, hooks_of_node, is_ours, put_first
from gradwitness.capture.passes.visits import Visit
from gradwitness.tape import AFTERWARDS, Edge, Kind, LeafUpdate, NodeRun, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch.overrides import TorchFunctionMode

    from gradwitness.capture.passes.context import Context

# Where a tensor holds its hooks that run after the accumulation.
_POST_HOOKS = "_post_accumulate_grad_hooks"

Values = tuple[int | None, ...]


class SweepDraft:
    """One backward pass while it runs.

    Parameters
    ----------
    number : int
        Position among the passes.
    mode : BackwardRecorder
        Records the passes that begin within this one.
    running : list of SweepDraft
        The passes under way, each begun within the one before it.
    """

    def __init__(
        self, context: Context, number: int, mode: TorchFunctionMode, running: list[SweepDraft]
    ) -> None:
        self._number = number
        self._mode = mode
        self._running = running
        self._values = context.values
        self._graph = context.graph
        self._dispatch = context.dispatch
        self._retention = context.retention
        self._audience = context.audience
        self._border = context.border
        self._outside = context.outside
        self._dropped = context.dropped
        self._request = Request([], [], None, retains=True, creates=False)
        self._aside = Aside()
        self._run = EngineRun()
        # Nodes that run no code of the program's; and no hooks of the program's, either.
        self._alone: set[int] = set()
        self._bare: set[int] = set()
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
        self._sent: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def start(self, request: Callable[[], Request]) -> None:
        """Walk the graph and put a hook before and after every node."""
        try:
            self._request = request()
        except TypeError:
            # Wrong arguments: torch itself will complain.
            return
        # Of a root without a graph, too.
        roots = self._values.met(root for root in self._request.roots if root.requires_grad)
        seeds = self._request.seeds
        nodes = [edge.node for edge in map(edge_of, roots) if edge is not None]
        self._graph.walk(nodes)
        for root, seed in zip(roots, seeds, strict=False):
            edge = self._edge(root)
            if edge is not None:
                seed_value = None if seed is None else self._values.of(seed)
                self._send([(edge, seed_value)])
                self._retention.start_from([seed_value])
                self._roots.append((edge, seed_value))
        if self._request.inputs is not None:
            self._limited = tuple(filter(None, map(self._edge, self._request.inputs)))
        self._run.begin(roots, {edge.node for edge, _ in self._roots})
        reached = self._reached(nodes)
        for number in reached:
            self._hook(number)
        self._hooks += tuple(self._program_hooks(reached))
        self._retention.doubt(self._hooks)
        for number in reached:
            self._handles += self._first_after(number)
        self._after = len(self._dispatch.calls)
        received = any(s is not None and self._dispatch.received(s) for s in seeds)
        self._outside.begins(self._number, received=received)
        self._audience.tell(lambda o: o.begins(self._number, self._roots, self._limited))
        self._begun = True

    def _hook(self, number: int) -> None:
        """Put hooks around a node, and around the hooks that the program has on it."""
        node, handles = self._graph.nodes[number].alive, self._handles
        visit = Visit(number, self)
        handles.append(visit)
        own = tuple(hooks_of_node(number, *visit.begin(node)))
        if own:
            self._hooks += own
            handles.append(put_first(node.register_prehook(lambda _: self._see_within(number))))
        if not self._is_alone(number):
            return
        self._alone.add(number)
        if not own:
            # No code of the program's runs between our hooks.
            self._bare.add(number)
            return
        step, back = self._aside.step, self._aside.back
        handles.append(node.register_prehook(lambda _: self._attempt(number, step)))
        handles.append(put_first(node.register_hook(lambda _, __: self._attempt(number, back))))

    def _runs(self, number: int) -> bool:
        """Whether this pass runs the node: one within it may, or one of another thread."""
        for sweep in reversed(self._running):
            if sweep._run.reaches(number):
                return sweep is self
        self._run.shares(number)
        return False

    def arrive(self, number: int, gradients: Any) -> None:
        """Record what comes in at a node, which is about to run."""
        self._attempt(number, self._before_node, gradients)

    def leave(self, number: int, outgoing: Any) -> None:
        """Record what a node sends, which has just run."""
        self._attempt(number, self._after_node, outgoing)

    def _attempt(self, number: int, step: Callable[..., Any], *args: Any) -> None:
        """Take a step if this pass runs the node."""
        if not self._runs(number):
            return
        if self._graph.nodes[number].kind == Kind.ACCUMULATE:
            with self._run.reading:
                self._border.attempt(step, number, *args)
        else:
            self._border.attempt(step, number, *args)

    def _see_within(self, number: int) -> None:
        """Enter the mode that records passes, which is off while one runs."""
        if self._runs(number):
            self._border.take(enter, self._mode)

    def _is_alone(self, number: int) -> bool:
        """Whether a node runs code of torch alone, whose operations need not be seen."""
        draft = self._graph.nodes[number]
        if self._request.creates or draft.kind in (Kind.CUSTOM, Kind.ACCUMULATE):
            return False
        return draft.call is None or self._dispatch.calls[draft.call].alone

    def _first_after(self, number: int) -> Iterator[Any]:
        """Read a ``.grad`` before hooks that may use and clear it."""
        draft = self._graph.nodes[number]
        own = getattr(draft.alive.variable, _POST_HOOKS) if draft.kind == Kind.ACCUMULATE else None
        if not own:
            return

        def keep(_: int, leaf: torch.Tensor) -> None:
            if leaf.grad is not None and not self._border.failures:
                self._accumulated[number] = self._values.of(leaf.grad)
                self._retention.hold([self._accumulated[number]])

        look = draft.alive.variable.register_post_accumulate_grad_hook
        yield put_first(look(lambda leaf: self._attempt(number, keep, leaf)))

    def _program_hooks(self, reached: Iterable[int]) -> Iterator[tuple[Edge, str]]:
        """Yield the program's hooks on gradients, and where they are; see what they do."""
        nodes = (self._graph.nodes[number].alive for number in reached)
        for tensor in self._values.histories.tensors_of(nodes):
            first, after = tensor._backward_hooks, getattr(tensor, _POST_HOOKS, None)
            kept = tensor.retains_grad
            if not (edge := self._edge(tensor) if first or after or kept else None):
                continue
            if kept:
                yield edge, "retain_grad"
            for prefix, hooks in (("", first), (AFTERWARDS, after)):
                for hook in list((hooks or {}).values()):
                    if not is_ours(hook):
                        yield edge, prefix + described(hook)
            if first:
                hookable: Any = tensor
                node = edge.node
                handle = hookable.register_hook(lambda _, node=node: self._see_within(node))
                self._handles.append(put_first(handle))

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

    def end(self, captured: Sequence[torch.Tensor | None], *, outermost: bool) -> None:
        """Write down what the pass returned.

        A pass within another leaves the balance to that one: each reads every ``.grad``.
        """
        for number in self._before:
            # It was cut short.
            self._values.balance.settle(self._graph.nodes[number].alive.variable)
        if outermost:
            self._values.balance.verify_all(self._number)
        elif not self._request.retains:
            self._dropped.note(update.node for update in self._leaves)
        nodes = self._graph.nodes
        for number in self._run.shared.intersection(u.node for u in self._leaves):
            self._values.balance.share(nodes[number].alive.variable, self._number)
        self._outside.ends(self._number, [nodes[u.node].alive.variable for u in self._leaves])
        if self._request.inputs is not None:
            pairs = zip(map(self._edge, self._request.inputs), captured, strict=False)
            self._captured = tuple(
                (edge, None if g is None else self._values.of(g))
                for edge, g in pairs
                if edge is not None
            )
        returned = [value for _, value in self._captured]
        self._retention.hold(self._retention.start_from(returned))
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

    def _send(self, sent: Iterable[tuple[Edge | None, int | None]]) -> None:
        """Hold values until they arrive."""
        for edge, value in sent:
            if edge is not None and value is not None:
                self._sent[edge.node, edge.index].append(value)
                self._retention.hold((value,))

    def _before_node(self, number: int, gradients: Any) -> None:
        bare = number in self._bare
        if bare:
            self._aside.step(number)
        if not self._border.failures:
            self._arrived(number, gradients)
            if not bare:
                enter(self._mode)

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
            if not self._request.creates:
                for gradient in tensors_in(gradients):
                    self._values.let_go(gradient)
        elif draft.kind == Kind.CUSTOM:
            self._dispatch.steps.begin(number)
            self._prints[number] = tuple(map(self._print, arrived))
            self._outside.node_begins(number)

    def _after_node(self, number: int, outgoing: Any) -> None:
        if number in self._bare:
            self._aside.back(number)
        if not self._border.failures:
            self._node_ran(number, outgoing)

    def _node_ran(self, number: int, gradients: Any) -> None:
        outgoing = self._recorded(gradients)
        draft, dispatch = self._graph.nodes[number], self._dispatch
        custom, leaf = draft.kind == Kind.CUSTOM, draft.kind == Kind.ACCUMULATE
        arrived = self._incoming.pop(number)
        if custom:
            self._outside.node_ran(number)
            self._dropped.let_go()
        node_run = NodeRun(
            number,
            arrived,
            outgoing,
            # A gradient becomes the leaf's own, which the program's hooks may change.
            () if leaf else self._changed(number, arrived),
            # Built-in nodes, and torch's own functions, rely on autograd to undo broadcasting.
            summed=dispatch.summed and is_custom(draft.alive),
            after=len(dispatch.calls),
            seen=number not in self._alone,
            steps=dispatch.steps.end(number, gradients) if custom else (),
        )
        dispatch.summed = False
        self._node_runs.append(node_run)
        self._send(zip(draft.edges, outgoing, strict=False))
        update, needed = None, [*arrived]
        if leaf:
            update, held = self._accumulation(number, draft.alive.variable)
            self._leaves.append(update)
            needed = self._retention.start_from([*needed, *held])
        added = self._audience.tell(lambda o: o.node_ran(self._number, node_run, update)) or ()
        for place in (*((number, index) for index in range(len(arrived))), *added):
            needed += self._sent.pop(place, ())
        self._retention.drop(needed)
        if not self._request.retains:
            for call in self._graph.calls_of(number):
                dispatch.close(call)

    def _changed(self, number: int, arrived: Values) -> tuple[int, ...]:
        """Return which of the gradients that arrived were written to."""
        is_overwritten = self._values.is_overwritten
        # A backward may write to its arguments through NumPy, too; those without a print are 0.
        prints = self._prints.pop(number, ())
        changed = [
            index
            for index, value in enumerate(arrived)
            if value is not None
            and (is_overwritten(value) or (prints and 0 != prints[index] != self._print(value)))
        ]
        return tuple(changed)

    def _accumulation(self, number: int, leaf: torch.Tensor) -> tuple[LeafUpdate, Values]:
        """Return what was added to a leaf's ``.grad``, and the values that are held for it."""
        if number in self._run.shared:
            self._values.balance.share(leaf, self._number)
        grad, seen = leaf.grad, self._accumulated.pop(number, None)
        after = None if grad is None else self._values.of(grad)
        self._values.balance.settle(leaf, self._number)
        self._retention.hold([after])
        before, held = self._before.pop(number), (after, seen)
        if seen is not None and (grad is None or not grad.any()):
            # A hook has used it: an optimizer within the backward pass.
            after = seen
        return LeafUpdate(number, before, after), (*held, before)

    def _print(self, number: int | None) -> int:
        return 0 if number is None else fingerprint(self._values.value(number))

    def _recorded(self, gradients: Any) -> Values:
        known, number = len(self._values.drafts), self._values.of
        numbers = tuple([number(g) if isinstance(g, torch.Tensor) else None for g in gradients])
        return self._retention.send(numbers, known)
