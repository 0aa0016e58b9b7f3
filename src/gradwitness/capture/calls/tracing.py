"""Out of the sight of ``torch.jit.trace``: what it writes down is the program's alone."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.overrides import TorchFunctionMode

# Torch's types leave these out.
_TORCH: Any = torch._C
_TRACER = _TORCH._dispatch_key_parse("Tracer")
_EXCLUDE = _TORCH._dispatch_tls_set_dispatch_key_excluded
TRACED, _SET_TRACED = _TORCH._get_tracing_state, _TORCH._set_tracing_state


@contextlib.contextmanager
def untraced(trace: Any) -> Iterator[None]:
    """Suspend a trace, under which a size is a tensor that it writes down."""
    with torch._C._PreserveDispatchKeyGuard():
        # Excluded while the tracer itself makes a call; the trace cannot be set then.
        _EXCLUDE(_TRACER, False)
        _SET_TRACED(None)
        try:
            yield
        finally:
            _SET_TRACED(trace)


def plainly(mode: TorchFunctionMode) -> Any:
    """Return what runs a function for a mode without a frame of Python's.

    The tracer reads an operation's line and the names of its variables from the innermost one.
    """
    run: Any = functools.partial(_TORCH._disabled_torch_function_impl)
    # Torch asks whose method it is.
    run.__self__ = mode
    return run


@contextlib.contextmanager
def unseen_by_tracer() -> Iterator[None]:
    """Run operations of which the tracer, if there is one, writes down none."""
    with torch._C._PreserveDispatchKeyGuard():
        _EXCLUDE(_TRACER, True)
        yield
