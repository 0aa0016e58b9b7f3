"""Hooks that change gradients on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.finding import Step
from gradwitness.check.note import Note
from gradwitness.check.pathology.detector import Detector
from gradwitness.check.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.check.finding import Finding, Row
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Tape

# Torch puts this node around a module that has full backward hooks.
_AROUND_MODULE = "BackwardHookFunctionBackward"


class Hooks(Detector):
    """Names the hook where a gradient arrives other than it was sent."""

    def notes(  # noqa: D102
        self,
        tape: Tape,
        findings: Sequence[Finding],
        rows: Sequence[Row],
        replayed: Replay | None,
    ) -> list[Note]:
        del rows, replayed
        hooks: dict[tuple[int, int, int], list[str]] = {}
        for number, sweep in enumerate(tape.sweeps):
            for edge, text in sweep.hooks:
                hooks.setdefault((number, edge.node, edge.index), []).append(text)
        made = []
        for f in findings:
            if f.verdict is not Verdict.DISAGREES or f.node is None or f.sweep is None:
                continue
            name = tape.nodes[f.node].name
            if f.step in (Step.FAN_IN, Step.ACCUMULATE):
                who = hooks.get((f.sweep, f.node, f.slot))
                if who:
                    text = f"a hook changed the {_what(f)} {name} #{f.node}: {', '.join(who)}."
                    made.append(_note(f, text))
            elif f.step is Step.BACKWARD and name == _AROUND_MODULE:
                module = f.source.module if f.source else ""
                text = f"a backward hook around module {module or '?'} changed a gradient."
                made.append(_note(f, text))
        return made


def _what(finding: Finding) -> str:
    return "gradient arriving at" if finding.step is Step.FAN_IN else "`.grad` behind"


def _note(f: Finding, text: str) -> Note:
    return Note("gradient changed by a hook", text, f.source, f.call, f.node, f.sweep)
