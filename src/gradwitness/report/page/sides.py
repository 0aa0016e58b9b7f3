"""Two saved reports as one page: what it shows before its script has run, and what that reads."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gradwitness._printable import one_line
from gradwitness.judging.numbers import digits_right, short
from gradwitness.report.compared import GRADIENT, NOTE, STEP, How
from gradwitness.report.page.columns import packed
from gradwitness.report.page.first_screen import look, text_screen
from gradwitness.report.page.subject import Texts
from gradwitness.report.tables.terminal import relative
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.compared import Change, Compared, Entry, Saved

# Of what changed; the rest is in the script's tables.
_LISTED, _WORST = 200, 10
_MARKS = {
    How.WORSE: "\u25bc",
    How.BETTER: "\u25b2",
    How.MOVED: "\u25c6",
    How.NEW: "+",
    How.GONE: "\u2212",
}
_HEADLINES = {
    Verdict.AGREES: "Nothing became worse",
    Verdict.DISAGREES: "Something became worse",
    Verdict.INCONCLUSIVE: "Something is newly in doubt",
}


def sides_screen(found: Compared) -> dict[str, Any]:
    """Return what the template needs, as plain data."""
    changes = sorted(found.changes, key=lambda change: not change.is_worse)
    worse = [change for change in changes if change.is_worse]
    sides = [_side(found.before), _side(found.after)]
    # What did not become worse may be bad enough.
    shown = found.after.verdict if found.verdict is Verdict.AGREES else found.verdict
    return text_screen(Texts(found.verdict, ())) | {
        "verdict": look(shown) | {"word": _HEADLINES[found.verdict]},
        "sentence": " \u2192 ".join(f"{s['name']} {s['verdict']['word']}" for s in sides),
        "sides": sides,
        "own": "after" if _own(found) is found.after else "before",
        "has_graph": _has_graph(_own(found)),
        "worse": [_change(change) for change in worse[:_WORST]],
        "more_worse": max(len(worse) - _WORST, 0),
        "changes": [_change(change) for change in changes[:_LISTED]],
        "more_changes": max(len(changes) - _LISTED, 0),
        "same": found.same,
    }


def sides_blocks(found: Compared) -> dict[str, str]:
    """Return the data of a page with both: all of a page that was given, and the other report."""
    own = _own(found)
    other = found.before if own is found.after else found.after
    return (own.blocks or {"record": packed(own.content)}) | {"other": packed(other.content)}


def _own(found: Compared) -> Saved:
    """Return the report that this page begins from: the later one that has a graph, if any."""
    is_before = _has_graph(found.before) and not _has_graph(found.after)
    return found.before if is_before else found.after


def _has_graph(saved: Saved) -> bool:
    return "nodes" in saved.blocks


def _side(saved: Saved) -> dict[str, Any]:
    counts = Counter((entry.kind, entry.verdict) for entry in saved.entries.values())
    return {
        "name": one_line(relative(saved.name)),
        "verdict": look(saved.verdict),
        "counts": {
            kind: [(look(verdict), counts[kind, verdict]) for verdict in Verdict]
            for kind in (STEP, GRADIENT)
        },
        "notes": counts[NOTE, None],
    }


def _change(change: Change) -> dict[str, Any]:
    entry, pair = change.entry, (change.before, change.after)
    return {
        "how": change.how.value,
        "mark": _MARKS[change.how],
        "kind": entry.kind,
        "name": one_line(entry.name),
        "line": one_line(relative(entry.line)),
        "verdicts": _distinct([_standing(each) for each in pair]),
        "figures": [
            " \u2192 ".join(_distinct(["absent" if e is None else figure(e) for e in pair]))
            for figure in (_bound, _norm, _digits)
        ],
    }


def _standing(entry: Entry | None) -> dict[str, str]:
    if entry is None:
        return {"word": "absent", "kind": "unjudged", "mark": "\u2212"}
    if entry.verdict is None:
        return {"word": "there", "kind": "unjudged", "mark": "+"}
    return look(entry.verdict)


def _distinct(pair: list[Any]) -> list[Any]:
    return pair[:1] if pair[0] == pair[1] else pair


def _bound(entry: Entry) -> str:
    return short(entry.ratio)


def _norm(entry: Entry) -> str:
    return short(entry.norm)


def _digits(entry: Entry) -> str:
    return digits_right(entry.digits)
