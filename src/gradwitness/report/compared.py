"""Two saved reports of one program side by side: what became worse, and what better."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradwitness._errors import FileFormatError, InputError
from gradwitness.files.named import require_file, unreadable
from gradwitness.files.readers import SchemaError, a_dict, a_list, exactly, one_of, text
from gradwitness.report.page.blocks import blocks_of, unpacked
from gradwitness.report.record import SCHEMA, VERSION
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST = 2**30  # bytes
# A norm that moved by less is another order of sums.
_MOVED = 0.01
# So are digits that differ by less than one.
_LOST = 1.0
GRADIENT, STEP, NOTE = "gradient", "step", "note"
# Numbers of nodes and calls, which one more operation before them shifts.
_NUMBERED = re.compile(r"(#|call )\d+", re.ASCII)


class How(StrEnum):
    """How an entry changed; the page's script says the same (``pairs.js``)."""

    SAME = "same"
    MOVED = "moved"
    NEW = "new"
    GONE = "gone"
    BETTER = "better"
    WORSE = "worse"


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
        Error over bound, right digits of a gradient, and norm; nan where there is none.
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
    def verdict(self) -> Verdict:
        """AGREES, or the later verdict if it is more severe; what is new counts as it stands.

        A gradient that agreed and is gone is in doubt: whether it is still right, nobody says.
        """
        before, after = (None if e is None else e.verdict for e in (self.before, self.after))
        was = before or Verdict.AGREES
        if self.after is None and self.entry.kind == GRADIENT and was is Verdict.AGREES:
            return Verdict.INCONCLUSIVE
        return after if after is not None and after.severity > was.severity else Verdict.AGREES

    @property
    def is_worse(self) -> bool:
        """Whether something may have been right, and is no longer."""
        return self.verdict is not Verdict.AGREES

    @property
    def how(self) -> How:
        """What became of it."""
        if self.after is None:
            return How.GONE
        if self.is_worse:
            return How.WORSE
        if self.before is None:
            return How.NEW
        if self.before.verdict is not self.after.verdict:
            return How.BETTER
        return How.MOVED if _moved(self.before, self.after) else How.SAME

    @property
    def is_told(self) -> bool:
        """Whether it is worth a line: of steps, only what does not agree, or did not."""
        how = self.how
        if self.entry.kind != STEP:
            return how is not How.SAME
        if how in (How.NEW, How.GONE):
            return self.entry.verdict is not Verdict.AGREES
        return how in (How.WORSE, How.BETTER)


