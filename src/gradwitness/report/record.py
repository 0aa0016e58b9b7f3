"""The judgement as JSON.

Schema ``gradwitness-comparison``, version 1. JSON has no infinity and no NaN: those are the strings
``"inf"``, ``"-inf"`` and ``"nan"``. Fields may be added within a version, never renamed.

``notes`` lists other issues, whatever the verdict; usually it is empty. Each note has a ``kind``
(``stale gradient``, ``parameters cut off``, ...: see `judging.pathology`), a ``text`` (what it is,
and what to do), ``module`` and ``line`` (``file:line``; empty where there is no single line), and
the numbers ``call``, ``node`` and ``pass`` (from 0) on the tape, or null. Kinds may be added, and
texts reworded.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness.report.faults import faults_of
from gradwitness.report.findings import comparison_record, finding_records
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.experiment import Outcome
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.judging.note import Note
    from gradwitness.tape import Tape

SCHEMA = "gradwitness-comparison"
VERSION = 1


def report_record(report: Report, tape: Tape) -> dict[str, Any]:
    """Return a report as plain data: what was found, every gradient and every step."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "verdict": report.verdict.value,
        "exit_code": report.required.exit_code,
        "required_digits": report.digits,
        "judge": report.judge,
        "depth": report.depth,
        "forward_verdict": report.forward,
        "gradients_verdict": report.gradients,
        "coverage": {name: asdict(share) for name, share in report.coverage().items()},
        "first_wrong": None if report.first_wrong is None else report.first_wrong.title,
        "findings": finding_records(faults_of(report, tape), report.notes),
        "gradients": [_row(row) for row in report.rows],
        "notes": [note_record(note) for note in report.notes],
        "steps": [finding_record(finding) for finding in report.findings],
    }


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return a run of the experiment as plain data."""
    forward = {
        name: {
            "torch": outcome.torch_side[name].astype("float64").tolist(),
            "witness": outcome.witness_side[name].tolist(),
        }
        for name in ("loss", "prediction")
    }
    return report_record(outcome.report, outcome.tape) | {
        "config": asdict(outcome.config) | {"width": outcome.config.units},
        "again": outcome.config.command(),
        "about": outcome.tape.about,
        "data": {k: v.astype("float64").tolist() for k, v in outcome.data.items()},
        "forward": forward,
        "recording": {"seconds": outcome.seconds, "share": outcome.overhead},
    }


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of every record, version 1."""
    return Path(__file__).with_name("schema.json").read_text("utf-8")


def dumps(record: dict[str, Any]) -> str:
    """Return JSON text."""
    return json.dumps(_plain(record), indent=1, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": row.shape,
        "dtype": row.dtype,
        "pass": row.sweep,
        "verdict": row.verdict,
        "inherited": row.inherited,
        "reason": row.grounds,
        "digits": row.digits,
        **comparison_record(row.comparison),
    }


def finding_record(finding: Finding) -> dict[str, Any]:
    """Return one step as plain data."""
    return {
        "step": finding.step,
        "title": finding.title,
        "verdict": finding.verdict,
        "reason": finding.comparison.reason,
        "call": finding.call,
        "node": finding.node,
        "pass": finding.sweep,
        "module": finding.source.module if finding.source else "",
        "line": finding.source.line if finding.source else "",
        "rule": finding.formula,
        "grade": finding.grade,
        "advice": finding.advice,
        **_explained(finding),
        **comparison_record(finding.comparison),
    }


def _explained(finding: Finding) -> dict[str, str]:
    """Return where and why a step is wrong; of another, nothing."""
    explained = {
        "symbol": finding.symbol,
        "wrong_at": f"{finding.file}:{finding.line}" if finding.file else "",
        "called": finding.called,
        "cause": finding.cause,
        "why": finding.why,
        "runner_up": finding.runner_up,
        "remedy": finding.remedy,
        "fuzz": finding.fuzz,
    }
    is_wrong = finding.verdict is Verdict.DISAGREES
    return explained if is_wrong else dict.fromkeys(explained, "")


def note_record(note: Note) -> dict[str, Any]:
    """Return a note as plain data."""
    return {
        "kind": note.kind,
        "text": note.text,
        "call": note.call,
        "node": note.node,
        "pass": note.sweep,
        "module": note.source.module if note.source else "",
        "line": note.source.line if note.source else "",
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    return value
