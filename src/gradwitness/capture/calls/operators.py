"""Check that the program's own rules fit the operators that torch knows."""

from __future__ import annotations

import difflib

import torch

from gradwitness._errors import RuleError
from gradwitness.rules.user_rules import misfit, own


def require_fitting_rules() -> None:
    """Compare each of the program's own rules with its operator's schema.

    Raises
    ------
    RuleError
        If one does not fit, or its operator is unknown while others of its namespace are known (if
        none is, the library is just not loaded).
    """
    mine = own()
    if not mine:
        return
    schemas: dict[str, list[torch.FunctionSchema]] = {}
    for schema in torch._C._jit_get_all_schemas():
        schemas.setdefault(schema.name.replace("::", "."), []).append(schema)
    loaded = {name.partition(".")[0] for name in schemas}
    for name, rule in mine.items():
        if name not in schemas:
            if name.partition(".")[0] not in loaded:
                continue
            near = difflib.get_close_matches(name, schemas, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RuleError(f"there is a rule for {name}, but torch has no such operator{hint}")
        faults = [
            misfit(rule, {a.name: "Tensor" in str(a.type) for a in s.arguments}, str(s))
            for s in schemas[name]
        ]
        if all(faults):
            raise RuleError(faults[0])
