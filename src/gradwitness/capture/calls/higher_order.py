"""Torch's operators that take functions: ``torch.cond``, ``scan``, ``flex_attention``.

Called eagerly, such an operator is compiled by torch itself, with a backend that compiles nothing:
only so does it find the tensors that its functions close over. Under a dispatch mode torch would
leave that out, and those tensors would get no gradient. So all of this package is out of the way
while the operator runs, and one call stands for what ran.
"""

from __future__ import annotations

import contextlib
import dis
import sys
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.utils._pytree as pytree
from torch._ops import HigherOrderOperator
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

from gradwitness.capture.calls.compiled import as_the_program_has_it, renew, wraps_operator
from gradwitness.capture.calls.source import ENGINE, is_skipped
from gradwitness.capture.passes.engine_modes import are_others_on, is_on, without_ours
from gradwitness.tape import HIGHER_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from gradwitness.capture.border import Border
    from gradwitness.capture.memory.values import ValueStore

_KERNEL = torch._C.DispatchKey.CompositeExplicitAutograd
_TORCH_MODULE: Any = torch_module
_HOOKS = (_TORCH_MODULE._global_forward_pre_hooks, _TORCH_MODULE._global_forward_hooks)


def is_higher_order(func: Any) -> bool:
    """Whether a function is such an operator, with a kernel of its own.

    Those without one only carry a custom function through the levels of ``torch.func``.
    """
    return isinstance(func, HigherOrderOperator) and _KERNEL in func.py_kernels


class Writes(Protocol):
    """The dispatch mode that writes calls down."""

    def stands_for(self, op: str, operands: Sequence[int], made: Sequence[int]) -> None:
        """Write down one call for what ran."""


def run_unseen(
    func: Any,
    args: Any,
    kwargs: Any,
    values: ValueStore,
    mode: Writes,
    border: Border,
) -> Any:
    """Run an operator out of this package's sight, and write down one call for it."""
    operands = border.take(lambda: [*map(values.of, _tensors_in((args, kwargs)))])
    wrapper = _wrapper_around(func)
    # Under a mode of the program's torch does not compile; below autograd it has done so.
    if wrapper is None or are_others_on() or not is_on(mode):
        with _no_modes():
            result = func(*args, **kwargs)
    else:
        # What this package does here is not to be compiled.
        run: Any = torch.compiler.disable(_compiled)  # type: ignore[no-untyped-call]
        result = run(wrapper)
    border.take(lambda: _write_down(func, operands or [], result, values, mode))
    return result


def _write_down(
    func: Any, operands: Sequence[int], result: Any, values: ValueStore, mode: Writes
) -> None:
    made = []
    for tensor in _tensors_in(result):
        made.append(values.made(tensor))
        # It has its history already, and may be gone when a pass meets its node.
        values.histories.add(tensor, made[-1])
    mode.stands_for(f"{HIGHER_ORDER}{func.name()}", operands, made)


def _tensors_in(argument: Any) -> Iterator[torch.Tensor]:
    leaves: Any = pytree.tree_leaves(argument)
    return (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


def _compiled(wrapper: FrameType) -> Any:
    """Have torch compile, and run, what its wrapper in a frame has begun to run eagerly."""
    held = wrapper.f_locals
    renew(held["fn"])
    with _no_modes(), _no_hooks(), as_the_program_has_it():
        return held["self"](held["fn"])(*held["args"], **held["kwargs"])


def _wrapper_around(func: Any) -> FrameType | None:
    """Return the frame of torch's wrapper around a function that only calls this operator.

    There may be none: what such a function returned otherwise would not be the operator's.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not ENGINE:
        if wraps_operator(frame):
            only = len(frames) > 1 and frames[-2].f_locals.get("self") is func
            return frame if only and _returns_at_once(frames[-1]) else None
        if not is_skipped(frame.f_code.co_filename):
            return None
        frames.append(frame)
        frame = frame.f_back
    return None


def _returns_at_once(frame: FrameType) -> bool:
    """Whether a frame returns what the call that runs returns."""
    later = (i for i in dis.get_instructions(frame.f_code) if i.offset > frame.f_lasti)
    return next(later).opname == "RETURN_VALUE"


@contextlib.contextmanager
def _no_modes() -> Iterator[None]:
    """Take this package's modes off the thread's stacks; the program's own stay, in order."""
    functions: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    _replace_functions(len(functions), [mode for mode in functions if not _is_ours(type(mode))])
    try:
        with without_ours():
            yield
    finally:
        now: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        _replace_functions(len(now), functions)


def _replace_functions(now: int, modes: Sequence[Any]) -> None:
    for _ in range(now):
        _pop_mode()  # type: ignore[no-untyped-call]
    for mode in modes:
        _push_mode(mode)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _no_hooks() -> Iterator[None]:
    """Take this package's hooks off all modules: torch's compiler traces those that it finds."""
    before = [(hooks, {**hooks}) for hooks in _HOOKS]
    for hooks, held in before:
        for key, hook in held.items():
            if _is_ours(hook):
                del hooks[key]
    try:
        yield
    finally:
        for hooks, held in before:
            new = {**hooks}
            hooks.clear()
            hooks.update(held | new)


def _is_ours(made: Any) -> bool:
    module: str = made.__module__
    return module.partition(".")[0] == __name__.partition(".")[0]
