"""The Graphviz text reads back as what the picture says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gradwitness.report.picture.dot import write_dot
from gradwitness.report.picture.looks import VERDICT_WORDS
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

# A statement as the grammar of Graphviz has it: inside quotes a backslash takes the next
# character along.
QUOTED = r'"(?:[^"\\]|\\.)*"'
STATEMENT = re.compile(rf"  (?P<name>\w+(?: -> \w+)?) \[(?P<list>(?:\w+={QUOTED}(?:, )?)*)\];")


def read(text: str) -> dict[str, list[dict[str, str]]]:
    """Attributes of every statement, by the name it is about; fails on anything else."""
    first, *lines, last, end = text.split("\n")
    assert (first, last, end) == ("digraph gradwitness {", "}", "")
    statements: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        match = STATEMENT.fullmatch(line)
        assert match, line
        pairs = re.findall(rf"(\w+)=({QUOTED})", match["list"])
        statements.setdefault(match["name"], []).append(
            {name: value[1:-1] for name, value in pairs}
        )
    return statements


def shown(label: str) -> list[str]:
    r"""Lines that Graphviz sets for a label: escapes and entities undone, split at ``\l``."""
    lines = [""]
    for piece in re.findall(r"\\.|&\w+;|.", label):
        if piece == "\\l":
            lines.append("")
        else:
            plain = {"\\\\": "\\", '\\"': '"', "&amp;": "&"}.get(piece, piece)
            assert len(plain) == 1, piece
            lines[-1] += plain
    return lines[:-1] if label.endswith("\\l") else lines


def picture(*boxes: Box, arrows: tuple[Arrow, ...] = (), title: str = "Headline") -> Picture:
    return Picture(title, "what was run", boxes, arrows, ("A sentence.",))


@pytest.mark.parametrize(
    "text",
    [
        'say "x"',
        "ends in \\",
        '\\"',
        "\\N \\G \\l \\n",
        "&lt;b&gt; & &amp;",
        "<b>html</b>",
        "a -> b; } //",
        "日本語",
    ],
)
def test_hostile_text_reads_back_unchanged(text: str) -> None:
    boxes = (Box("k", Role.OPERATION, text, (text,), None, text, text), Box("j", Role.LEAF, "", ()))
    arrows = (Arrow("k", "j", Flow.SAVED, text),)
    statements = read(write_dot(picture(*boxes, arrows=arrows, title=text)))
    (node,) = statements["n0"]
    assert shown(node["label"]) == [text, text, text]
    assert shown(node["tooltip"].removesuffix("\\n")) == [text]
    assert shown(statements["n0 -> n1"][0]["label"]) == [text]
    assert shown(statements["graph"][0]["label"])[0] == text


def test_control_characters_and_line_ends() -> None:
    text = "a\x00b\x1bc\nd\te\u202ef"
    (node,) = read(write_dot(picture(Box("k", Role.LEAF, text, ()))))["n0"]
    assert shown(node["label"]) == ["a\\x00b\\x1bc", "d   e\\u202ef"]


def test_roles_and_verdicts_have_shapes_and_marks() -> None:
    boxes = [Box(role.name, role, role.name, ()) for role in Role]
    boxes += [Box(v.name, Role.OPERATION, v.name, ("line",), v, f"so it {v.name}") for v in Verdict]
    statements = read(write_dot(picture(*boxes)))
    nodes = [statements[f"n{number}"][0] for number in range(len(boxes))]
    looks = {(node["shape"], node["style"], node["peripheries"]) for node in nodes}
    assert len(looks) == len(Role)
    judged = nodes[len(Role) :]
    labels = [shown(node["label"]) for node in judged]
    assert [label[0] for label in labels] == ["AGREES  ✓", "DISAGREES  ✗", "INCONCLUSIVE  ?"]
    assert [label[-1] for label in labels] == [f"so it {verdict.name}" for verdict in Verdict]
    assert len({node["penwidth"] for node in judged}) == 3
    assert len({node["color"] for node in judged}) == 3
    foot = "\n".join(shown(statements["graph"][0]["label"]))
    assert all(words in foot for words in VERDICT_WORDS.values())
    assert "A sentence." in foot


def test_every_arrow_is_there_in_its_own_style() -> None:
    arrows = (
        Arrow("a", "b", Flow.GRADIENT, "first"),
        Arrow("a", "b", Flow.SAVED),
        Arrow("b", "a", Flow.GRADIENT, "back"),
    )
    boxes = (Box("a", Role.OPERATION, "A", ()), Box("b", Role.SAVED, "B", ()))
    statements = read(write_dot(picture(*boxes, arrows=arrows)))
    gradient, saved = statements["n0 -> n1"]
    assert (gradient["label"], gradient["style"], saved["style"]) == ("first", "solid", "dashed")
    assert gradient["arrowhead"] != saved["arrowhead"]
    assert "label" not in saved
    assert statements["n1 -> n0"][0]["label"] == "back"


def test_nothing_explained_that_is_not_there(snapshot: SnapshotAssertion) -> None:
    foot = shown(read(write_dot(picture(Box("a", Role.LEAF, "A", ()))))["graph"][0]["label"])
    assert foot == snapshot


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="'z'"):
        write_dot(picture(arrows=(Arrow("z", "z", Flow.SAVED),)))
