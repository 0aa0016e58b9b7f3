"""Calls on lists of tensors, as optimizers make them: each member counts as a call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.tape import Call

_PREFIX = "aten._foreach_"
# Arguments that have another name in the list form than in the rule of one tensor.
_NAMES = {
    ("aten.addcmul", "scalars"): "value",
    ("aten.addcdiv", "scalars"): "value",
    ("aten.norm", "ord"): "p",
}


def is_foreach(call: Call) -> bool:
    """Whether a call does the same with each member of its lists of tensors."""
    return call.op.startswith(_PREFIX)


def members(call: Call) -> list[Call]:
    """Return one call for each member of a call's lists: ``_foreach_add_`` gives ``add_`` s."""
    name, _, overload = call.op.removeprefix(_PREFIX).partition(".")
    op = f"aten.{name}.{overload}"
    base = replace(call, op=op).base_op

    # A list has one entry for each member; anything else is shared.
    return [
        replace(
            call,
            op=op,
            arguments={
                _NAMES.get((base, name), name): item[index] if isinstance(item, tuple) else item
                for name, item in call.arguments.items()
            },
            outputs=(output,),
        )
        for index, output in enumerate(call.outputs)
    ]
