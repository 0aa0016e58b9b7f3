"""The names of a program's hooks, and where they are defined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.hooks import BackwardHook

from gradwitness._cells import file_of
from gradwitness.capture.calls.source import is_skipped
from gradwitness.tape import LEAVING, Edge

if TYPE_CHECKING:
    from collections.abc import Iterator

# Look through at most so many nested functions of torch for the program's own.
_FUNCTIONS = 20


def put_first(handle: Any) -> Any:
    """Let torch, which calls hooks in the order of their insertion, call one before all others."""
    hooks = handle.hooks_dict_ref()
    others = {key: hook for key, hook in list(hooks.items()) if key != handle.id}
    try:
        for key in others:
            hooks[key] = hooks.pop(key)
    finally:
        # Lose none, whatever happens in between.
        for key, hook in others.items():
            hooks.setdefault(key, hook)
    return handle


def hooks_of_node(node: int, arrival: Any, leaving: Any) -> Iterator[tuple[Edge, str]]:
    """Yield the program's own hooks on a node that has just got the recorder's."""
    for handle, prefix in ((arrival, ""), (leaving, LEAVING)):
        hooks = handle.hooks_dict_ref()
        for key, hook in list(hooks.items()) if len(hooks) > 1 else ():
            if key != handle.id and not is_ours(hook):
                yield from ((Edge(node, 0), prefix + text) for text in _users(hook))


def is_ours(hook: Any) -> bool:
    """Whether a hook is this package's, of a pass that runs around this one."""
    return str(getattr(hook, "__module__", "")).startswith("gradwitness.")


def _users(hook: Any) -> Iterator[str]:
    """Describe a hook, or the module's hooks that one of torch's own stands for."""
    contents = (cell.cell_contents for cell in getattr(hook, "__closure__", None) or ())
    owner = next((content for content in contents if isinstance(content, BackwardHook)), None)
    if owner is None:
        yield described(hook)
        return
    inputs = "_set_user_hook" in hook.__qualname__
    for own in owner.user_hooks if inputs else owner.user_pre_hooks:
        yield f"{type(owner.module).__name__}'s hook {described(own)}"


def described(hook: Any) -> str:
    """Return a function's name and the line where it is defined."""
    inner = _written_by_user(getattr(hook, "__wrapped__", hook))
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    code = getattr(inner, "__code__", None)
    return f"{name} at {file_of(code)}:{code.co_firstlineno}" if code else str(name)


def _written_by_user(hook: Any) -> Any:
    """Return the program's function inside one of torch's, as for hooks on several tensors."""
    waiting = [hook]
    for function in waiting:
        code = getattr(function, "__code__", None)
        if code is not None and not is_skipped(code.co_filename):
            return function
        cells = getattr(function, "__closure__", None) or ()
        waiting += [c.cell_contents for c in cells if hasattr(c.cell_contents, "__code__")]
        if len(waiting) > _FUNCTIONS:
            break
    return hook
