"""Every ATen operation below autograd, as it runs."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.applications import Applications
from gradwitness.capture.backward_steps import BackwardSteps
from gradwitness.capture.convolutions import adds_in_parts
from gradwitness.capture.drafts import CallDraft
from gradwitness.capture.mode import Mode
from gradwitness.capture.ranks import Arrivals, filled, is_collective
from gradwitness.capture.source import (
    ENGINE,
    is_custom,
    is_innermost_function,
    is_skipped,
    tensors_in,
)
from gradwitness.engine.binding import vjp_arguments
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import OUTSIDE, Argument, Ref, references

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import FrameType

    from gradwitness.capture.border import Border
    from gradwitness.capture.observer import Audience
    from gradwitness.capture.retention import Retention
    from gradwitness.capture.source import ModuleTrail
    from gradwitness.capture.values import ValueStore
    from gradwitness.rules import Rule


_BATCH_NORM = torch.ops.aten.native_batch_norm.default
_SUM = torch.ops.aten.sum.dim_IntList
_NUMBER = torch.ops.aten._local_scalar_dense.default
_FROM_STORAGE = (
    torch.ops.aten.set_.source_Storage,
    torch.ops.aten.set_.source_Storage_storage_offset,
)
_RESIZE = "inductor.resize_storage_bytes_.default"
# What runs the backward of a custom function, which may be torch's own.
_BACKWARD = torch.autograd.function.BackwardCFunction.apply.__code__


_name = functools.cache(str)


@dataclass(frozen=True)
class _Begun:
    """What is known about a call before it runs."""

    arguments: dict[str, Argument]
    targets: list[torch.Tensor]
    written: tuple[str, ...]
    node: Any
    tracked: bool
    bound: list[tuple[str, Any, bool]]


class DispatchRecorder(Mode):
    """Writes down each operation with its operands and results.

    Attributes
    ----------
    summed : bool
        Whether autograd has summed a gradient itself because a node returned one of another shape.
        The reader resets it.
    """

    def __init__(
        self,
        values: ValueStore,
        trail: ModuleTrail,
        retention: Retention,
        audience: Audience,
        border: Border,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[CallDraft] = []
        self.summed = False
        self._border = border
        self._values = values
        self._trail = trail
        self._retention = retention
        self._audience = audience
        self._open: dict[int, tuple[int | None, ...]] = {}
        self._judged: Iterable[int | None] = ()
        self._arrivals = Arrivals(values)
        # Views taken after a write to their base, not yet written down as calls.
        self._shown: list[int] = []
        self.applications = Applications(values, self.calls)
        self.steps = BackwardSteps()
        # Custom functions' nodes of whose results numbers were read.
        self.read: set[Any] = set()
        # The arguments of functions that begin with the next call.
        self._needed: list[int] = []
        # By operation: its rule, and the arguments that judging its node uses; None for all.
        self._used: dict[tuple[str, int], tuple[Rule, Collection[str]] | None] = {}
        # By operation: which of its results a replay takes from the record.
        self._replayed: dict[tuple[str, int], Collection[int]] = {}

    def add(self, draft: CallDraft) -> int:
        """Write a call down, hold its values for its possible node, and tell the observer."""
        number = len(self.calls)
        self.calls.append(draft)
        now = {*draft.operands(), *draft.outputs, draft.base}
        self._open[number] = (*self._used_by_node(draft, now), *self._needed)
        self._needed = []
        # With gradients off, too: a solver's steps may have to be differentiated as a whole.
        self._retention.last(self._open[number] if draft.grad_enabled else now)
        self._retention.start_from(self._taken(draft))
        self._retention.hold(now)
        self._retention.hold(self._open[number])
        self._audience.tell(lambda observer: observer.called(number))
        # The previous call is judged and autograd has given its results their history: free what
        # its node will not use.
        self._free_judged()
        self._judged = now
        return number

    def _used_by_node(self, draft: CallDraft, now: set[int | None]) -> set[int | None]:
        """Return the values that judging a call's node will use: all, if there is no rule."""
        # What was changed in place may get another history with the next change.
        if draft.writes:
            return now
        key = draft.op, len(draft.arguments)
        if key not in self._used:
            self._used[key] = _used_arguments(draft)
        used = self._used[key]
        if used is None:
            return now
        rule, names = used
        outputs = draft.outputs
        kept = {n for k, n in enumerate(outputs) if rule.keeps(k, len(outputs))}
        return {*draft.operands(names), *kept, draft.base}

    def _taken(self, draft: CallDraft) -> Iterable[int | None]:
        """Return the results that a replay takes from the record, or may have to."""
        key = draft.op, len(draft.outputs)
        if key not in self._replayed:
            self._replayed[key] = _taken_results(draft)
        return [draft.outputs[k] for k in self._replayed[key]]

    def _free_judged(self) -> None:
        self._retention.drop(self._judged)
        self._judged = ()

    def views_are_known(self) -> None:
        """Free views held until the calls that made them were written down."""
        self._retention.drop(self._shown)
        self._shown = []

    def close(self, number: int) -> None:
        """Free a call's values: no backward pass will need them."""
        self._retention.drop(self._open.pop(number, ()))
        self.applications.forget(number)
        if number == len(self.calls) - 1:
            self._free_judged()

    def hands_out(self, name: str, tensor: torch.Tensor) -> None:
        """Record, as a call without a result, that numbers are taken out of torch."""
        if torch.is_grad_enabled() and is_custom(tensor.grad_fn):
            self.read.add(tensor.grad_fn)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return
        if not torch.is_grad_enabled():
            self._needed += self.applications.note(len(self.calls))
            if self.applications.running:
                self._goes_out(name, Ref(self._values.of(tensor)))
        elif name == "tolist" and not self.applications.running:
            # One number that is read is a call for torch, too.
            self._goes_out(name, Ref(self._values.of(tensor)), alone=True)

    def _goes_out(self, name: str, tensor: Argument, *, alone: bool = False) -> None:
        number = self.add(
            CallDraft(
                op=f"{OUTSIDE}{name}",
                arguments={"self": tensor},
                outputs=(),
                writes=(),
                is_view=False,
                # Outside of custom functions it belongs to no node.
                sequence=-1 if alone else torch._C._autograd._get_sequence_nr() - 1,
                grad_enabled=False,
                backward_of=None,
                source=self._trail.here(),
            )
        )
        if alone:
            self.close(number)

    def _seen(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # In inference mode torch does not decompose composite operations: do it here.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        begun = self._border.take(self._before, func, args, kwargs)
        result = self._run(func, args, kwargs)
        if begun is not None:
            self._border.take(self._write, func, begun, result)
        if self.steps.under_way:
            self._border.take(self.steps.ran, func, result)
        return result

    def _before(self, func: Any, args: Any, kwargs: Any) -> _Begun | None:
        """Copy what a call is about to overwrite; return None if it need not be written down."""
        node: Any = torch._C._current_autograd_node()
        # Operations inside a backward pass count only if they are themselves differentiable: alone,
        # or in the forward of a custom function that is applied there.
        applied = not torch.is_grad_enabled() and (node is None or is_innermost_function())
        recorded = applied or torch.is_grad_enabled() or _talks_in_backward(func, node)
        bound = _bind(func, args, kwargs)
        tracked = any(t.requires_grad for _, argument, _ in bound for t in tensors_in(argument))
        fills = filled(func, bound)
        written = (*(name for name, _, writes in bound if writes), *fills)
        arguments = {name: self._argument(a) for name, a, _ in bound} if recorded else {}
        if recorded and adds_in_parts(func, bound):
            arguments["in_parts"] = True
        if applied:
            # Before it runs, since it may write to the function's arguments.
            self._needed += self.applications.note(len(self.calls))
        targets = [t for _, argument, writes in bound if writes for t in tensors_in(argument)]
        targets += [tensor for tensors in fills.values() for tensor in tensors]
        for tensor in (*targets, *_undeclared_writes(func, bound)):
            self._values.before_write(tensor)
        if func is _SUM and node is not None and _called_by_engine():
            self.summed = True
        return _Begun(arguments, targets, written, node, tracked, bound) if recorded else None

    def _write(self, func: Any, begun: _Begun, result: Any) -> None:
        arguments, targets, written = begun.arguments, begun.targets, begun.written
        collective = is_collective(func)
        results: list[Any] = list(targets)
        if result is not None and not (collective and targets):
            results = list(tensors_in(result, keep_none=True))
        if all(tensor is None for tensor in results) and not collective:
            # No result to check: `item()`, a profiler's mark.
            if func is _NUMBER and begun.node is None and not self.applications.running:
                self._goes_out("item", arguments["self"], alone=True)
            return
        if func in _FROM_STORAGE:
            # Data from outside: from a DataLoader's worker.
            return
        outputs = tuple(None if t is None else self._values.made(t) for t in results)
        operands = [value for argument in arguments.values() for value in references(argument)]
        sources, made = self._storages(operands), self._storages(outputs)
        shares = not written and bool(sources & made)
        base = targets[0]._base if targets else None
        seen = torch.is_grad_enabled() or self.applications.running
        if collective:
            self._arrivals.collective(func, begun.bound, results, made, result)
        received = self._arrivals.follow(sources, made, tracked=begun.tracked)
        for tensor in targets:
            self._values.balance.settle_in(tensor, received=received)
        if collective:
            # For autograd, what arrives outside of it is data.
            seen = begun.tracked or self.applications.running
        number = self.add(
            CallDraft(
                op=_name(func),
                arguments=arguments,
                outputs=outputs,
                writes=written,
                is_view=shares,
                sequence=torch._C._autograd._get_sequence_nr() - 1,
                grad_enabled=seen,
                backward_of=begun.node,
                source=self._trail.here(),
                # Numbered now, while it holds what this call left.
                base=None if base is None else self._values.of(base),
                alone=torch.is_grad_enabled() and _unpacking_hooks() is None,
                grad_mode=torch.is_grad_enabled(),
            )
        )
        # In a custom function nothing is tracked, but everything is differentiated.
        if not (begun.tracked if torch.is_grad_enabled() else seen):
            self.close(number)

    def received(self, tensor: torch.Tensor) -> bool:
        """Whether other processes sent a tensor's numbers."""
        return self._arrivals.hold(self._storages([self._values.of(tensor)]))

    def _storages(self, values: Iterable[int | None]) -> set[int]:
        storages = (self._values.storage(value) for value in values if value is not None)
        return {storage for storage in storages if storage is not None}

    def _argument(self, argument: Any) -> Argument:
        if isinstance(argument, torch.Tensor):
            number = self._values.of(argument)
            if torch.is_grad_enabled() and self._values.taken(argument):
                # The call that made the view is written down when a backward pass meets its node.
                self._retention.hold([number])
                self._shown.append(number)
            return Ref(number)
        if isinstance(argument, (list, tuple)):
            return tuple(self._argument(element) for element in argument)
        if argument is None or isinstance(argument, (bool, int, float, complex, str)):
            return argument
        return str(argument)


def _used_arguments(draft: CallDraft) -> tuple[Rule, Collection[str]] | None:
    """Return an operation's rule, and the arguments that its derivatives use; None for all."""
    call = draft.finish(0, None)
    rule = find(call.base_op)
    if rule is None or rule.given:
        return None
    return rule, vjp_arguments(rule, call)


def _taken_results(draft: CallDraft) -> Collection[int]:
    """Return which results of an operation a replay takes from the record, or may have to."""
    base, several = draft.finish(0, None).base_op, len(draft.outputs)
    rule = find(base)
    if rule is None or base in SOURCES:
        return range(several)
    if rule.given:
        return [k for k in rule.given.values() if k < several]
    # Of a kernel's further results, the rule may compute none.
    further = range(1, 1 if draft.is_view or draft.writes else several)
    return [k for k in further if rule.keeps(k, several)]


def _undeclared_writes(func: Any, bound: list[tuple[str, Any, bool]]) -> list[torch.Tensor]:
    """Return tensors that a call writes or resizes although its schema does not say so."""
    resizes = _name(func) == _RESIZE
    if not resizes and func is not _BATCH_NORM:
        return []
    arguments = {name: argument for name, argument, _ in bound}
    if resizes:
        return [arguments["variable"]]
    # Running statistics.
    if not arguments["training"]:
        return []
    statistics = (arguments["running_mean"], arguments["running_var"])
    return [argument for argument in statistics if isinstance(argument, torch.Tensor)]


def _talks_in_backward(func: Any, node: Any) -> bool:
    """Whether a custom function's backward talks to other processes, which no record shows."""
    custom = isinstance(node, torch.autograd.function.BackwardCFunction)
    return custom and is_collective(func)


def _unpacking_hooks() -> Any:
    """Return the hooks that torch puts on the tensors that it saves now, if there are any."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _called_by_engine() -> bool:
    """Whether autograd itself called an operation, not the program's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not ENGINE:
        if frame.f_code is _BACKWARD:
            return False
        if not is_skipped(frame.f_code.co_filename):
            return False
        frame = frame.f_back
    # Torch runs deep passes within passes on threads of its own, which begin with the node.
    return True


def _bind(func: Any, args: Any, kwargs: Any) -> list[tuple[str, Any, bool]]:
    """Pair a call's arguments with the schema: name, argument, whether it is written to."""
    bound = []
    for index, (name, default, writes, is_tensor, length) in enumerate(_signature(func)):
        argument = args[index] if index < len(args) else kwargs.get(name, default)
        if length is not None and isinstance(argument, (list, tuple)) and len(argument) == 1:
            # One number stands for all axes; the schema says how many.
            argument = [*argument] * length
        if is_tensor and isinstance(argument, (bool, int, float, complex)):
            # A Python number where the schema has a tensor (x - 0.3) still has an edge.
            argument = torch.tensor(argument, dtype=_IN_DOUBLE.get(type(argument)))
        bound.append((name, argument, writes))
    return bound


_IN_DOUBLE = {float: torch.float64, complex: torch.complex128}


@functools.cache
def _signature(func: Any) -> list[tuple[str, Any, bool, bool, int | None]]:
    """Return for each argument: name, default, whether written, whether a tensor, list length."""
    signature = []
    for argument in func._schema.arguments:
        alias = argument.alias_info
        default = argument.default_value if argument.has_default_value() else None
        writes = alias is not None and alias.is_write
        is_tensor = isinstance(argument.type, torch.TensorType)
        signature.append((argument.name, default, writes, is_tensor, argument.N))
    return signature
