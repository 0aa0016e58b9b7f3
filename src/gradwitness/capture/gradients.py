"""Backward passes: hooks on every node, put there when a pass starts and removed when it ends."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from gradwitness.capture.dispatch import tensors_in
from gradwitness.tape import Edge, Firing, Kind, LeafUpdate, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.capture.dispatch import DispatchRecorder
    from gradwitness.capture.graph import GraphRecorder
    from gradwitness.capture.values import ValueStore

Values = tuple[int | None, ...]


class BackwardRecorder(TorchFunctionMode):
    """Sees each call of backward or grad, and records what flows through the nodes."""

    def __init__(
        self, values: ValueStore, graph: GraphRecorder, dispatch: DispatchRecorder
    ) -> None:
        super().__init__()
        self.sweeps: list[Sweep] = []
        self._values = values
        self._graph = graph
        self._dispatch = dispatch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        entry = _ENTRIES.get(func)
        if entry is None:
            return func(*args, **kwargs)
        sweep = _SweepDraft(self._values, self._graph, self._dispatch, entry(*args, **kwargs))
        captured: Sequence[torch.Tensor | None] = ()
        try:
            sweep.start()
            result = func(*args, **kwargs)
            captured = result or ()
        finally:
            sweep.stop()
            # What ran before an exception is kept: it can still be judged.
            self.sweeps.append(sweep.finish(captured))
        return result


@dataclass(frozen=True)
class _Request:
    """What a program asked of autograd: from where, with which gradients, for which inputs."""

    roots: list[torch.Tensor]
    seeds: list[torch.Tensor | None]
    inputs: list[torch.Tensor] | None


def _request(roots: Any, seeds: Any, inputs: Any) -> _Request:
    found = list(tensors_in(roots))
    given = [None] * len(found) if seeds is None else list(tensors_in(seeds, keep_none=True))
    return _Request(found, given, None if inputs is None else list(tensors_in(inputs)))


def _of_method(
    tensor: Any, gradient: Any = None, retain: Any = None, create: Any = None, inputs: Any = None
) -> _Request:
    del retain, create
    return _request(tensor, gradient, inputs)


def _of_backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain: Any = None,
    create: Any = None,
    grad_variables: Any = None,
    inputs: Any = None,
) -> _Request:
    del retain, create
    return _request(tensors, grad_tensors or grad_variables, inputs)


def _of_grad(outputs: Any, inputs: Any, grad_outputs: Any = None, *_: Any, **__: Any) -> _Request:
    return _request(outputs, grad_outputs, inputs)


def _renamed(entry: Callable[..., _Request]) -> Callable[..., _Request]:
    """Take torch's keyword names."""

    def wrapper(*args: Any, **kwargs: Any) -> _Request:
        kwargs.pop("retain_graph", None)
        kwargs.pop("create_graph", None)
        return entry(*args, **kwargs)

    return wrapper


_ENTRIES: dict[Any, Callable[..., _Request]] = {
    torch.Tensor.backward: _renamed(_of_method),
    torch.autograd.backward: _renamed(_of_backward),
    torch.autograd.grad: _of_grad,
}


class _SweepDraft:
    """One backward pass while it runs."""

    def __init__(
        self,
        values: ValueStore,
        graph: GraphRecorder,
        dispatch: DispatchRecorder,
        request: _Request,
    ) -> None:
        self._values = values
        self._graph = graph
        self._dispatch = dispatch
        self._request = request
        self._handles: list[Any] = []
        self._roots: list[tuple[Edge, int | None]] = []
        self._incoming: dict[int, Values] = {}
        self._before: dict[int, int | None] = {}
        self._firings: list[Firing] = []
        self._leaves: list[LeafUpdate] = []

    def start(self) -> None:
        """Walk the graph and put a hook before and after every node."""
        with _Paused(self._dispatch):
            # A root without a graph is torch's to complain of.
            roots = [root for root in self._request.roots if root.requires_grad]
            seeds = self._request.seeds
            nodes = [torch.autograd.graph.get_gradient_edge(root).node for root in roots]
            self._graph.walk(nodes)
            for root, seed in zip(roots, seeds, strict=False):
                edge = self._edge(root)
                if edge is not None:
                    self._roots.append((edge, None if seed is None else self._values.of(seed)))
            for number in self._reached(nodes):
                node = self._graph.nodes[number].alive
                self._handles.append(node.register_prehook(self._arrive(number)))
                self._handles.append(node.register_hook(self._leave(number)))

    def _edge(self, tensor: torch.Tensor) -> Edge | None:
        edge = torch.autograd.graph.get_gradient_edge(tensor)
        number = self._graph.number(edge.node)
        return None if number is None else Edge(number, edge.output_nr)

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

    def finish(self, captured: Sequence[torch.Tensor | None]) -> Sweep:
        """Return the frozen pass."""
        limited = None
        taken = []
        if self._request.inputs is not None:
            with _Paused(self._dispatch):
                edges = [self._edge(t) if t.requires_grad else None for t in self._request.inputs]
                for edge, g in zip(edges, captured, strict=False):
                    if edge is not None:
                        taken.append((edge, None if g is None else self._values.of(g)))
            limited = tuple(edge for edge in edges if edge is not None)
        return Sweep(
            tuple(self._roots), tuple(self._firings), tuple(self._leaves), tuple(taken), limited
        )

    def _arrive(self, number: int) -> Callable[[Any], None]:
        def hook(gradients: Any) -> None:
            with _Paused(self._dispatch):
                self._incoming[number] = self._recorded(gradients)
                draft = self._graph.nodes[number]
                if draft.kind == Kind.ACCUMULATE:
                    before = draft.alive.variable.grad
                    self._before[number] = None if before is None else self._values.of(before)

        return hook

    def _leave(self, number: int) -> Callable[[Any, Any], None]:
        def hook(outgoing: Any, incoming: Any) -> None:
            del incoming
            with _Paused(self._dispatch):
                arrived = self._incoming.pop(number)
                self._firings.append(Firing(number, arrived, self._recorded(outgoing)))
                draft = self._graph.nodes[number]
                if draft.kind == Kind.ACCUMULATE:
                    after = draft.alive.variable.grad
                    value = None if after is None else self._values.of(after)
                    self._leaves.append(LeafUpdate(number, self._before[number], value))

        return hook

    def _recorded(self, gradients: Any) -> Values:
        return tuple(self._values.of(g) if isinstance(g, torch.Tensor) else None for g in gradients)


class _Paused:
    """Keeps the recorder's own use of torch off the tape."""

    def __init__(self, dispatch: DispatchRecorder) -> None:
        self._dispatch = dispatch

    def __enter__(self) -> None:
        self._begun = time.perf_counter()
        self._guards = contextlib.ExitStack()
        self._guards.enter_context(torch._C._DisableTorchDispatch())
        self._guards.enter_context(torch._C.DisableTorchFunction())

    def __exit__(self, *_: object) -> None:
        self._guards.close()
        self._dispatch.seconds += time.perf_counter() - self._begun
