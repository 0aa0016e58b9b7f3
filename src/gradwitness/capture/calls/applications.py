"""A program's custom functions: what they were applied to, kept where slopes must decide."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._errors import Unjudgeable
from gradwitness.capture.again.purity import effect
from gradwitness.capture.again.rerun import Application, Held, HeldModule, Rerun, held_in, name_of
from gradwitness.capture.again.written import is_operators, method_of
from gradwitness.capture.calls.source import open_functions, user_line
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gradwitness.capture.calls.drafts import CallDraft, NodeDraft
    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.judging.custom.functions import Method
    from gradwitness.tape import Argument

# Bytes of what is kept to run functions again, if fewer are to be kept of everything else.
_ROOM = 2**28


class Applications:
    """Notes the arguments of custom functions, and keeps those that are to be run again.

    Parameters
    ----------
    calls : list of CallDraft
        May still be growing.
    """

    def __init__(self, values: ValueStore, calls: list[CallDraft]) -> None:
        self._values = values
        self._calls = calls
        self._by_call: dict[int, list[Application]] = {}
        # The functions that run now: the frame's identity, and its arguments.
        self._running: dict[int, Any] = {}
        self._nodes: Sequence[NodeDraft] = ()
        self._rerun: bool | Collection[Any] = ()
        self._room: int | None = _ROOM
        self._kept = 0

    def belong_to(self, nodes: Sequence[NodeDraft]) -> None:
        """Set the nodes that methods refer to; the list may still be growing."""
        self._nodes = nodes

    @property
    def running(self) -> bool:
        """Whether the forward of a custom function ran at the last note."""
        return bool(self._running)

    def note(self, call: int) -> list[int]:
        """Note the functions whose first call this is; return the values they need."""
        frames = list(open_functions())
        previous, self._running = self._running, {}
        new = []
        for frame in frames:
            arguments = frame.f_locals.get("args", ())
            if previous.get(id(frame)) is not arguments:
                function, held = frame.f_locals["cls"], self._held(arguments)
                new.append(Application(function, held, called=user_line(frame.f_back)))
            self._running[id(frame)] = arguments
        if new:
            self._by_call.setdefault(call, []).extend(new)
        return [held.value for application in new for held in held_in(application.arguments)]

    def line(self, function: Any, call: int) -> str:
        """Return where a function was applied that made this call; empty if that is not known."""
        begun = [
            (first, application.called)
            for first, applications in self._by_call.items()
            for application in applications
            if first <= call and application.function is function
        ]
        return max(begun, default=(0, ""))[1]

    def forget(self, call: int) -> None:
        """Forget the functions that began with a call."""
        self._by_call.pop(call, None)

    def _held(self, argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            return Held(self._values.of(argument), argument.device)
        if isinstance(argument, torch.nn.Module):
            state = (*argument.named_parameters(), *argument.named_buffers())
            return HeldModule(argument, {name: self._held(tensor) for name, tensor in state})
        if type(argument) in (tuple, list):
            return type(argument)(self._held(element) for element in argument)
        return argument

    def operands(self, node: int) -> Sequence[int]:
        """Return the values of a node's inputs, in the order of its edges.

        Raises
        ------
        Unjudgeable
            If the call of its function was not recorded.
        """
        operands = [held.value for held in self._application(node).tensors()]
        if not self._nodes or len(operands) != len(self._nodes[node].edges):
            raise Unjudgeable("the call of this function was not recorded")
        return operands

    def function(self, node: int) -> type | None:
        """Return the custom function of a node, if it has one."""
        draft = self._nodes[node] if self._nodes else None
        return None if draft is None else getattr(type(draft.alive), "_forward_cls", None)

    def arguments(self, node: int) -> dict[str, Argument]:
        """Return the arguments of a node's function, by the names of its forward.

        Raises
        ------
        Unjudgeable
            If its call was not recorded.
        """
        application = self._application(node)
        function = application.function
        if isinstance(function, torch._ops.OpOverload):
            names = [argument.name for argument in function._schema.arguments]
            named = dict(zip(names, application.arguments, strict=False)) | application.named
            return {name: _on_tape(argument) for name, argument in named.items()}
        # Without setup_context, forward takes the context first.
        before = [None] * (function.setup_context is torch.autograd.Function.setup_context)
        bound = inspect.signature(function.forward).bind(*before, *application.arguments)
        bound.apply_defaults()
        own = list(bound.arguments.items())[len(before) :]
        return {name: _on_tape(argument) for name, argument in own}

    def input_names(self, node: int) -> list[str]:
        """Return the names of a node's inputs, as forward has them; empty if not known."""
        function = self.function(node)
        of_torch = getattr(function, "__module__", "").startswith("torch.")
        if of_torch and not is_operators(function):
            return []
        try:
            arguments = self.arguments(node)
        except (Unjudgeable, TypeError, ValueError):
            return []
        top = [name for name, argument in arguments.items() if isinstance(argument, Ref)]
        flat = []
        for name, argument in arguments.items():
            # `*tensors`; a list of tensors has no edges.
            elements = argument if isinstance(argument, tuple) else ()
            flat += [name] * isinstance(argument, Ref)
            flat += [f"{name}[{k}]" for k, e in enumerate(elements) if isinstance(e, Ref)]
        edges = len(self._nodes[node].edges)
        return next((names for names in (top, flat) if len(names) == edges), [])

    def method(self, node: int) -> Method | None:
        """Return where the backward of a node's function is written, if it is the program's."""
        function = self.function(node)
        try:
            called = self._application(node).called
        except Unjudgeable:
            return None
        return None if function is None else method_of(function, called)

    def again(self, node: int, numbers: Iterable[int | None]) -> Rerun:
        """Keep a node's function with copies of its operands, and of some more values.

        Raises
        ------
        Unjudgeable
            If it is not known how it was called, or there is no room.
        """
        application = self._application(node)
        held = [*held_in((*application.arguments, *application.named.values()))]
        wanted = dict.fromkeys([*(one.value for one in held), *numbers])
        values = {n: self._values.value(n) for n in wanted if n is not None}
        self._kept += sum(0 if v.array is None else v.array.nbytes for v in values.values())
        if self._room is not None and self._kept > self._room:
            raise Unjudgeable(
                f"its operands were not kept: those of such steps fill {self._room >> 20} MiB "
                "(watch(..., keep=None) keeps all)"
            )
        copies = {
            n: replace(v, array=None if v.array is None else v.array.copy())
            for n, v in values.items()
        }
        arguments = {one.value for one in held}
        inner = [self._calls[call] for call in self._nodes[node].inner]
        return Rerun(
            application,
            copies,
            effect(inner, arguments, lambda n: next(iter(self._values.storages([n])), None)),
            self._allows(application.function),
            self.input_names(node),
        )

    def allow(self, rerun: bool | Collection[Any], room: int | None) -> None:
        """Set which functions may run again besides pure ones, and how many bytes may be kept."""
        self._rerun = rerun
        self._room = None if room is None else max(room, _ROOM)

    def allowed(self) -> list[str]:
        """Return the names of the functions that the program allows to run again."""
        named = () if isinstance(self._rerun, bool) else self._rerun
        return [one if isinstance(one, str) else name_of(one) for one in named]

    def _allows(self, function: Any) -> bool | None:
        """Return whether the program allows a function to run again; None if it does not say."""
        if isinstance(self._rerun, bool):
            return self._rerun
        named = function in self._rerun or name_of(function) in self._rerun
        return True if named else None

    def _application(self, node: int) -> Application:
        if self._nodes:
            draft = self._nodes[node]
            if draft.call is not None:
                return self._operator(self._calls[draft.call])
            function = getattr(type(draft.alive), "_forward_cls", None)
            if is_operators(function) and len(draft.inner) == 1:
                return self._operator(self._calls[draft.inner[0]])
            for call in draft.inner:
                for application in self._by_call.get(call, ()):
                    if application.function is function:
                        return application
        raise Unjudgeable("the call of this function was not recorded")

    def _operator(self, call: CallDraft) -> Application:
        """Return the application of an operator of ``torch.library``, from the tape's arguments."""
        namespace, name, overload = call.op.split(".")
        function = getattr(getattr(getattr(torch.ops, namespace), name), overload)
        device = next(
            (
                held.device
                for applications in self._by_call.values()
                for application in applications
                for held in held_in(application.arguments)
            ),
            torch.device("cpu"),
        )

        def held(recorded: Argument, kind: str) -> Any:
            if isinstance(recorded, Ref):
                return Held(recorded.value, device)
            if isinstance(recorded, tuple):
                return [held(element, kind) for element in recorded]
            return _from_text(recorded, kind)

        positional, named = [], {}
        for argument in function._schema.arguments:
            converted = held(call.arguments[argument.name], str(argument.type))
            if argument.kwarg_only:
                named[argument.name] = converted
            else:
                positional.append(converted)
        return Application(function, tuple(positional), named, called=call.source.line)


def _on_tape(argument: Any) -> Any:
    if isinstance(argument, Held):
        return Ref(argument.value)
    if isinstance(argument, HeldModule):
        return str(type(argument.module).__name__)
    return tuple(map(_on_tape, argument)) if type(argument) in (tuple, list) else argument


def _from_text(argument: Any, kind: str) -> Any:
    """Convert an operator's argument back: the tape holds dtypes and the like as text."""
    if isinstance(argument, str) and kind.removeprefix("Optional[") != "str":
        name = argument.removeprefix("torch.")
        return getattr(torch, name) if hasattr(torch, name) else torch.device(argument)
    return argument
