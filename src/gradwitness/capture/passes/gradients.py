"""Where backward passes begin: each call of backward or grad."""

from __future__ import annotations

from types import MethodWrapperType
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from gradwitness.capture.calls.higher_order import is_higher_order, run_unseen
from gradwitness.capture.calls.tracing import TRACED, plainly
from gradwitness.capture.memory.balance import ASSIGNMENTS
from gradwitness.capture.passes.context import Context
from gradwitness.capture.passes.dropped import Dropped
from gradwitness.capture.passes.engine_modes import is_traced
from gradwitness.capture.passes.entries import ENTRIES
from gradwitness.capture.passes.sweeps import SweepDraft
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.capture.border import Border
    from gradwitness.capture.calls.dispatch import DispatchRecorder
    from gradwitness.capture.memory.retention import Retention
    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.observer import Audience
    from gradwitness.capture.passes.graph import GraphRecorder
    from gradwitness.capture.passes.outside import Outside


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
        self._running: list[SweepDraft] = []
        self._context = Context(
            values, graph, dispatch, retention, audience, border, outside, Dropped(values, graph)
        )

    @property
    def __torch_function__(self) -> Any:
        return self._called if TRACED() is None else plainly(self)

    def _called(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._context.dispatch.functions += 1
        border = self._context.border
        if func not in _LOOKED_AT:
            if type(func) in _FUNCTIONS or not is_higher_order(func):
                return func(*args, **kwargs)
            context = self._context
            return run_unseen(func, args, kwargs, context.values, context.dispatch, border)
        # Under a mode of torch's compiler a pass computes no numbers.
        entry = None if is_traced() else ENTRIES.get(func)
        if entry is None:
            way = _WAYS_OUT.get(func)
            if way is not None and args and isinstance(args[0], torch.Tensor):
                border.take(self._goes_out, way, args[0])
            if func is torch.Tensor.register_hook:
                border.take(self._is_hooked, args[0])
            # Within a pass, an assignment of numbers bypasses the graph.
            leaves_none = len(args) < 2 or args[1] is None
            seen = func in ASSIGNMENTS and (not self._running or leaves_none)
            leaves = border.take(self._assigns, args[0]) if seen else ()
            before = border.take(self._ends, args[0]) if func is _DETACH else None
            result = func(*args, **kwargs)
            if before is not None:
                border.take(self._is_detached, args[0], before)
            for leaf in leaves or ():
                border.take(self._context.values.balance.settle, leaf)
            return result
        sweep = SweepDraft(self._context, len(self.drafts), self, self._running)
        self.drafts.append(sweep)
        captured: Sequence[torch.Tensor | None] = ()
        self._running.append(sweep)
        try:
            border.take(sweep.start, lambda: entry(*args, **kwargs))
            result = func(*args, **kwargs)
            captured = result or ()
        finally:
            sweep.stop()
            self._running.remove(sweep)
            # Nodes that ran before an exception can still be judged.
            border.take(lambda: sweep.end(captured, outermost=not self._running))
        return result

    def _assigns(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return self._context.values.balance.before_assignment(tensor)

    def _is_hooked(self, tensor: torch.Tensor) -> None:
        """Hold a tensor, and keep its numbers: what a hook sends may depend on them."""
        self._context.values.hold(tensor)
        number = [self._context.values.of(tensor)]
        self._context.retention.hold(number)
        self._context.retention.last(number)
        self._context.retention.drop(number)

    def _ends(self, tensor: torch.Tensor) -> int | None:
        """Note the history that a tensor is about to lose, if it has one; return its number."""
        if tensor.is_leaf:
            return None
        number = self._context.values.of(tensor)
        self._context.values.histories.add(tensor, number)
        return number

    def _is_detached(self, tensor: torch.Tensor, before: int) -> None:
        """Write down what no dispatch mode is told of: torch only drops the tensor's history."""
        now = self._context.values.made(tensor)
        self._context.dispatch.tells("aten.detach.default", Ref(before), now, alone=True)

    def _goes_out(self, way: str, tensor: torch.Tensor) -> None:
        dispatch = self._context.dispatch
        dispatch.hands_out(way, tensor)
        if way in _LENDING:
            within = not torch.is_grad_enabled() and dispatch.applications.running
            self._context.values.lend(tensor, within=within)


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

_DETACH = torch.Tensor.detach_

# What torch's functions are, but for its operators; to ask a type is quick.
_FUNCTIONS = {
    *map(type, (torch.sin, torch.Tensor.sin, torch.Tensor.backward)),
    MethodWrapperType,
    torch._ops.OpOverload,
    torch._ops.OpOverloadPacket,
}

# All that the mode does not just run.
_LOOKED_AT = {*ENTRIES, *_WAYS_OUT, *ASSIGNMENTS, torch.Tensor.register_hook, _DETACH}

# Those that return the memory itself, which can be resized or written to without a call.
_LENDING = ("untyped_storage", "storage", "share_memory_", "numpy", "__array__", "__dlpack__")
