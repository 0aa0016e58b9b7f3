"""The table of rules as text: one line each, or all that is known of one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gradwitness._errors import InputError
from gradwitness.report.words import explained
from gradwitness.rules import Rule, find, find_node, table, terms

if TYPE_CHECKING:
    from rich.console import RenderableType


def rules_table() -> Table:
    """Return every rule: operation, formula, autograd node."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    # Names are looked for, so they stand whole; torch generates some of nodes that are too long.
    shown.add_column("operation", no_wrap=True)
    shown.add_column("formula", overflow="fold")
    shown.add_column("autograd node", overflow="fold")
    for rule in sorted(set_of_rules(), key=lambda rule: rule.name):
        shown.add_row(rule.name, rule.text, rule.node or "-")
    for term in terms():
        shown.add_row("(no operation)", term.meaning, term.name)
    return shown


def set_of_rules() -> list[Rule]:
    """Return each rule once."""
    return list({id(rule): rule for rule in table().values()}.values())


def rule_text(name: str) -> RenderableType:
    """Return what is known of an operation or an autograd node; case does not matter.

    It is named ``aten.addmm``, ``addmm``, ``AddmmBackward0``, ``AccumulateGrad``. Raises
    `InputError`, with what is alike, if nothing is known of it.
    """
    entry = find(name) or find(f"aten.{name}") or find_node(name)
    if entry is None:
        nodes = {n.name: n for n in terms()} | {r.node: r for r in set_of_rules() if r.node}
        named = {known.lower(): (known, item) for known, item in (*nodes.items(), *table().items())}
        wanted = name.lower().rstrip("0123456789")
        lowered = (name.lower(), f"aten.{name.lower()}", wanted)
        entry = next((named[known][1] for known in lowered if known in named), None)
        if entry is None:
            alike = [named[known][0] for known in difflib.get_close_matches(wanted, named)]
            hint = f"; did you mean {', '.join(alike)}" if alike else ""
            raise InputError(f"there is no rule for {name!r}{hint}; `gradwitness rules` lists all")
    lines = Text()
    if not isinstance(entry, Rule):
        return lines.append(entry.definition())
    lines.append(f"{entry.name}\n", style="bold")
    if entry.aliases:
        lines.append(f"also        {', '.join(entry.aliases)}\n")
    lines.append(f"value       {entry.text}\n")
    for operand, gradient in entry.gradients.items():
        lines.append(f"gradient    d{operand} = {gradient.text}\n")
    if entry.meaning:
        asked = name if find_node(name) is entry else ""
        lines.append(f"node        {entry.definition(asked)}\n")
    lines.append("where g is the gradient that arrives, y the result", style="dim")
    texts = [entry.text, *(gradient.text for gradient in entry.gradients.values())]
    for sentence in explained(texts):
        lines.append(f"\n      {sentence}", style="dim")
    return lines
