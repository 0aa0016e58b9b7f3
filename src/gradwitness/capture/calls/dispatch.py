"""Every ATen operation below autograd, as it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.calls.applications import Applications
from gradwitness.capture.calls.backward_steps import BackwardSteps
from gradwitness.capture.calls.convolutions import CONVOLUTIONS, adds_in_parts
from gradwitness.capture.calls.drafts import CallDraft
from gradwitness.capture.calls.higher_order import is_higher_order, run_unseen
from gradwitness.capture.calls.mode import Mode
from gradwitness.capture.calls.schemas import is_composite, operation, undeclared_writes
from gradwitness.capture.calls.source import (
    called_by_engine,
    instruction,
    is_custom,
    is_custom_backward,
    is_innermost_function,
    tensors_in,
)
from gradwitness.capture.calls.tracing import TRACED, unseen_by_tracer
from gradwitness.capture.calls.uses import uses
from gradwitness.capture.memory.arrays import are_shapes
from gradwitness.capture.passes.engine_modes import are_others_on, below, is_faked
from gradwitness.capture.ranks import Arrivals, filled
from gradwitness.tape import OUTSIDE, Argument, Ref, references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.capture.border import Border
    from gradwitness.capture.calls.schemas import Operation, Parameter
    from gradwitness.capture.calls.source import ModuleTrail
    from gradwitness.capture.calls.uses import Uses
    from gradwitness.capture.memory.retention import Retention
    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.observer import Audience


_OPERATION = torch._ops.OpOverload
_SUM = torch.ops.aten.sum.dim_IntList
_DETACH = torch.ops.aten.detach.default
# Excluded when the program itself detaches, but for ``.data``.
_BY_PROGRAM = torch._C.DispatchKey.ADInplaceOrView
_NUMBER = torch.ops.aten._local_scalar_dense.default
_FROM_STORAGE = (
    torch.ops.aten.set_.source_Storage,
    torch.ops.aten.set_.source_Storage_storage_offset,
)
# What is written down as it is.
_ATOMS = {bool, int, float, complex, str}


@dataclass(slots=True, eq=False)
class _Begun:
    """What is known about a call before it runs.

    Attributes
    ----------
    node : Node or None
        Whose backward makes the call.
    graded, recorded, tracked : bool
        Whether grad mode is on; whether it is written down; whether an argument has a gradient.
    operands : list of int
    targets, further : sequence of Tensor
        The arguments that it is said to write to, by the names ``written``; what else it changes.
    live : dict
        The arguments themselves, where the schema does not say all.
    """

    operation: Operation
    node: Any
    graded: bool
    recorded: bool
    written: tuple[str, ...]
    tracked: bool = False
    arguments: dict[str, Argument] = field(default_factory=dict)
    operands: list[int] = field(default_factory=list)
    targets: list[torch.Tensor] = field(default_factory=list)
    further: Sequence[torch.Tensor] = ()
    live: dict[str, Any] | None = None


class DispatchRecorder(Mode):
    """Writes down each operation with its operands and results.

    Attributes
    ----------
    summed : bool
        Whether autograd has summed a gradient itself because a node returned one of another shape.
        The reader resets it.
    """

    # Torch hands those to no mode that does not say so.
    supports_higher_order_operators = True

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
        self._open: dict[int, tuple[int, ...]] = {}
        self._judged: Iterable[int] = ()
        self._arrivals = Arrivals(values)
        # Views taken after a write to their base, not yet written down as calls.
        self._shown: list[int] = []
        self.applications = Applications(values, self.calls)
        self.steps = BackwardSteps()
        # Custom functions' nodes of whose results numbers were read.
        self.read: set[Any] = set()
        # The arguments of functions that begin with the next call.
        self._needed: list[int] = []
        self.functions = 0  # that the program has called, as far as a function mode sees
        self._running: object = None  # when the last operation was written down
        self._uses: dict[tuple[str, int, int], Uses] = {}  # by operation, arguments, results

    def add(self, draft: CallDraft, operands: Iterable[int], *, closed: bool = False) -> int:
        """Write a call down, hold its values for its possible node, and tell the observer.

        If it is ``closed``, no backward pass will need them.
        """
        number = len(self.calls)
        self.calls.append(draft)
        key, retention = (draft.op, len(draft.arguments), len(draft.outputs)), self._retention
        used = self._uses.get(key)
        if used is None:
            used = self._uses[key] = uses(draft.finish(number, None))
        now = {n for n in (*operands, *draft.outputs, draft.base) if n is not None}
        later = (*used.by_node(draft, now), *self._needed)
        self._needed = []
        # With gradients off, too: a solver's steps may have to be differentiated as a whole.
        retention.last(later if draft.grad_enabled else now)
        retention.start_from([draft.outputs[k] for k in used.taken])
        retention.hold((*now, *later))
        self._audience.tell(lambda observer: observer.called(number))
        self._free_judged()
        self._judged = now
        self._open[number] = later
        if closed:
            self.close(number)
        return number

    def _free_judged(self) -> None:
        """Free what the last call's node will not use.

        The call is judged, and autograd has given its results their history.
        """
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
                self.tells(f"{OUTSIDE}{name}", Ref(self._values.of(tensor)))
        elif name == "tolist" and not self.applications.running:
            # One number that is read is a call for torch, too.
            self.tells(f"{OUTSIDE}{name}", Ref(self._values.of(tensor)), alone=True)

    def tells(self, op: str, tensor: Argument, *made: int, alone: bool = False) -> None:
        """Write down what no dispatch mode is told of."""
        graded = bool(made) and torch.is_grad_enabled()
        draft = self._told(op, {"self": tensor}, made, graded=graded)
        draft.is_view = bool(made)
        if alone:
            # Outside of custom functions it belongs to no node.
            draft.sequence = -1
        self.add(draft, references(tensor), closed=alone)

    def stands_for(self, op: str, operands: Sequence[int], made: Sequence[int]) -> None:
        """Write down one call for operations that no mode was told of."""
        arguments: dict[str, Argument] = {"operands": tuple(map(Ref, operands))}
        draft = self._told(op, arguments, made, graded=torch.is_grad_enabled())
        draft.backward_of = torch._C._current_autograd_node()
        self.add(draft, operands)

    def _told(
        self, op: str, arguments: dict[str, Argument], made: Sequence[int], *, graded: bool
    ) -> CallDraft:
        return CallDraft(
            op=op,
            arguments=arguments,
            outputs=tuple(made),
            writes=(),
            is_view=False,
            sequence=torch._C._autograd._get_sequence_nr() - 1,
            grad_enabled=graded,
            backward_of=None,
            source=self._trail.here(),
        )

    def _seen(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if type(func) is not _OPERATION and is_higher_order(func):
            # The function mode is off.
            return run_unseen(func, args, kwargs, self._values, self, self._border)
        if torch.is_inference_mode_enabled():
            # In inference mode torch does not decompose composite operations: do it here, where no
            # other mode sees it.
            if are_others_on() and is_composite(func):
                with below(self):
                    return self._run(func, args, kwargs)
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        border = self._border
        passed = border.failures or is_faked()
        begun = None if passed else border.attempt(self._before, func, args, kwargs)
        if func is _DETACH and TRACED() is not None:
            # Only a mode is told how ``.data`` is made.
            with unseen_by_tracer():
                result = self._run(func, args, kwargs)
        else:
            result = self._run(func, args, kwargs)
        if begun is not None and not border.failures:
            border.attempt(self._write, begun, result)
        if self.steps.under_way:
            self._border.take(self.steps.ran, func, result)
        return result

    def _before(self, func: Any, args: Any, kwargs: Any) -> _Begun | None:
        """Copy what a call is about to overwrite; return None if it need not be written down."""
        node: Any = torch._C._current_autograd_node()
        graded, known = torch.is_grad_enabled(), operation(func)
        # Operations inside a backward pass count only if they are themselves differentiable: alone,
        # or in the forward of a custom function that is applied there.
        applied = not graded and (node is None or is_innermost_function())
        # Nothing else shows what a custom function's backward says to other processes.
        recorded = applied or graded or (known.is_collective and is_custom_backward(node))
        if func is _SUM and node is not None and called_by_engine():
            self.summed = True
        if func is _DETACH and self._saves(args[0]):
            self._free_judged()
            return None
        if not (recorded or known.may_write):
            return None
        begun = _Begun(known, node, graded, recorded, known.writes)
        self._bind(begun, args, kwargs)
        if known.is_peculiar:
            self._look_closer(begun, known.arguments(args, kwargs))
        if applied:
            # Before it runs, since it may write to the function's arguments.
            self._needed += self.applications.note(len(self.calls))
        for tensor in (*begun.targets, *begun.further):
            self._values.before_write(tensor, in_place=known.is_in_place)
        return begun if recorded else None

    def _bind(self, begun: _Begun, args: Any, kwargs: Any) -> None:
        """Go through a call's arguments, and write them down."""
        given, arguments = len(args), begun.arguments
        for index, parameter in enumerate(begun.operation.parameters):
            name = parameter.name
            argument = args[index] if index < given else kwargs.get(name, parameter.default)
            if argument is None or (type(argument) in _ATOMS and not parameter.is_tensor):
                arguments[name] = argument
            else:
                arguments[name] = self._argument(begun, parameter, parameter.meant(argument))

    def _look_closer(self, begun: _Begun, arguments: dict[str, Any]) -> None:
        """Note what a call's schema does not say."""
        known, begun.live = begun.operation, arguments
        if begun.recorded and known.func in CONVOLUTIONS and adds_in_parts(arguments):
            begun.arguments["in_parts"] = True
        fills = filled(known.name, arguments)
        begun.written += tuple(fills)
        begun.targets += [tensor for tensors in fills.values() for tensor in tensors]
        begun.further = undeclared_writes(known, arguments)

    def _write(self, begun: _Begun, result: Any) -> None:
        known, arguments, targets = begun.operation, begun.arguments, begun.targets
        values, results = self._values, _results(begun, result)
        if known.func in _FROM_STORAGE or are_shapes(results):
            # Data from a DataLoader's worker; or no numbers, which nothing can be made of.
            return
        if known.drawn and begun.live is not None:
            arguments[known.drawn] = self._operand(begun, begun.live[known.drawn])
        outputs = tuple([None if t is None else values.made(t) for t in results])
        if not known.is_collective and outputs.count(None) == len(outputs):
            # No result to check: `item()`, a profiler's mark.
            if known.func is _NUMBER and begun.node is None and not self.applications.running:
                self.tells(f"{OUTSIDE}item", arguments["self"], alone=True)
            return
        sources, made = values.storages(begun.operands), values.storages(outputs)
        base = targets[0]._base if targets else None
        seen = begun.graded or self.applications.running
        if known.is_collective:
            self._arrivals.collective(known.name, begun.live or {}, results, made, result)
        received = self._arrivals.follow(sources, made, tracked=begun.tracked)
        for tensor in targets:
            values.balance.settle_in(tensor, received=received)
        if known.is_collective:
            # For autograd, what arrives outside of it is data.
            seen = begun.tracked or self.applications.running
        draft = CallDraft(
            op=known.name,
            arguments=arguments,
            outputs=outputs,
            writes=begun.written,
            is_view=not begun.written and not sources.isdisjoint(made),
            sequence=torch._C._autograd._get_sequence_nr() - 1,
            grad_enabled=seen,
            backward_of=begun.node,
            source=self._trail.here(),
            # Numbered now, while it holds what this call left.
            base=None if base is None else values.of(base),
            alone=begun.graded and _unpacking_hooks() is None,
            grad_mode=begun.graded,
        )
        self._running = self.functions, instruction()
        new = results[0] if known.is_factory and results else None
        if new is not None:
            # Of one that somebody holds torch makes another, by a call that the program may see.
            values.let_go(new)
        # In a custom function nothing is tracked, but everything is differentiated.
        closed = not (begun.tracked if begun.graded else seen)
        self.add(draft, begun.operands, closed=closed)

    def _saves(self, tensor: torch.Tensor) -> bool:
        """Whether torch detaches a result that it is about to save: only for there is a mode.

        No other function of torch can have been called since that result was made, such as the one
        that reads ``.data``; where functions are not seen, no other instruction can have run.
        """
        if torch._C._dispatch_tls_is_dispatch_key_excluded(_BY_PROGRAM) or not self.calls:
            return False
        if self._running != (self.functions, instruction()):
            return False
        return self._values.of(tensor) in self.calls[-1].outputs

    def received(self, tensor: torch.Tensor) -> bool:
        """Whether other processes sent a tensor's numbers."""
        return self._arrivals.hold(self._values.storages([self._values.of(tensor)]))

    def _argument(self, begun: _Begun, parameter: Parameter, argument: Any) -> Argument:
        if isinstance(argument, torch.Tensor):
            begun.tracked = begun.tracked or argument.requires_grad
            if parameter.writes:
                begun.targets.append(argument)
            return self._operand(begun, argument) if begun.recorded else None
        if isinstance(argument, (list, tuple)):
            return tuple([self._argument(begun, parameter, element) for element in argument])
        as_it_is = argument is None or isinstance(argument, (bool, int, float, complex, str))
        return argument if as_it_is else str(argument)

    def _operand(self, begun: _Begun, tensor: torch.Tensor) -> Ref:
        # What has a gradient is judged later, by the numbers it has now.
        picks = begun.operation.picks and not tensor.requires_grad
        number = self._values.of(tensor, picks=picks)
        begun.operands.append(number)
        if begun.graded and tensor._base is not None and self._values.taken(tensor):
            # The call that made the view is written down when a backward pass meets its node.
            self._retention.hold([number])
            self._shown.append(number)
        return Ref(number)


def _results(begun: _Begun, result: Any) -> list[torch.Tensor | None]:
    """Return what a call returned or changed, if anything."""
    if result is None or (begun.operation.is_collective and begun.targets):
        return [*begun.targets]
    return [result] if isinstance(result, torch.Tensor) else [*tensors_in(result, keep_none=True)]


def _unpacking_hooks() -> Any:
    """Return the hooks that torch puts on the tensors that it saves now, if there are any."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)
