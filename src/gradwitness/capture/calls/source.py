"""Where a call comes from: module path and line of the user's program."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules import module as torch_module

from gradwitness._cells import file_of
from gradwitness._failure import in_library
from gradwitness.tape import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from torch.utils.hooks import RemovableHandle

    from gradwitness.capture.border import Border
    from gradwitness.capture.calls.compiled import Compiled
    from gradwitness.capture.calls.fast_paths import FastPaths

_PACKAGE = Path(__file__).parents[2]
# Not the program's code: torch itself and this package, but for the program that comes with it.
_SKIPPED = (str(Path(torch.__file__).parent), f"{_PACKAGE}{os.sep}")
_EXPERIMENT = f"{_PACKAGE / 'experiment'}{os.sep}"

# This package, and what keeps the compiler out of it.
_AROUND = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent / "_dynamo"))
# Where torch's engine begins to run a backward pass, as far as Python sees it.
ENGINE = torch.autograd.graph._engine_run_backward.__code__

# What runs the backward of a custom function, which may be torch's own.
_BACKWARD = torch.autograd.function.BackwardCFunction.apply.__code__
_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]


@functools.cache
def is_skipped(file: str) -> bool:
    """Whether a file is torch's or this package's, not the program's."""
    return file.startswith(_SKIPPED) and not file.startswith(_EXPERIMENT)


def is_program(code: CodeType) -> bool:
    """Whether code was written in a file, or a cell, of the program's."""
    file = code.co_filename
    return not is_skipped(file) and not (file.startswith("<") and file_of(code) == file)


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame, from one on, outside torch and this package."""
    while frame is not None:
        code = frame.f_code
        # Most frames are torch's: that is asked first.
        if not is_skipped(code.co_filename) and is_program(code):
            return frame
        frame = frame.f_back
    return None


def instruction() -> object:
    """Return what tells the instruction that makes an operation run: of the program, or torch."""
    # Both places that ask are four deep in the recorder, or deeper.
    frame: FrameType | None = sys._getframe(4)
    while frame is not None and frame.f_code.co_filename.startswith(_AROUND):
        frame = frame.f_back
    return None if frame is None else (frame.f_code, id(frame), frame.f_lasti)


def user_line(frame: FrameType | None = None) -> str:
    """Return ``file:line`` of the innermost frame, from one on, outside torch and this package."""
    frame = user_frame(frame or sys._getframe(1))
    return "" if frame is None else f"{file_of(frame.f_code)}:{frame.f_lineno}"


def raised_at(error: BaseException) -> str:
    """Return ``file:line`` of the innermost frame of an error outside libraries."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [
        f"{file_of(frame.f_code)}:{line}"
        for frame, line in frames
        if is_program(frame.f_code) and not in_library(frame)
    ]
    return lines[-1] if lines else ""


def open_functions() -> Iterator[FrameType]:
    """Yield the frames that currently apply a custom ``autograd.Function``, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _APPLY:
            yield frame
        frame = frame.f_back


def inside_function() -> bool:
    """Whether the forward of a custom ``autograd.Function`` is running."""
    return next(open_functions(), None) is not None


def is_innermost_function() -> bool:
    """Whether the forward of a custom function runs, without a backward pass within it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not ENGINE:
        if frame.f_code is _APPLY:
            return True
        frame = frame.f_back
    return False


def called_by_engine() -> bool:
    """Whether autograd itself called an operation, not the program's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not ENGINE:
        if frame.f_code is _BACKWARD or not is_skipped(frame.f_code.co_filename):
            return False
        frame = frame.f_back
    # Torch runs deep passes within passes on threads of its own, which begin with the node.
    return True


def is_custom(node: Any) -> bool:
    """Whether a node is a custom function's, and the function not one of torch's own."""
    if not is_custom_backward(node):
        return False
    function = getattr(type(node), "_forward_cls", None)
    return not getattr(function, "__module__", "torch.").startswith("torch.")


def is_custom_backward(node: Any) -> bool:
    """Whether a node is a custom function's, be it the program's or one of torch's own."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def tensors_in(argument: Any, *, keep_none: bool = False) -> Iterator[Any]:
    """Yield the tensors of an argument or result, which may be a list of them."""
    if isinstance(argument, torch.Tensor) or (argument is None and keep_none):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for element in argument:
            yield from tensors_in(element, keep_none=keep_none)


class ModuleTrail:
    """Follows which module's forward is running.

    Parameters
    ----------
    on_root : callable
        Called with every outermost module when its forward first starts.
    is_recorded : callable
        Whether this thread is recorded: hooks on modules hold for the whole process.
    """

    def __init__(
        self,
        on_root: Callable[[torch.nn.Module], None],
        is_recorded: Callable[[], bool],
        border: Border,
        compiled: Compiled,
    ) -> None:
        self._compiled = compiled
        self._on_root = on_root
        self._is_recorded = is_recorded
        self._border = border
        self._trail: list[str] = []
        self._names: dict[int, str] = {}
        self._held: list[torch.nn.Module] = []
        self._handles: list[RemovableHandle] = []
        self._sources: dict[tuple[str, str, int], Source] = {}

    def start(self, paths: FastPaths) -> None:
        """Start following every module of the process."""

        def before(module: torch.nn.Module, _: Any) -> None:
            self._border.take(self._enter, module)
            paths.enter(module)

        def after(module: torch.nn.Module, _: Any, __: Any) -> None:
            paths.leave(module)
            self._border.take(self._leave)

        enter = torch_module.register_module_forward_pre_hook(before)
        leave = torch_module.register_module_forward_hook(after, always_call=True)
        self._handles = [enter, leave]

    def stop(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def add(self, root: torch.nn.Module) -> None:
        """Learn the names of a model's modules, unless it is known already."""
        if id(root) in self._names:
            return
        self._held.append(root)
        for name, part in root.named_modules():
            # The root has no path, so its class stands for it.
            self._names.setdefault(id(part), name or type(part).__name__)
        self._on_root(root)

    def here(self) -> Source:
        """Return the running module and line."""
        # An operation is written down four deep in the recorder: those frames are passed over.
        frame = user_frame(sys._getframe(4))
        module = self._trail[-1] if self._trail else ""
        key = module, *(("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno))
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = Source(module, "" if frame is None else user_line(frame))
        self._compiled.keep_away()
        self._compiled.look(source.line)
        return source

    def _enter(self, module: torch.nn.Module) -> None:
        if not self._is_recorded():
            return
        self._compiled.keep_away()
        if id(module) not in self._names and not self._trail:
            self.add(module)
        self._trail.append(self._names.get(id(module), type(module).__name__))

    def _leave(self) -> None:
        if self._trail and self._is_recorded():
            self._trail.pop()