@dataclass(frozen=True)
class Saved:
    """A saved report.

    Attributes
    ----------
    name : str
        The path of its file.
    verdict : Verdict
        Of the whole.
    entries : dict
        By kind, name without numbers, and how many of that name came before.
    content : bytes
        The report as JSON.
    blocks : dict of str to str
        If it was read from a page, what the page's script reads.
    """

    name: str
    verdict: Verdict
    entries: dict[tuple[str, str, int], Entry] = field(repr=False)
    content: bytes = field(repr=False)
    blocks: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Compared:
    """Two reports side by side."""

    before: Saved
    after: Saved

    @cached_property
    def pairs(self) -> tuple[Change, ...]:
        """Every gradient, step and note of either."""
        first, second = self.before.entries, self.after.entries
        keys = dict.fromkeys((*first, *second))
        return tuple(Change(first.get(key), second.get(key)) for key in keys)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Gradients, steps and notes that are told otherwise."""
        return tuple(change for change in self.pairs if change.is_told)

    @property
    def same(self) -> int:
        """How many gradients are unchanged."""
        return sum(c.entry.kind == GRADIENT and c.how is How.SAME for c in self.pairs)

    @property
    def are_strangers(self) -> bool:
        """Whether both have gradients, and not one in common: of different programs, then."""
        pairs = [change for change in self.pairs if change.entry.kind == GRADIENT]
        sides = [c for c in pairs if c.before], [c for c in pairs if c.after]
        return all(sides) and len(pairs) == sum(map(len, sides))

    @property
    def verdict(self) -> Verdict:
        """AGREES if nothing became worse, else the worst of what did."""
        unlike = [Verdict.INCONCLUSIVE] if self.are_strangers else []
        return worst([Verdict.AGREES, *unlike, *(change.verdict for change in self.changes)])


def compared(before: Path, after: Path) -> Compared:
    """Compare two saved reports.

    Parameters
    ----------
    before, after : Path
        As ``--json`` prints them, and ``--save`` writes them: ``report.json``, ``report.html``.

    Raises
    ------
    InputError
        If a file cannot be read, or holds no report of this version.
    """
    return Compared(_read(before), _read(after))


def _moved(before: Entry, after: Entry) -> bool:
    """Whether the numbers are others, under the same verdict."""
    if abs(after.digits - before.digits) >= _LOST:
        return True
    if after.norm == before.norm or (math.isnan(after.norm) and math.isnan(before.norm)):
        return False
    return not abs(after.norm / (before.norm or math.nan) - 1) < _MOVED


def _read(path: Path) -> Saved:
    require_file(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than 1 GiB: compare smaller reports")
        content, blocks = path.read_bytes(), {}
        if content.lstrip().startswith(b"<"):
            page = content.decode()
            blocks = blocks_of(page)
            content = _record_of(page, blocks)
        return _saved(f"{path}", content, blocks)
    except OSError as error:
        raise unreadable(path, error) from error
    except (SchemaError, ValueError, RecursionError, EOFError, zlib.error) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise FileFormatError(
            f"{path} is not a saved report ({why}): write one with gradwitness check TARGET "
            "--json > report.json, or --save report.json"
        ) from None


def _record_of(page: str, blocks: dict[str, str]) -> bytes:
    """Return the report that a page holds as JSON."""
    if "record" not in blocks:
        if not page.rstrip().endswith("</html>"):
            raise SchemaError("neither JSON nor a whole web page")
        many = "a page of more than 20,000 steps, which keeps none"
        raise SchemaError(many if blocks else "a web page without a report of a program")
    return unpacked(blocks["record"], _LARGEST)


def _saved(name: str, content: bytes, blocks: dict[str, str]) -> Saved:
    data = a_dict(json.loads(content), "the report")
    one_of({SCHEMA})(data.get("schema"), "schema")
    one_of({f"{VERSION}"})(f"{data.get('version')}", "version")
    entries: dict[tuple[str, str, int], Entry] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for same, entry in _entries(data):
        place = entry.kind, same
        entries[(*place, seen[place])] = entry
        seen[place] += 1
    return Saved(name, _verdict(data.get("verdict"), "verdict"), entries, content, blocks)


def _entries(data: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Return what a report says, each with what it is paired by."""
    for number, row in enumerate(a_list(data.get("gradients"), "gradients")):
        where = f"gradients[{number}]"
        fields = a_dict(row, where)
        sweep = exactly(int)(fields.get("pass"), f"{where}.pass")
        name = text(fields.get("name"), f"{where}.name") + (f" (pass {sweep + 1})" if sweep else "")
        ratio, digits, norm = (
            _number(fields.get(k), f"{where}.{k}") for k in ("ratio", "digits", "norm")
        )
        verdict = _verdict(fields.get("verdict"), f"{where}.verdict")
        yield name, Entry(GRADIENT, name, verdict, ratio, digits, norm)
    for number, step in enumerate(a_list(data.get("steps"), "steps")):
        where = f"steps[{number}]"
        fields = a_dict(step, where)
        kind, title, module, line = (
            text(fields.get(k), f"{where}.{k}") for k in ("step", "title", "module", "line")
        )
        ratio, norm = (_number(fields.get(k), f"{where}.{k}") for k in ("ratio", "norm"))
        # The mistake's own line; a report of an earlier version does not have it.
        line = text(fields.get("wrong_at", ""), f"{where}.wrong_at") or line
        verdict = _verdict(fields.get("verdict"), f"{where}.verdict")
        name = f"{kind}: {title}"
        same = f"{module}\n{_NUMBERED.sub('', name)}"
        yield same, Entry(STEP, name, verdict, ratio, norm=norm, line=line)
    for number, note in enumerate(a_list(data.get("notes"), "notes")):
        where = f"notes[{number}]"
        fields = a_dict(note, where)
        kind, line = (text(fields.get(k), f"{where}.{k}") for k in ("kind", "line"))
        yield kind, Entry(NOTE, kind, None, line=line)


def _verdict(data: Any, where: str) -> Verdict:
    return Verdict(one_of({verdict.value for verdict in Verdict})(data, where))


def _number(data: Any, where: str) -> float:
    """Read a number; JSON has those that are not finite as text."""
    if type(data) in (int, float):
        return float(data)
    return float(one_of({"inf", "-inf", "nan"})(data, where))
