"""Hooks that change gradients on their way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.judging.finding import Step
from gradwitness.judging.gradients.meant_hooks import CHANGED
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.rules.declarations import when_it_runs
from gradwitness.tape import AFTERWARDS, LEAVING, Kind, Source
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Tape

# Torch puts this node around a module that has full backward hooks.
_AROUND_MODULE = "BackwardHookFunctionBackward"
# When the hooks run that change what a step is about.
_WHEN = {Step.BACKWARD: LEAVING, Step.ACCUMULATE: AFTERWARDS}


class Hooks(Detector):
    """Names the hook where a gradient arrives different from what was sent.

    A hook that changes nothing is not mentioned. Hooks of tensors, of parameters after
    accumulation, of modules and of autograd nodes are known if they existed when the pass began
    and their tensor's numbers are still kept.
    """

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        hooks: dict[tuple[int, int, int, str], list[str]] = {}
        for number, sweep in enumerate(tape.sweeps):
            for edge, text in sweep.hooks:
                when = when_it_runs(text)
                key = (number, edge.node, edge.index, when)
                hooks.setdefault(key, []).append(text.removeprefix(when))
        # A hook does it in every training step: one note each.
        notes: dict[tuple[str, str], Note] = {}
        for f in judged.findings:
            changed = f.verdict is Verdict.DISAGREES or f.comparison.reason.startswith(CHANGED)
            if not changed or f.node is None or f.sweep is None:
                continue
            outgoing = f.step is Step.BACKWARD
            at = 0 if outgoing else f.tensor_nr
            names = hooks.get((f.sweep, f.node, at, _WHEN.get(f.step, "")), [])
            if not names and not (outgoing and tape.nodes[f.node].name == _AROUND_MODULE):
                continue
            gradient = _gradient_of(tape, f)
            by = listed(names) if names else "a backward hook of a module"
            line = names[0].rpartition(" at ")[2] if names and " at " in names[0] else ""
            module = f.source.module if f.source else ""
            note = Note(
                "gradient changed by a hook",
                f"{by} changed {gradient}. {_remedy(f, names)}",
                Source(module, line) if line else f.source,
                f.call,
                f.node,
                f.sweep,
            )
            notes.setdefault((by, _lasting(tape, f)), note)
        return list(notes.values())


def _remedy(f: Finding, names: list[str]) -> str:
    """Return what to do about a hook, if it is meant."""
    if f.grade.startswith("declared"):
        return "What it sends is not what was declared."
    if not names:
        return "If intended, the disagreement there is its effect."
    name, _, line = names[0].rpartition("'s hook ")[2].partition(" at ")
    function = name.replace(".<locals>", "").removesuffix(".<lambda>")
    where = f"{Path(line.rpartition(':')[0]).name}:{function}"
    return f'If intended, declare what it sends: gradwitness.meant_hook("{where}", ...).'


def _gradient_of(tape: Tape, f: Finding) -> str:
    """Return which gradient a finding is about."""
    assert f.node is not None  # noqa: S101 (the caller checked)
    node = tape.nodes[f.node]
    if node.kind == Kind.ACCUMULATE and node.leaf is not None:
        name = tape.values[node.leaf].name or f"value {node.leaf}"
        return f".grad of {name}" if f.step is Step.ACCUMULATE else f"the gradient of {name}"
    way = "sent by" if f.step is Step.BACKWARD else "arriving at"
    module = f" in module {f.source.module}" if f.source and f.source.module else ""
    return f"the gradient {way} {node.name} #{node.id}{module}"


def _lasting(tape: Tape, f: Finding) -> str:
    """Return what a finding is about, in the same words for every training step."""
    assert f.node is not None  # noqa: S101 (the caller checked)
    node = tape.nodes[f.node]
    if node.kind == Kind.ACCUMULATE and node.leaf is not None:
        return tape.values[node.leaf].name or f"value {node.leaf}"
    location = "" if f.source is None else f"{f.source.module} {f.source.line}"
    return f"{node.name} {location} {f.step.value}"
