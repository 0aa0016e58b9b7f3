"""The SVG is well formed, shows everything in the picture, and needs no colour."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from gradwitness import experiment
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.looks import (
    CUT_WORDS,
    FLOW_WORDS,
    INHERITS_WORDS,
    INKS,
    PAPER,
    ROLE_WORDS,
    VERDICT_WORDS,
    WRONG_WORDS,
)
from gradwitness.report.picture.picture import Arrow, Box, Direction, Flow, Picture, Role
from gradwitness.report.picture.svg import arrange, write_svg
from gradwitness.report.picture.view import View, view
from gradwitness.report.text import wrap
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

SVG = "{http://www.w3.org/2000/svg}"
CHAR = 0.602

HOSTILE = [
    "<script>alert('x')</script>",
    "]]> <!-- --> <?php ?> <![CDATA[",
    "\"quoted\" & 'quoted' &amp; &#0;",
    "bell \x07 escape \x1b nul \x00 del \x7f c1 \x85",
    "surrogate \ud800 end \ufffe \U0001ffff",
    "turned \u202e round \u2066",
    "w" * 500,
    "日本語 " * 30,
    "two\nlines\r\nand\ttabs",
    "",
]


def box(key: str, role: Role = Role.OPERATION, **more: object) -> Box:
    fields: dict[str, object] = {"title": f"Title{key}", "lines": ("y = x",)} | more
    return Box(key, role, **fields)  # type: ignore[arg-type]


def picture(*boxes: Box, arrows: tuple[Arrow, ...] = (), **more: object) -> Picture:
    fields: dict[str, object] = {"title": "Headline", "subtitle": "what was run"} | more
    return Picture(boxes=boxes, arrows=arrows, **fields)  # type: ignore[arg-type]


def everything() -> Picture:
    """One box of every role and verdict, both flows, and a legend."""
    verdicts = [None, *Verdict, *Verdict]
    boxes = [
        box(role.name, role, verdict=verdict, verdict_text=f"says {verdict}", note=f"<{role.name}>")
        for role, verdict in zip(Role, verdicts, strict=False)
    ]
    arrows = [Arrow("RESULT", role.name, Flow.GRADIENT, f"to {role.name}") for role in Role][1:]
    arrows.append(Arrow("OPERATION", "SAVED", Flow.SAVED, "kept"))
    arrows.append(Arrow("OPERATION", "MISSING", Flow.MISSING, "frozen"))
    return picture(*boxes, arrows=tuple(arrows), legend=("The first sentence.", "The second."))


def drawn(source: Picture) -> ET.Element:
    return ET.fromstring(write_svg(source))  # noqa: S314  # our own writer's text


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def group_of(root: ET.Element, number: int) -> ET.Element:
    group = root.find(f".//{SVG}g[@id='box-{number}']")
    assert group is not None
    return group


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_text_is_shown_as_text_and_is_well_formed(label: str) -> None:
    hostile = box("a", title=label, lines=(label,), verdict_text=label, note=label)
    source = picture(
        hostile,
        box("b"),
        arrows=(Arrow("a", "b", Flow.GRADIENT, label),),
        title=label,
        subtitle=label,
        legend=(label,),
    )
    root = drawn(source)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "defs", "marker", "path", "rect", "g", "text", "circle"}
    rest = iter("".join(texts(group_of(root, 0))))
    kept = [char for char in label if char.isascii() and char.isprintable() and char != " "]
    # Title, line and verdict, each with all its characters in their order.
    assert all(char in rest for char in 3 * kept)
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\ufffe]", "".join(root.itertext())
    )


@settings(max_examples=60)
@given(st.text(), st.text())
def test_any_text_is_well_formed(title: str, note: str) -> None:
    drawn(picture(box("a", title=title, note=note), title=note))


def test_all_that_the_picture_holds_is_shown() -> None:
    source = everything()
    root = drawn(source)
    strings = texts(root)
    assert {"Headline", "what was run", "The first sentence.", "The second."} <= set(strings)
    assert {arrow.label for arrow in source.arrows} <= set(strings)
    for number, expected_box in enumerate(source.boxes):
        group = group_of(root, number)
        expected = [expected_box.title, *expected_box.lines, expected_box.verdict_text]
        assert [text for text in texts(group) if text != "?"] == expected
        note = group.find(f"{SVG}title")
        assert note is not None
        assert note.text == expected_box.note


def test_titles_are_bold_and_notes_are_left_out_where_empty() -> None:
    group = group_of(drawn(picture(box("a"))), 0)
    title, line = group.findall(f"{SVG}text")
    assert title.get("font-weight") == "bold"
    assert line.get("font-weight") is None
    assert group.find(f"{SVG}title") is None


def test_verdicts_differ_without_colour() -> None:
    boxes = [box(verdict.name, verdict=verdict) for verdict in Verdict]
    root = drawn(picture(*boxes))
    forms, edges = set(), set()
    for number in range(3):
        group = group_of(root, number)
        badge = group.find(f"{SVG}g")
        assert badge is not None
        # The form of a badge: its elements and how many corners they have.
        forms.add(tuple((part.tag, part.get("d", "").count("L"), part.text) for part in badge))
        outline = group.find(f"{SVG}rect")
        assert outline is not None
        edges.add(outline.get("stroke-width"))
    assert len(forms) == 3
    assert len(edges) == 3


def test_every_role_has_a_shape_of_its_own() -> None:
    boxes = [box(role.name, role, title="same", lines=()) for role in Role]
    root = drawn(picture(*boxes))
    shapes = {
        tuple(
            (part.tag, part.get("rx"), part.get("d", "").count("L"), part.get("stroke-dasharray"))
            for part in group_of(root, number)
            if part.tag != f"{SVG}text"
        )
        for number in range(len(boxes))
    }
    assert len(shapes) == len(Role)
    custom = group_of(root, list(Role).index(Role.CUSTOM))[0]
    assert custom.attrib["d"].count("L") == 7  # eight corners
    saved = group_of(root, list(Role).index(Role.SAVED))[0]
    assert saved.get("stroke-dasharray") == "5 3"


def test_flows_differ_in_line_and_head() -> None:
    arrows = tuple(Arrow("a", "b", flow) for flow in Flow)
    root = drawn(picture(box("a"), box("b"), arrows=arrows))
    drawing = root.find(f"{SVG}g[@transform]")
    assert drawing is not None
    lines = drawing.findall(f"{SVG}path")
    dashes = {line.get("marker-end"): line.get("stroke-dasharray") for line in lines}
    assert dashes.keys() == {f"url(#head-{flow.value})" for flow in Flow}
    assert dashes["url(#head-gradient)"] is None
    assert len(set(dashes.values())) == 3
    heads = {marker.get("id"): marker[0].get("fill") for marker in root.iter(f"{SVG}marker")}
    assert heads["head-saved"] == "none" != heads["head-gradient"]


def test_the_legend_explains_what_is_there_and_nothing_else() -> None:
    strings = set(texts(drawn(everything())))
    assert set(ROLE_WORDS.values()) <= strings
    assert set(VERDICT_WORDS.values()) <= strings
    assert set(FLOW_WORDS.values()) <= strings
    strings = set(texts(drawn(picture(box("a", verdict=Verdict.AGREES)))))
    assert strings & set(ROLE_WORDS.values()) == {ROLE_WORDS[Role.OPERATION]}
    assert strings & set(VERDICT_WORDS.values()) == {VERDICT_WORDS[Verdict.AGREES]}
    assert strings.isdisjoint(FLOW_WORDS.values())


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("text", ["short", "x" * 64, "a longer line of many words " * 9, "語" * 40])
def test_text_stays_inside_its_box(role: Role, text: str) -> None:
    boxes = (
        box("title", role, title=text, verdict=Verdict.AGREES),
        box("lines", role, title="T", lines=(text,)),
        box("verdict", role, title="T", verdict=Verdict.AGREES, verdict_text=text),
    )
    root = drawn(picture(*boxes))
    for number in range(3):
        assert_text_inside(group_of(root, number))


def assert_text_inside(group: ET.Element) -> None:
    outline = next(part for part in group if part.tag in (f"{SVG}rect", f"{SVG}path"))
    if outline.tag == f"{SVG}rect":
        left, top = float(outline.attrib["x"]), float(outline.attrib["y"])
        right = left + float(outline.attrib["width"])
        bottom = top + float(outline.attrib["height"])
    else:
        numbers = [float(number) for number in re.findall(r"[\d.]+", outline.attrib["d"])]
        left, right = min(numbers[::2]), max(numbers[::2])
        top, bottom = min(numbers[1::2]), max(numbers[1::2])
    for line in group.findall(f"{SVG}text"):
        x, y, size = (float(line.attrib[name]) for name in ("x", "y", "font-size"))
        assert left + 10 <= x
        assert x + cell_len(line.text or "") * size * CHAR <= right - 10
        assert top + 5 <= y - 0.8 * size
        assert y + 0.2 * size <= bottom - 5


def test_the_first_line_keeps_clear_of_the_badge() -> None:
    b = box("a", title="T" * 40, verdict=Verdict.AGREES)
    group = group_of(drawn(picture(b)), 0)
    circle = next(group.iter(f"{SVG}circle"))
    title = next(group.iter(f"{SVG}text"))
    end = float(title.attrib["x"]) + 40 * CHAR * float(title.attrib["font-size"])
    assert end < float(circle.attrib["cx"]) - float(circle.attrib["r"])


def test_long_lines_are_wrapped_and_no_character_is_lost() -> None:
    text = " ".join(f"word{number}" for number in range(60)) + "z" * 150
    lines = wrap(text)
    assert max(map(cell_len, lines)) <= 64
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(cell_len, wrap("語" * 100))) <= 64


def test_labels_cover_neither_boxes_nor_each_other() -> None:
    arrows = tuple(Arrow("a", "b", Flow.GRADIENT, f"label {number}") for number in range(3))
    root = drawn(picture(box("a"), box("b"), arrows=arrows))
    drawing = root.find(f"{SVG}g[@transform]")
    assert drawing is not None
    labels = [(float(t.attrib["x"]), float(t.attrib["y"])) for t in drawing.findall(f"{SVG}text")]
    assert len(labels) == 3
    width = 7 * CHAR * 10.5
    for number, (x, y) in enumerate(labels):
        assert all(abs(x - x2) >= width or abs(y - y2) >= 12 for x2, y2 in labels[:number])
        for side in (0, 1):
            outline = group_of(root, side)[0]
            top = float(outline.attrib["y"])
            assert y < top or y - 10 > top + float(outline.attrib["height"])


@lru_cache(maxsize=1)
def default() -> Picture:
    run = experiment.run(experiment.preset("default"))
    return draw(run.tape, run.report, title="")


@pytest.mark.parametrize(
    "chosen",
    [View(), View(unfold=True), View(unfold=True, rightward=True), View(compact=True, unfold=True)],
)
def test_nothing_covers_anything_in_the_picture_of_the_experiment(chosen: View) -> None:
    sheet = arrange(view(default(), chosen))
    layout = sheet.layout
    boxes = [
        (x, y, x + card.width, y + card.height)
        for x, y, card in zip(layout.x, layout.y, sheet.cards, strict=True)
    ]
    labels = [(label.left, label.y - 6, label.right, label.y + 6) for label in sheet.labels]
    assert len(labels) == sum(bool(arrow.text) for arrow in sheet.picture.arrows)
    rectangles = boxes + labels
    for number, (left, top, right, bottom) in enumerate(rectangles):
        for left2, top2, right2, bottom2 in rectangles[:number]:
            assert left >= right2 or left2 >= right or top >= bottom2 or top2 >= bottom


def test_no_arrow_runs_through_the_name_of_another() -> None:
    run = experiment.run(experiment.preset("conv"))
    sheet = arrange(view(draw(run.tape, run.report, title="")))
    assert sheet.layout.cut.any()
    names = [label for label in sheet.labels if re.search(r"to \(\d|from ", label.text)]
    assert len(names) == 2
    for label in names:
        for pieces in sheet.layout.routes:
            for piece in pieces:
                for start in range(0, len(piece) - 1, 3):
                    # The points of a cubic curve, by its definition.
                    t = np.linspace(0, 1, 200)[:, None]
                    weights = np.hstack(
                        [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3]
                    )
                    x, y = (weights @ piece[start : start + 4]).T
                    beside = (x <= label.left) | (x >= label.right)
                    assert np.all(beside | (abs(y - label.y) >= 6))


@pytest.mark.parametrize("direction", [Direction.DOWN, Direction.RIGHT])
def test_names_of_cut_arrows_have_room(direction: Direction) -> None:
    chain = [box(f"c{number}") for number in range(40)]
    arrows = [Arrow(f"c{n}", f"c{n + 1}", Flow.GRADIENT, "dx", "(2,3)") for n in range(39)]
    arrows += [Arrow(b.key, "leaf", Flow.GRADIENT, "a long name", "(2,3)") for b in chain]
    leaf = box("leaf", Role.LEAF, title="a leaf with a long name")
    source = picture(*chain, leaf, arrows=tuple(arrows))
    sheet = arrange(replace(source, direction=direction))
    assert sheet.layout.cut.sum() == 39
    for label in sheet.labels:
        for x, y, card in zip(sheet.layout.x, sheet.layout.y, sheet.cards, strict=True):
            beside = label.right <= x or label.left >= x + card.width
            assert beside or label.y + 6 <= y or label.y - 6 >= y + card.height


@settings(max_examples=40)
@given(st.integers(2, 8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12))
def test_labels_of_any_small_picture_stay_off_the_boxes(
    count: int, pairs: list[tuple[int, int]]
) -> None:
    arrows = tuple(
        Arrow(f"b{min(a, b) % count}", f"b{max(a, b) % count}", Flow.GRADIENT, f"dx{n}", "(2,3)")
        for n, (a, b) in enumerate(pairs)
        if a % count != b % count
    )
    sheet = arrange(picture(*(box(f"b{n}") for n in range(count)), arrows=arrows))
    tops, lefts = sheet.layout.y, sheet.layout.x
    for label in sheet.labels:
        for x, y, card in zip(lefts, tops, sheet.cards, strict=True):
            beside = label.right <= x or label.left >= x + card.width
            assert beside or label.y + 6 <= y or label.y - 6 >= y + card.height


def test_what_runs_on_a_wrong_gradient_differs_without_colour() -> None:
    source = picture(
        box("a", verdict=Verdict.DISAGREES),
        box("b", verdict=Verdict.AGREES, inherits=True),
        box("c", verdict=Verdict.AGREES),
        arrows=(Arrow("a", "b", Flow.GRADIENT, wrong=True), Arrow("a", "c", Flow.GRADIENT)),
    )
    root = drawn(source)
    outlines = [group_of(root, number).find(f"{SVG}rect") for number in range(3)]
    dashes = [outline.get("stroke-dasharray") for outline in outlines if outline is not None]
    assert [bool(dash) for dash in dashes] == [False, True, False]
    drawing = root.find(f"{SVG}g[@transform]")
    assert drawing is not None
    widths = [float(path.attrib["stroke-width"]) for path in drawing.findall(f"{SVG}path")]
    assert widths[0] > 2 * widths[1]
    strings = texts(root)
    assert strings.count(INHERITS_WORDS) == 2  # in the box, and in the legend
    assert WRONG_WORDS in strings


def test_a_step_behind_a_wrong_one_has_its_own_verdict_in_its_own_colour() -> None:
    behind = replace(
        box("a"), verdict=Verdict.AGREES, verdict_text="AGREES, 0.3 x bound", inherits=True
    )
    texts = {t.text: t.attrib for t in group_of(drawn(picture(behind)), 0).findall(f"{SVG}text")}
    own, words = texts["AGREES, 0.3 x bound"], texts["runs on a wrong gradient"]
    assert (own["fill"], own["font-weight"]) == (INKS[Verdict.AGREES].edge, "bold")
    assert words["fill"] == INKS[Verdict.DISAGREES].edge
    assert "font-weight" not in words


def test_a_small_picture_takes_the_direction_in_which_it_is_larger() -> None:
    boxes = [box(f"b{n}") for n in range(12)]
    arrows = tuple(Arrow(f"b{n}", f"b{n + 1}", Flow.GRADIENT) for n in range(11))
    chain = picture(*boxes, arrows=arrows)
    scales = {
        direction: arrange(replace(chain, direction=direction)).scale for direction in Direction
    }
    assert scales[Direction.FIT] == max(scales.values())
    # A single column of twelve boxes would be far smaller.
    tall = 12 * 60 + 11 * 64
    assert scales[Direction.FIT] > 1.3 * 793.7 / tall


def test_a_wide_legend_has_two_columns_and_keeps_sentences_whole() -> None:
    sentences = tuple(f"Sentence {n} " + "of many words " * 12 for n in range(6))
    # So many boxes that the legend is below them.
    boxes = [box(f"b{n}", lines=("x" * 48,)) for n in range(30)]
    root = drawn(picture(*boxes, legend=sentences))
    legend = root.find(f"{SVG}g[@class='legend']")
    assert legend is not None
    lines = [(float(t.attrib["x"]), t.text or "") for t in legend.findall(f"{SVG}text")]
    columns = sorted({x for x, text in lines if "many words" in text or "Sentence" in text})
    assert len(columns) == 2
    for column in columns:
        first = next(text for x, text in lines if x == column and "many words" in text)
        assert first.startswith("Sentence")


def test_a_label_that_sticks_out_widens_the_picture() -> None:
    arrows = (Arrow("a", "b", Flow.GRADIENT, "m" * 200),)
    root = drawn(picture(box("a"), box("b"), arrows=arrows))
    drawing = root.find(f"{SVG}g[@transform]")
    assert drawing is not None
    shift = float(re.findall(r"[\d.]+", drawing.attrib["transform"])[0])
    (label,) = drawing.findall(f"{SVG}text")
    left = shift + float(label.attrib["x"])
    assert left > 0
    assert left + 200 * CHAR * 10.5 < float(root.attrib["width"])


def test_cut_arrows_are_named_at_both_ends() -> None:
    chain = [box(f"c{number}", lines=()) for number in range(150)]
    leaf = box("leaf", Role.LEAF, title="SharedLeaf")
    arrows = [Arrow(f"c{number}", f"c{number + 1}", Flow.GRADIENT) for number in range(149)]
    arrows += [Arrow(b.key, "leaf", Flow.GRADIENT) for b in chain]
    root = drawn(picture(*chain, leaf, arrows=tuple(arrows)))
    strings = texts(root)
    (arrival,) = [text for text in strings if text.startswith("(1) from")]
    leaving = strings.count("to (1) SharedLeaf")
    assert arrival == f"(1) from {leaving} boxes"
    assert leaving > 10
    paths = [path.attrib["d"] for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(paths) == len(set(paths))
    assert any(text.startswith(CUT_WORDS[:30]) for text in strings)


def test_the_document_is_accessible_and_has_a_white_ground() -> None:
    root = drawn(everything())
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Headline: what was run"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == "Headline"
    ground = root.find(f"{SVG}rect")
    assert ground is not None
    assert ground.attrib == {
        "fill": PAPER,
        "width": root.attrib["width"],
        "height": root.attrib["height"],
    }


def test_the_same_picture_gives_the_same_text() -> None:
    assert write_svg(everything()) == write_svg(everything())


def test_an_empty_picture_is_a_picture() -> None:
    root = drawn(picture(subtitle=""))
    assert texts(root) == ["Headline"]
    assert float(root.attrib["height"]) > 0


def test_pictures_that_do_not_hold_together_are_refused(snapshot: SnapshotAssertion) -> None:
    for wrong in (
        picture(box("a"), box("a")),
        picture(box("a"), arrows=(Arrow("a", "b", Flow.GRADIENT),)),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is read)
            write_svg(wrong)
        assert str(error.value) == snapshot
