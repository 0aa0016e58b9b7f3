"""The forward of a custom function in a few lines: what matters to one of its inputs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradwitness._printable import several
from gradwitness.engine.custom_forwards import reaching
from gradwitness.judging.causes.torch_words import Words, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradwitness.tape import Call, Node, Tape

_LONGEST = 60  # what is longer gets a name of its own
_SHOWN = 8


def forward_lines(tape: Tape, node: Node, names: Mapping[int, str], number: int) -> tuple[str, ...]:
    """Return the operations that lead from an input to the results, in torch's words.

    What is used once and is short stands where it is used. A last line says what was left out.
    """
    calls = [tape.calls[n] for n in node.inner]
    depending = reaching(calls, {number})
    matter: list[Call] = []
    needed = set(node.outputs)
    for call in reversed(calls):
        if not needed.isdisjoint(call.outputs) and not depending.isdisjoint(call.operands):
            matter.append(call)
            needed.update(call.operands)
    matter.reverse()
    uses = Counter(n for c in matter for n in c.operands)
    lines: list[str] = []
    words = Words(tape, calls, names, within=False)
    for call in matter:
        words.measure(call)
        text = text_of(words.call(call))
        output = next((n for n in call.outputs if n is not None), None)
        if output is None:
            continue
        name = words.named(output)
        inline = not name and uses[output] == 1 and output not in node.outputs
        if inline and len(text) <= _LONGEST:
            continue
        if not name and output in uses:
            name = f"t{len(lines) + 1}"
            words.name(output, name)
        if text != name:
            lines.append(f"{name} = {text}" if name else text)
    more = len(lines) - _SHOWN
    left_out = [several(more, "more line", "more lines")] if more > 0 else []
    others = len(calls) - len(matter)
    if others:
        unneeded = "operation that does not matter to it", "operations that do not matter to it"
        left_out.append(several(others, *unneeded))
    shown = lines[:_SHOWN]
    return (*shown, f"(left out: {' and '.join(left_out)})") if left_out else tuple(shown)
