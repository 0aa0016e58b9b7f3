"""A mode that sees every ATen operation, and leaves torch's compiler alone."""

from __future__ import annotations

import functools
import sys
from types import MethodType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


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
        return self._not_compiled if "torch._dynamo" in sys.modules else self._seen

    @functools.cached_property
    def _not_compiled(self) -> Any:
        apart: Any = torch.compiler.disable(type(self)._seen)  # type: ignore[no-untyped-call]
        return MethodType(apart, self)

    def _seen(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, below autograd, and return its result."""
        raise NotImplementedError
