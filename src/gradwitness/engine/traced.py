"""Arrays that note each NumPy call made on them, so that the calls can be made again.

Every result is an array of its own, at a fixed place: to make the calls again with other numbers in
the arrays that they began with is to fill all of them anew. A call that only shows what an array
holds (a transpose) is not noted: its result is there for good. What depends on numbers otherwise
than by such calls (a branch, a shape) is `Untraceable`.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded.methods import Methods
from gradwitness.rules import kernel_ops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

# What depends on the shapes and formats of arrays alone.
_OF_SHAPES = {np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj, np.isrealobj}


class Untraceable(Unjudgeable):
    """A computation that depends on numbers otherwise than by NumPy calls on them."""


class Noted(NamedTuple):
    """One call: what it computes fills an array, if there is one; else it changes an argument."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    filled: NDArray[Any] | None = None

    def again(self) -> Iterable[Callable[[], object]]:
        """Yield what makes the call."""
        function, arguments, keywords, filled = self
        if filled is None:
            yield functools.partial(function, *arguments, **keywords)
        elif isinstance(function, np.ufunc) and not keywords:
            given = _as_computed(function, arguments)
            if function in (np.maximum, np.minimum):
                yield functools.partial(function, *given, out=filled)
            else:  # by position it takes less time; of these two NumPy wants it by name
                yield functools.partial(function, *given, filled)
        elif function is np.where and not np.may_share_memory(filled, arguments[1]):
            chosen, numbers, others = arguments
            yield functools.partial(operator.setitem, filled, ..., others)
            if np.ndim(numbers) == 0 and chosen.shape == filled.shape:
                yield functools.partial(operator.setitem, filled, chosen, numbers)
            else:
                yield functools.partial(np.copyto, filled, numbers, where=chosen)
        else:
            yield lambda: store(filled, function(*arguments, **keywords))


def _as_computed(ufunc: np.ufunc, arguments: tuple[Any, ...]) -> list[Any]:
    """Return arguments with numbers as arrays of the format that they are computed in."""
    given = [
        type(a) if type(a) in (int, float, complex) else np.asarray(a).dtype for a in arguments
    ]
    formats = ufunc.resolve_dtypes((*given, *[None] * ufunc.nout))
    pairs = zip(arguments, formats, strict=False)
    return [a if isinstance(a, np.ndarray) else np.asarray(a, dtype) for a, dtype in pairs]


class Traced(Methods):
    """An array whose calls are noted; of a shared one, no call may change the numbers."""

    __slots__ = ("calls", "is_shared", "value")

    def __init__(self, calls: list[Noted], value: Any, *, is_shared: bool = False) -> None:
        self.calls = calls
        self.value = value
        self.is_shared = is_shared

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if "out" in keywords:
            raise Untraceable(f"{ufunc.__name__} into an array that is there")
        if ufunc is np.multiply and not keywords:
            # A factor of 1 that a formula carries along changes no number.
            for factor, other in (inputs, inputs[::-1]):
                if type(factor) in (int, float) and factor == 1 and other.value.dtype.kind in "fc":
                    return Traced(self.calls, other.value, is_shared=True)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self._note(function, inputs, keywords)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        del types
        if func in _OF_SHAPES:
            return func(*plain(args), **plain(kwargs))
        if func.__module__ == kernel_ops.__name__:
            # On plain numbers it is made of NumPy calls.
            return func.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]
        if not any(isinstance(member, Traced) for member in _members((args, kwargs))):
            # A constant, made with ``like``.
            return func(*args, **kwargs)
        return self._note(func, args, kwargs)

    def __getitem__(self, index: Any) -> Any:
        return self._note(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, assigned: Any) -> None:
        if self.is_shared:
            raise Untraceable("a change of an array that is read elsewhere")
        self._note(operator.setitem, (self, index, assigned), {})

    def _write(self, index: Any, assigned: Any, views: int) -> None:
        del views
        self[index] = assigned

    def _is_shown_by(self, operand: Any) -> bool:
        del operand
        return False

    def astype(self, dtype: Any) -> Any:
        """Convert to another dtype."""
        return self._note(np.ndarray.astype, (self, dtype), {})

    def item(self) -> Any:
        """Refuse to make a number of an element."""
        raise Untraceable("a number is taken out of an array")

    def __bool__(self) -> bool:
        raise Untraceable("a branch depends on a number")

    if not TYPE_CHECKING:

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise Untraceable("a plain array is made of one that is traced")

    def _note(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Make a call, and note it; return what it returns, traced."""
        given = plain(arguments), plain(keywords)
        result = function(*given[0], **given[1])
        traced = [a for a in _members((arguments, keywords)) if isinstance(a, Traced)]
        if result is None:
            changed = arguments[0]
            if not isinstance(changed, Traced) or changed.is_shared:
                raise Untraceable(f"{function.__name__} changes an array that is read elsewhere")
            self.calls.append(Noted(function, *given))
            return None
        if not isinstance(result, np.ndarray | np.generic):
            raise Untraceable(f"{function.__name__} returns no array")
        shown = [a for a in traced if np.may_share_memory(a.value, result)]
        if isinstance(result, np.ndarray) and shown:
            return Traced(self.calls, result, is_shared=any(a.is_shared for a in shown))
        filled = np.asarray(result)
        self.calls.append(Noted(function, *given, filled))
        return Traced(self.calls, filled)


def plain(argument: Any) -> Any:
    """Return an argument with the arrays themselves in the place of traced ones."""
    if isinstance(argument, Traced):
        return argument.value
    if isinstance(argument, tuple | list):
        return type(argument)(map(plain, argument))
    if isinstance(argument, dict):
        return {name: plain(member) for name, member in argument.items()}
    return argument


def store(filled: NDArray[Any], result: Any) -> None:
    """Fill an array with a result, which must have its shape."""
    if result.shape != filled.shape:
        raise Untraceable("a shape depends on a number")
    filled[...] = result


def without_copies(calls: Sequence[Noted], kept: Iterable[NDArray[Any]]) -> list[Noted]:
    """Return calls of which none fills an array only for the next one to copy it.

    ``kept`` are the arrays that are read when all calls have been made.
    """
    uses = Counter(map(_memory, kept))
    for call in calls:
        uses.update(_memory(a) for a in _members(call) if isinstance(a, np.ndarray))
    shortened: list[Noted] = []
    for call in calls:
        made = shortened[-1] if shortened else None
        if call.function is operator.setitem and made is not None and made.filled is not None:
            into, index, copied = call.arguments
            only = copied is made.filled and uses[_memory(copied)] == 2  # filled, and read here
            if only and index is ... and (into.shape, into.dtype) == (copied.shape, copied.dtype):
                shortened[-1] = made._replace(filled=into)
                continue
        shortened.append(call)
    return shortened


def _members(arguments: Any) -> Iterable[Any]:
    """Yield all that arguments hold, that of lists too."""
    if isinstance(arguments, tuple | list):
        for member in arguments:
            yield from _members(member)
    elif isinstance(arguments, dict):
        yield from _members([*arguments.values()])
    else:
        yield arguments


def _memory(array: NDArray[Any]) -> int:
    """Return the identity of the memory that an array shows."""
    shown: Any = array
    while getattr(shown, "base", None) is not None:
        shown = shown.base
    return id(shown)
