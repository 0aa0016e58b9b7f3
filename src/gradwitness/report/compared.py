"""Two saved reports of one program side by side: what became worse, and what better."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._errors import FileFormatError, InputError
from gradwitness.files.readers import SchemaError, a_dict, a_list, exactly, one_of, text
from gradwitness.report.record import SCHEMA, VERSION
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST = 2**30  # bytes
# A norm that moved by less is another order of sums.
_MOVED = 0.01
_GRADIENT, _STEP, _NOTE = "gradient", "step", "note"


@dataclass(frozen=True)
class Entry:
    """What a report says of one gradient, step or note.

    Attributes
    ----------
    kind : str
        ``gradient``, ``step`` or ``note``.
    name : str
    verdict : Verdict or None
        None of a note.
    ratio, digits, norm : float
        Error over bound, right digits and norm of a gradient; nan where there is none.
    line : str
        ``file:line``, or empty; of a wrong step, that of the mistake.
    """

    kind: str
    name: str
    verdict: Verdict | None
    ratio: float = math.nan
    digits: float = math.nan
    norm: float = math.nan
    line: str = ""


@dataclass(frozen=True)
class Change:
    """An entry before and after; None where a report has none."""

    before: Entry | None
    after: Entry | None

    @property
    def entry(self) -> Entry:
        """The later of the two."""
        entry = self.after or self.before
        assert entry is not None  # noqa: S101 (one of them is there)
        return entry

    @property
    def is_worse(self) -> bool:
        """Whether the later verdict is more severe; a new step or gradient counts as it stands."""
        before, after = (None if e is None else e.verdict for e in (self.before, self.after))
        was = Verdict.AGREES if before is None else before
        return after is not None and after.severity > was.severity


@dataclass(frozen=True)
class Compared:
    """Two reports, and where they differ.

    Attributes
    ----------
    before, after : Verdict
        Of the whole.
    changes : tuple of Change
        Gradients, steps and notes that are told otherwise.
    same : int
        How many gradients are unchanged.
    """

    before: Verdict
    after: Verdict
    changes: tuple[Change, ...]
    same: int

    @property
    def verdict(self) -> Verdict:
        """AGREES if nothing became worse, else the worst of what did."""
        worse = [change.entry.verdict for change in self.changes if change.is_worse]
        return worst([Verdict.AGREES, *(verdict for verdict in worse if verdict)])


def compared(before: Path, after: Path) -> Compared:
    """Compare two saved reports.

    Parameters
    ----------
    before, after : Path
        As ``--json`` prints them, and ``--save report.json`` writes them.

    Raises
    ------
    InputError
        If a file cannot be read, or holds no report of this version.
    """
    (was, first), (now, second) = _read(before), _read(after)
    keys = dict.fromkeys((*first, *second))
    changes = [Change(first.get(key), second.get(key)) for key in keys]
    different = tuple(change for change in changes if _differs(change))
    same = sum(change.entry.kind == _GRADIENT and not _differs(change) for change in changes)
    return Compared(was, now, different, same)


def _differs(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None:
        # Of steps, only those that do not agree are worth a line.
        return change.entry.kind != _STEP or change.entry.verdict is not Verdict.AGREES
    moved = after.norm != before.norm and not abs(after.norm / (before.norm or math.nan) - 1) < (
        _MOVED
    )
    both_unknown = math.isnan(after.norm) and math.isnan(before.norm)
    return after.verdict is not before.verdict or (moved and not both_unknown)


def _read(path: Path) -> tuple[Verdict, dict[tuple[str, str, int], Entry]]:
    """Return a report's verdict and its entries: by kind, name and number of that name."""
    try:
        if not path.is_file():
            what = "it is no regular file" if path.exists() else "there is no such file"
            raise InputError(f"cannot read {path}: {what}")
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than 1 GiB: compare smaller reports")
        data = a_dict(json.loads(path.read_bytes()), "the report")
        one_of({SCHEMA})(data.get("schema"), "schema")
        one_of({f"{VERSION}"})(f"{data.get('version')}", "version")
        entries: dict[tuple[str, str, int], Entry] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for entry in _entries(data):
            place = entry.kind, entry.name
            entries[(*place, seen[place])] = entry
            seen[place] += 1
        return _verdict(data.get("verdict"), "verdict"), entries
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (SchemaError, ValueError, RecursionError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise FileFormatError(
            f"{path} is not a saved report ({why}): write one with gradwitness check TARGET "
            "--json > report.json, or --save report.json"
        ) from None


def _entries(data: dict[str, Any]) -> Iterator[Entry]:
    for number, row in enumerate(a_list(data.get("gradients"), "gradients")):
        where = f"gradients[{number}]"
        fields = a_dict(row, where)
        sweep = exactly(int)(fields.get("pass"), f"{where}.pass")
        name = text(fields.get("name"), f"{where}.name") + (f" (pass {sweep + 1})" if sweep else "")
        ratio, digits, norm = (
            _number(fields.get(k), f"{where}.{k}") for k in ("ratio", "digits", "norm")
        )
        verdict = _verdict(fields.get("verdict"), f"{where}.verdict")
        yield Entry(_GRADIENT, name, verdict, ratio, digits, norm)
    for number, step in enumerate(a_list(data.get("steps"), "steps")):
        where = f"steps[{number}]"
        fields = a_dict(step, where)
        kind, title, line = (text(fields.get(k), f"{where}.{k}") for k in ("step", "title", "line"))
        # The mistake's own line; a report of an earlier version does not have it.
        line = text(fields.get("wrong_at", ""), f"{where}.wrong_at") or line
        verdict = _verdict(fields.get("verdict"), f"{where}.verdict")
        yield Entry(_STEP, f"{kind}: {title}", verdict, line=line)
    for number, note in enumerate(a_list(data.get("notes"), "notes")):
        where = f"notes[{number}]"
        fields = a_dict(note, where)
        kind, line = (text(fields.get(k), f"{where}.{k}") for k in ("kind", "line"))
        yield Entry(_NOTE, kind, None, line=line)


def _verdict(data: Any, where: str) -> Verdict:
    return Verdict(one_of({verdict.value for verdict in Verdict})(data, where))


def _number(data: Any, where: str) -> float:
    """Read a number; JSON has those that are not finite as text."""
    if type(data) in (int, float):
        return float(data)
    return float(one_of({"inf", "-inf", "nan"})(data, where))
