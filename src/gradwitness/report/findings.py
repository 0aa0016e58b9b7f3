"""What was found, as data: one form for every command, for JSON and SARIF."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.note import Note
    from gradwitness.verdict import Fault

_SEVERITIES = {Verdict.DISAGREES: "error", Verdict.INCONCLUSIVE: "warning"}


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Return the figures of a comparison, without its verdict, reason and what the judge needs."""
    figures = asdict(comparison)
    del figures["verdict"], figures["reason"], figures["hides"]
    return figures | {"right_digits": comparison.right_digits}


def finding_records(faults: Iterable[Fault], notes: Iterable[Note] = ()) -> list[dict[str, Any]]:
    """Return faults and notes in one form, the faults first; what is there twice, once."""
    records = [
        _record(
            _SEVERITIES[fault.verdict], fault.kind or "other", fault.title, fault.text, fault.line
        )
        | {
            "symbol": fault.symbol,
            "cause": fault.cause,
            "remedy": fault.remedy,
            "numbers": dict(fault.numbers) or None,
        }
        for fault in dict.fromkeys(faults)
    ]
    for note in dict.fromkeys(notes):
        line, module = (note.source.line, note.source.module) if note.source else ("", "")
        records.append(_record("note", note.kind, note.kind, note.text, line) | {"symbol": module})
    seen: Counter[str] = Counter()
    for record in records:
        mark = _mark(record)
        seen[mark] += 1
        record["fingerprint"] = f"{mark}:{seen[mark]}"
    return records


def place(line: str) -> tuple[str, int | None]:
    """Return file and line of ``file:line``; nothing where it is neither.

    The file as seen from the root of the repository, with slashes; one elsewhere from the root of
    the disk.
    """
    path, _, number = line.rpartition(":")
    return (from_root(path), int(number)) if path and number.isdecimal() else ("", None)


def from_root(path: str) -> str:
    """Return a path as a code host knows it, see `place`."""
    here = Path.cwd()
    # Not resolved: what lies behind a link is known by the link.
    file = Path(os.path.normpath(here / path))
    root = os.environ.get("GITHUB_WORKSPACE") or _repository(here)
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


@cache
def _repository(folder: Path) -> Path:
    """Return the root of a folder's repository, or the folder: looked up once, not per finding."""
    around = (folder, *folder.parents)
    return next((above for above in around if (above / ".git").exists()), folder)


def _record(severity: str, kind: str, title: str, text: str, line: str) -> dict[str, Any]:
    file, number = place(line)
    return {
        "kind": kind,
        "severity": severity,
        "title": title,
        "text": text,
        "file": file,
        "line": number,
        "symbol": "",
        "cause": "",
        "remedy": "",
        "numbers": None,
    }


def _mark(record: dict[str, Any]) -> str:
    """Return what stays the same as long as the mistake does, wherever its line moves."""
    title = re.sub(r"#\d+|\d+\.\d+(e[-+]?\d+)?", "", record["title"])
    same = "\0".join([record["kind"], record["file"], record["symbol"], title])
    return hashlib.blake2b(same.encode(errors="replace"), digest_size=8).hexdigest()
