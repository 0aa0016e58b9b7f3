"""A mode that sees every ATen operation, and leaves torch's compiler alone."""

from __future__ import annotations

import functools
import sys
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradwitness.capture.calls.schemas import operation

if TYPE_CHECKING:
    from collections.abc import Callable

# What torch says of an argument that is not of its type.
_MISTAKEN = "Cast error details"


@functools.cache
def _not_compiled(seen: Callable[..., Any]) -> Any:
    return torch.compiler.disable(seen)  # type: ignore[no-untyped-call]


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that does not load the compiler, which takes seconds.

    The compiler must not trace a mode's code. Torch ensures that by a wrapper that loads the
    compiler; here the wrapper is used only once something else has loaded it.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @property
    def __torch_dispatch__(self) -> Any:
        loaded = "torch._dynamo" in sys.modules
        return MethodType(_not_compiled(type(self)._seen), self) if loaded else self._seen

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation just as torch would without a mode.

        Torch excludes more keys below a mode than without one. Then kernels built from other
        operations read lazy conjugates and negatives as they lie in memory (``pinv``), and do not
        count what they change in place (``_foreach_mul_``).
        """
        with torch._C._PreserveDispatchKeyGuard():
            for key in operation(func).keys:
                torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
            try:
                if not torch._C._len_torch_function_stack():
                    return func(*args, **kwargs)
                # A function mode has not seen this: torch has called it without Python.
                with torch._C.DisableTorchFunction():
                    return func(*args, **kwargs)
            except RuntimeError as error:
                if _MISTAKEN not in str(error):
                    raise
            # Torch hands a constant of a trace to a mode as the number that it was made of, and
            # takes it back as a tensor only where Python's numbers are usual.
            return func(*operation(func).with_tensors(args), **kwargs)

    def _seen(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, below autograd, and return its result."""
        raise NotImplementedError
