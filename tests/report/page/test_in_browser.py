"""The page in a real browser: every control is used, and the console must stay silent."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.table import Table

import gradwitness
from gradwitness import experiment
from gradwitness.api.targets import run_target
from gradwitness.report.page import columns
from gradwitness.report.page.page import write_page
from gradwitness.report.page.subject import Subject
from gradwitness.report.record import dumps, report_record
from gradwitness.report.save import save_report
from report.page.browser import Browser, needs_browser

pytestmark = needs_browser

SWISH = Path(__file__).parents[3] / "examples" / "swish.py"
HOSTILE = "a</script><script>hacked=1</script><img src=x onerror=hacked=2>'\"&lt;\u05d0"
STICKS_OUT = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
LONG = "x" * 10_000
CUT = "return [...document.querySelectorAll(arguments[0])].map(e => e.scrollWidth - e.clientWidth)"
# From a copy, since reading a canvas itself more than once is complained of.
PIXELS = (
    "const pixels = (c, from, width) => { const to = new OffscreenCanvas(c.width, c.height)"
    ".getContext('2d', {willReadFrequently: true}); to.drawImage(c, 0, 0);"
    "return to.getImageData(from, 0, width, c.height).data; };"
)


@pytest.fixture(scope="module")
def swish(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("swish") / "report.html"
    run = run_target(f"{SWISH}:step")
    save_report(path, run.tape, run.report)
    return path, run.report


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deep") / "report.html"
    outcome = experiment.run(experiment.preset("default"))
    save_report(path, outcome.tape, outcome.report)
    return path


def rows(browser: Browser, table: str = "#steps") -> list[list[str]]:
    """Return the cells of the lines that are shown."""
    found: list[list[str]] = browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' .all [role=row]')].map("
        "row => [...row.children].map(cell => cell.innerText.trim()))",
        table,
    )
    return found


def drawing(browser: Browser) -> str:
    """Return the graph's pixels, once they are drawn."""
    browser.settle()
    found = browser.run("return document.querySelector('.drawing').toDataURL()")
    assert isinstance(found, str)
    return found


def address(browser: Browser) -> str:
    return str(browser.run("return location.hash"))


def test_the_first_screen_needs_no_script(browser: Browser, swish: tuple[Path, Any]) -> None:
    tell = browser.driver.execute_cdp_cmd
    tell("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(swish[0].as_uri())
        body = browser.driver.find_element("tag name", "body").text
    finally:
        tell("Emulation.setScriptExecutionDisabled", {"value": False})
    for said in ("DISAGREES", "SwishBackward #3", "swish.py:21", "return g * torch.sigmoid(x)"):
        assert said in body
    assert "need JavaScript" in body
    assert "first.weight" in body


def test_steps_are_filtered(browser: Browser, swish: tuple[Path, Any]) -> None:
    path, report = swish
    browser.open(path)
    assert f"{len(report.findings)} of {len(report.findings)}" in browser.text("#steps h2")
    browser.choose("#steps .bar label:nth-of-type(1) select", "DISAGREES")
    assert [row[:3] for row in rows(browser)] == [
        ["✗\nDISAGREES", "backward", "SwishBackward #3, gradient of x (input 0)"]
    ]
    browser.click("#steps .bar button")
    browser.choose("#steps .bar label:nth-of-type(2) select", "accumulate")
    assert {row[1] for row in rows(browser)} == {"accumulate"}
    assert len(rows(browser)) == 4
    browser.click("#steps .bar button")
    for name, written, cell in (
        ("module", "second", 3),
        ("operation", "aten.addmm", 2),
        ("parameter", "first.bias", 4),
    ):
        browser.write(f"#steps input[list=list-{name}]", written)
        shown = rows(browser)
        assert 0 < len(shown) < len(report.findings)
        assert all(written.removeprefix("aten.") in row[cell].lower() for row in shown)
        browser.click("#steps .bar button")
    browser.write("#steps input[type=search]", "gradient of x (input 0)")
    assert len(rows(browser)) == 1


def test_rounded_figures_read_the_same(
    browser: Browser, swish: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(path: Path) -> tuple[Any, ...]:
        browser.open(path, "#n3")
        browser.until(lambda: browser.count("#panel canvas.map") == 1)
        browser.click("#svg")
        tables = [rows(browser, table) for table in ("#steps", "#all-gradients")]
        return *tables, browser.text("#panel .step"), browser.downloaded("graph.svg")

    exact = shown(swish[0])
    monkeypatch.setattr(columns, "_MOST_EXACT", 0)
    run = run_target(f"{SWISH}:step")
    save_report(tmp_path / "a.html", run.tape, run.report)
    rounded = shown(tmp_path / "a.html")
    assert rounded[2:] == exact[2:]
    for table, fine in zip(rounded[:2], exact[:2], strict=True):
        for row, other in zip(table, fine, strict=True):
            for cell, figure in zip(row, other, strict=True):
                # The third digit of a product of rounded numbers may be the next one.
                assert cell == figure or float(cell) == pytest.approx(float(figure), rel=0.01)


def test_steps_are_sorted(browser: Browser, swish: tuple[Path, Any]) -> None:
    path, report = swish
    browser.open(path)
    first = [row[2] for row in rows(browser)]
    bound = "#steps .head > :nth-child(6) button"
    browser.click(bound)
    figures = [float(row[5]) for row in rows(browser)]
    assert figures == sorted(figures)
    browser.click(bound)
    figures = [float(row[5]) for row in rows(browser)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] == pytest.approx(report.first_wrong.comparison.ratio, rel=1e-2)
    browser.click(bound)
    assert [row[2] for row in rows(browser)] == first


def test_only_the_lines_in_sight_are_elements(browser: Browser, deep: Path) -> None:
    browser.open(deep)
    assert "250 of 250" in browser.text("#steps h2")
    assert len(rows(browser)) < 60
    browser.run("document.querySelector('#steps .lines').scrollTop = 1e9")
    browser.until(lambda: rows(browser)[-1][2].startswith("AccumulateGrad"))
    assert len(rows(browser)) < 60


def test_table_graph_and_panel_go_together(browser: Browser, swish: tuple[Path, Any]) -> None:
    browser.open(swish[0])
    before = drawing(browser)
    browser.choose("#steps .bar label:nth-of-type(1) select", "DISAGREES")
    browser.click("#steps .all [role=row]")
    number = int(address(browser).removeprefix("#s"))
    assert swish[1].findings[number].title == "SwishBackward #3, gradient of x (input 0)"
    assert browser.text("#panel h2") == "SwishBackward #3"
    assert drawing(browser) != before
    # The other way: a box of the graph selects the panel and a line of the table.
    browser.click("#steps .bar button")
    browser.write("#search", "MseLoss")
    browser.press("#search", "\ue007")
    browser.until(lambda: address(browser) == "#n0")
    assert browser.text("#panel h2") == "MseLossBackward0 #0"
    selected = "return document.querySelector('#steps [aria-selected=true]').innerText"
    assert "mse_loss" in browser.run(selected)
    browser.press(".drawing", "\ue00c")
    assert address(browser) == ""
    browser.click(".drawing")  # the box that the search has moved to the middle
    browser.until(lambda: address(browser) == "#n0")


def test_an_address_names_a_node_or_a_step(browser: Browser, swish: tuple[Path, Any]) -> None:
    path, report = swish
    browser.open(path, "#n3")
    panel = browser.text("#panel")
    assert "SwishBackward #3" in panel
    assert "0.0290416759" in panel  # the worst number: what torch has
    assert "in module Net" in panel
    browser.until(lambda: browser.count("#panel canvas.map") == 1)
    assert "largest 0.0325" in browser.text("#panel .errors").replace("brightest", "largest")
    assert browser.count("#panel .bars li") > 2
    browser.open(path, "#n5")
    assert browser.count("#panel math") > 3
    assert "first.weight" in browser.text("#panel")
    assert "saved as mat1" in browser.text("#panel")
    browser.click("#panel .neighbours a")
    browser.until(lambda: browser.text("#panel h2") == "SwishBackward #3")
    browser.open(path, "#s2")
    assert report.findings[2].title in browser.text("#panel [aria-current=true]")
    for nonsense in ("#n999999", "#s-1", "#<b>", "#n3x"):
        browser.open(path, nonsense)
        assert "Select a box" in browser.text("#panel")


def test_the_worst_entry_is_derived_on_request(browser: Browser, swish: tuple[Path, Any]) -> None:
    path, report = swish
    (row,) = [row for row in report.rows if row.name == "first.weight"]
    browser.open(path, f"#n{row.node}")
    browser.until(lambda: browser.count("#panel .derivation") == 1)
    entry = f"first.weight[{','.join(map(str, row.comparison.index))}]"
    assert entry in browser.text("#panel .derivation summary")
    assert browser.text("#panel .derivation pre") == ""
    browser.click("#panel .derivation summary")
    said = browser.text("#panel .derivation pre")
    assert said.startswith(f"{entry}: torch has {row.comparison.recorded:.9g}\n")
    assert "SwishBackward" in said
    assert "<- DISAGREES" in said
    assert said.endswith("The chain ends here.\n")


def test_keys(browser: Browser, swish: tuple[Path, Any]) -> None:
    browser.open(swish[0])
    browser.press(".drawing", "w")
    browser.until(lambda: browser.text("#panel h2") == "SwishBackward #3")
    browser.press(".drawing", "n")
    browser.until(lambda: address(browser) == "#n4")
    browser.press(".drawing", "p")
    browser.until(lambda: address(browser) == "#n3")
    for key, back in (("\ue012", "\ue014"), ("\ue013", "\ue015"), ("+", "f"), ("-", "f")):
        browser.press(".drawing", "f")
        before = drawing(browser)
        browser.press(".drawing", key)
        assert drawing(browser) != before
        browser.press(".drawing", back)
        assert drawing(browser) == before
    browser.press(".drawing", "/")
    assert browser.run("return document.activeElement.id") == "search"


def test_the_last_node_comes_before_the_first(browser: Browser, swish: tuple[Path, Any]) -> None:
    browser.open(swish[0])
    browser.press(".drawing", "p")
    assert address(browser) == "#n9"
    assert browser.run(
        "return [...document.querySelectorAll('#panel mo')].map(e => e.textContent)"
    ) == ["+="]
    browser.press(".drawing", "n")
    assert address(browser) == "#n0"


def test_the_graph_folds_and_unfolds(browser: Browser, deep: Path) -> None:
    def shown() -> int:
        return int(browser.text("#graph h2 .quiet").partition(" boxes")[0])

    browser.open(deep)
    first, folded = shown(), drawing(browser)
    assert first <= 24
    depths = browser.run("return [...document.querySelectorAll('#fold option')].map(o => o.text)")
    browser.choose("#fold", depths[-2])
    browser.until(lambda: shown() > first)
    browser.write("#search", "hidden5")
    browser.press("#search", "\ue007")
    assert browser.text("#panel h2") == "hidden5"
    assert "6 nodes are folded" in browser.text("#panel")
    browser.click("#panel button:nth-of-type(2)")
    assert {row[3] for row in rows(browser)} == {"hidden5"}
    before = shown()
    browser.click("#panel button:nth-of-type(1)")
    browser.until(lambda: shown() == before + 5)  # one box gives way to the six in it
    browser.choose("#fold", "folded")
    browser.until(lambda: shown() < first)
    for _ in depths:
        browser.press(".drawing", "u")
    browser.until(lambda: shown() == 84)
    for _ in depths:
        browser.press(".drawing", "o")
    browser.until(lambda: shown() < first)
    assert drawing(browser) != folded


def test_one_box_unfolds_and_folds_alone(browser: Browser, deep: Path) -> None:
    def shown() -> int:
        return int(browser.text("#graph h2 .quiet").partition(" boxes")[0])

    def find(name: str) -> None:
        browser.write("#search", name)
        browser.press("#search", "\ue007")

    browser.open(deep)
    depths = browser.run("return [...document.querySelectorAll('#fold option')].map(o => o.text)")
    browser.choose("#fold", depths[-2])
    find("hidden5")
    before, whole = shown(), drawing(browser)
    # By the pointer: the search has moved the box to the middle.
    browser.double_click(".drawing")
    browser.until(lambda: shown() == before + 5)
    assert drawing(browser) != whole
    nodes = []
    for _ in range(6):
        find("hidden5.")
        nodes.append(address(browser))
    browser.click("#svg")
    svg = ET.fromstring(browser.downloaded("graph.svg"))  # noqa: S314 (our own)
    boxes = [
        [float(rect.get(side, "nan")) for side in ("x", "y", "width", "height")]
        for rect in svg.iter("{http://www.w3.org/2000/svg}rect")
    ][1:]
    assert len(boxes) == before + 6  # and the frame, which is drawn first
    (left, top, wide, high), *others = boxes
    within = [
        left <= x and x + w <= left + wide and top <= y and y + h <= top + high
        for x, y, w, h in others
    ]
    assert sum(within) == 6
    for n, (x, y, w, h) in enumerate(others):
        assert within[n] or x + w <= left or left + wide <= x or y + h <= top or top + high <= y
        for a, b, wide_too, high_too in others[n + 1 :]:
            assert x + w <= a or a + wide_too <= x or y + h <= b or b + high_too <= y
    # By the keyboard, from a node in it: and what it was is back, to the pixel.
    browser.run("location.hash = arguments[0]", nodes[0])
    browser.press(".drawing", "\ue007")
    browser.until(lambda: shown() == before)
    find("hidden5")
    assert drawing(browser) == whole
    # Of all nodes, those of one module fold too.
    browser.choose("#fold", "every node")
    browser.until(lambda: shown() == 84)
    browser.press(".drawing", "\ue007")
    browser.until(lambda: shown() == 84 - 5)
    assert browser.complaints() == []


def test_colours_zoom_and_minimap(browser: Browser, deep: Path) -> None:
    browser.open(deep)
    seen = {drawing(browser)}
    for mode in ("norm", "module", "digits"):
        browser.choose("#mode", mode)
        seen.add(drawing(browser))
    assert len(seen) == 4
    browser.choose("#mode", "verdict")
    whole = drawing(browser)
    assert whole in seen
    for button in ("#in", "#out", ".minimap"):
        browser.click("#fit")
        assert drawing(browser) == whole
        browser.click("#in")
        zoomed = drawing(browser)
        assert zoomed != whole
        browser.click(button)
        assert drawing(browser) != zoomed


def test_files_to_take_away(browser: Browser, swish: tuple[Path, Any]) -> None:
    path, report = swish
    tape = run_target(f"{SWISH}:step").tape
    browser.open(path)
    browser.click("#svg")
    svg = ET.fromstring(browser.downloaded("graph.svg"))  # noqa: S314 (our own)
    texts = [element.text or "" for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "SwishBackward #3" in texts
    assert "(16,8) 0.301" in texts  # the gradient that Swish sends, and its norm
    buttons = "#steps .bar .gap ~ button"
    browser.click(f"{buttons}:nth-last-of-type(1)")
    assert browser.downloaded("report.json").decode() == dumps(report_record(report, tape))
    browser.choose("#steps .bar label:nth-of-type(1) select", "DISAGREES")
    browser.click(f"{buttons}:nth-last-of-type(2)")
    table = list(csv.DictReader(io.StringIO(browser.downloaded("steps.csv").decode())))
    assert [line["title"] for line in table] == ["SwishBackward #3, gradient of x (input 0)"]
    assert float(table[0]["error"]) == pytest.approx(report.first_wrong.comparison.error, rel=1e-6)
    browser.click("#all-gradients .bar button")
    table = list(csv.DictReader(io.StringIO(browser.downloaded("gradients.csv").decode())))
    assert [line["gradient of"] for line in table] == [row.name for row in report.rows]


def test_gradients_by_depth(browser: Browser, deep: Path) -> None:
    browser.open(deep)
    browser.until(lambda: browser.count("#charts .u-over") == 2)
    browser.click("#charts .u-over")
    browser.until(lambda: browser.text("#panel h2").startswith("AccumulateGrad"))
    browser.click("#all-gradients .all [role=row]")
    browser.until(lambda: "input.weight" in browser.text("#panel"))


def test_gradients_that_are_none(browser: Browser, tmp_path: Path) -> None:
    # d/dw (0 w) = 0, d/dv (inf v) = inf, d/du (1e-9 u) = 1e-9, d/dt (1e4 t) = 1e4.
    names = {"w": 0.0, "v": float("inf"), "u": 1e-9, "t": 1e4}
    leaves = {name: torch.ones((), requires_grad=True) for name in names}
    with gradwitness.watch(names=leaves) as witness:
        for name, factor in names.items():
            (leaves[name] * factor).backward()  # type: ignore[no-untyped-call]
    witness.save(tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    marks = browser.text("#charts .marks")
    for said in ("zero: w", "not finite: v", "vanishing: u", "exploding: t"):
        assert said in marks


def test_a_step_that_never_ran_backward(browser: Browser, tmp_path: Path) -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    with gradwitness.watch() as witness, pytest.raises(RuntimeError):
        weight.detach() @ weight.detach()
    witness.save(tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    assert "Nothing ran backward" in browser.text("#graph")
    browser.click("#theme")
    browser.click("#steps .all [role=row]")
    assert "aten.detach" in browser.text("#panel")


def test_a_redacted_page_works_too(
    browser: Browser, swish: tuple[Path, Any], tmp_path: Path
) -> None:
    run = run_target(f"{SWISH}:step")
    save_report(tmp_path / "a.html", run.tape, run.report, redact=True)
    browser.open(tmp_path / "a.html", "#n3")
    assert "SwishBackward #3" in browser.text("#panel")
    assert browser.count("#panel canvas.map") == 0
    browser.choose("#mode", "norm")
    assert "Left out on request" in browser.text("#contains")


def test_a_page_of_text(browser: Browser, tmp_path: Path) -> None:
    claims = {"w": torch.ones(3).numpy()}
    gradwitness.diff(claims, {"w": -claims["w"]}).save(tmp_path / "a.html")
    browser.driver.get((tmp_path / "a.html").as_uri())
    assert browser.text("h1").endswith("DISAGREES")
    assert "wrong sign" in browser.text("main")


def test_light_and_dark(browser: Browser, swish: tuple[Path, Any], tmp_path: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.open(swish[0])
    light = browser.run(ground)
    drawn = drawing(browser)
    browser.click("#theme")
    dark = browser.run(ground)
    assert dark != light
    assert drawing(browser) != drawn
    browser.open(swish[0], scheme="dark")
    assert browser.run(ground) == dark
    browser.click("#theme")
    assert browser.run(ground) == light


def test_on_paper(browser: Browser, swish: tuple[Path, Any]) -> None:
    browser.open(swish[0], media="print", scheme="dark")
    assert (
        browser.run("return getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    assert "first.weight" in browser.text("#gradients")
    # Words begin below their heading, figures end below theirs.
    cells = "[...document.querySelectorAll('#gradients tbody tr:first-child > *')]"
    sides = browser.run(f"return {cells}.map(cell => getComputedStyle(cell).textAlign)")
    assert sides == ["left"] * 3 + ["right"] * 3
    for left_out in ("#steps", "#panel", "#theme", ".bar"):
        shown = f"return getComputedStyle(document.querySelector('{left_out}')).display"
        assert browser.run(shown) == "none"


def test_a_wide_table_fits_the_paper(
    browser: Browser, swish: tuple[Path, Any], tmp_path: Path
) -> None:
    tape = run_target(f"{SWISH}:step").tape
    table = Table("probe", "what")
    table.add_row("random", "a random normal cotangent " * 10)
    page = tmp_path / "report.html"
    subject = Subject(tape, swish[1], swish[1].verdict, sections=(("Probes", table),))
    page.write_text(write_page(subject), encoding="utf-8")
    # A4 of 210 mm, with 10 mm of margin on either side.
    browser.open(page, media="print", width=718)
    assert browser.run(STICKS_OUT) == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(
    browser: Browser, deep: Path, swish: tuple[Path, Any], width: int
) -> None:
    for path in (deep, swish[0]):
        browser.open(path, "#n3", width=width)
        assert browser.run(STICKS_OUT) == 0
    if width == 1280:
        tables = "[...document.querySelectorAll('.table .lines')]"
        assert browser.run(f"return {tables}.map(e => e.scrollWidth - e.clientWidth)") == [0, 0]


def test_no_text_is_cut_where_there_is_room(browser: Browser, tmp_path: Path) -> None:
    run = run_target(f"{SWISH}:step")
    table = Table("law about", "at", "what")
    table.add_row("first.weight", "[20,13]", "the law holds for each unit of the layer " * 4)
    subject = Subject(
        run.tape,
        run.report,
        run.report.verdict,
        command="gradwitness check examples/grade/network.py:step --save report.html",
        sections=(("Laws", table),),
    )
    page = tmp_path / "a.html"
    page.write_text(write_page(subject), encoding="utf-8")
    browser.open(page, "#n3", width=1300)
    assert browser.run(CUT, "pre.command, .scroll") == [0, 0, 0]
    # Numbers stand on one line, and what tells the steps of a node apart is to be read.
    figures = "[...document.querySelectorAll('#panel .facts.grid dd')]"
    assert len(set(browser.run(f"return {figures}.map(e => e.clientHeight)"))) == 1
    assert set(browser.run(CUT, "#steps .all [role=cell]:is(:first-child, .figure)")) == {0}
    titles = zip(rows(browser), browser.run(CUT, "#steps .all .line > :nth-child(3)"), strict=True)
    cuts = [cut for row, cut in titles if row[2].startswith("AddmmBackward0 #1, gradient of ")]
    assert cuts == [0, 0, 0]


def test_the_longest_verdict_is_not_cut(browser: Browser, tmp_path: Path) -> None:
    witness = gradwitness.watch()
    with pytest.raises(ZeroDivisionError), witness:
        torch.ones(3, requires_grad=True) / (1 // 0)
    witness.save(tmp_path / "a.html")
    browser.open(tmp_path / "a.html", width=1200)
    assert rows(browser)[-1][0] == "?\nINCONCLUSIVE"
    assert set(browser.run(CUT, "#steps .all .line > :first-child")) == {0}


def test_the_last_names_below_a_plot_end_within_it(browser: Browser, deep: Path) -> None:
    browser.open(deep, width=1300)
    browser.until(lambda: browser.count("#charts canvas") == 2)
    browser.settle()
    ink = (
        f"{PIXELS}return [...document.querySelectorAll('#charts canvas')]"
        ".map(c => pixels(c, arguments[0] * c.width, 5).some(n => n > 0))"
    )
    assert browser.run(ink, 0.5) == [True, True]
    assert browser.run(ink, 0.99) == [False, False]


def test_the_mark_of_a_selected_box_is_whole(browser: Browser, swish: tuple[Path, Any]) -> None:
    browser.open(swish[0])

    def greens() -> Any:
        browser.settle()
        return browser.run(
            f"{PIXELS}const c = document.querySelector('.drawing'), p = pixels(c, 0, c.width);"
            "let n = 0;"
            "for (let i = 0; i < p.length; i += 4) n += p[i] === 0 && p[i + 1] === 121; return n"
        )

    before = greens()
    browser.run("location.hash = '#n0'")
    browser.until(lambda: browser.text("#panel h2") == "MseLossBackward0 #0")
    assert greens() >= before - 10 > 500


def test_the_graph_fits_its_frame_after_that_has_changed(
    browser: Browser, swish: tuple[Path, Any]
) -> None:
    browser.open(swish[0], width=420, height=3000)
    # A tall window is not filled by a frame that is mostly empty.
    assert browser.run("return document.querySelector('.drawing').clientHeight") <= 520
    narrow = drawing(browser)
    browser.open(swish[0], width=1300, height=3000)
    browser.resize(420, 3000)
    browser.until(lambda: drawing(browser) == narrow)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in (HOSTILE, LONG, "\x1b[2J\u202e"):
                self.register_parameter(name, torch.nn.Parameter(torch.ones(3)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for parameter in self.parameters():
                x = x * parameter
            return x

    model = torch.nn.Module()
    model.add_module(HOSTILE, Inner())
    with gradwitness.watch(model) as witness:
        getattr(model, HOSTILE)(torch.arange(3.0)).sum().backward()
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    witness.save(path)
    return path


def test_names_stay_text(browser: Browser, hostile: Path) -> None:
    browser.open(hostile, width=390)
    assert browser.run(STICKS_OUT) == 0
    browser.open(hostile)
    for node in range(7):
        browser.run("location.hash = arguments[0]", f"#n{node}")
        browser.until(lambda node=node: browser.text("#panel h2").endswith(f"#{node}"))  # type: ignore[misc]
    assert HOSTILE in browser.text("#all-gradients")
    assert browser.count("img, body script:not([id]) ~ script:not([id])") == 0
    assert browser.run("return typeof hacked === 'undefined'")
    browser.click("#svg")
    svg = browser.downloaded("graph.svg")
    assert HOSTILE[:20] in "".join(ET.fromstring(svg).itertext())  # noqa: S314 (our own)
    browser.click("#all-gradients .bar button")
    table = browser.downloaded("gradients.csv").decode()
    lines = list(csv.reader(io.StringIO(table)))
    assert lines[1][0] == f"{HOSTILE}.{HOSTILE}"


def test_a_name_is_no_formula_to_a_spreadsheet(browser: Browser, tmp_path: Path) -> None:
    leaf = torch.ones((), requires_grad=True)
    with gradwitness.watch(names={'=HYPERLINK("http://a")': leaf}) as witness:
        (leaf * 2).backward()  # type: ignore[no-untyped-call]
    witness.save(tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    browser.click("#all-gradients .bar button")
    lines = list(csv.reader(io.StringIO(browser.downloaded("gradients.csv").decode())))
    assert lines[1][0] == '\'=HYPERLINK("http://a")'


def test_the_page_reaches_for_nothing(session: Browser, swish: tuple[Path, Any]) -> None:
    session.open(swish[0])
    session.complaints()
    loaded = session.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    session.run("fetch('http://127.0.0.1:9/').catch(() => {})")
    session.run(
        "const s = document.createElement('script'); s.textContent = 'hacked = 1';"
        "document.body.append(s)"
    )
    session.run(
        "const i = new Image(); i.src = 'http://127.0.0.1:9/a.png'; document.body.append(i)"
    )
    session.until(lambda: session.run("return true"))
    said = session.complaints()
    assert len([line for line in said if "Content Security Policy" in line]) >= 3
    assert session.run("return typeof hacked === 'undefined'")
    assert json.loads(session.run("return JSON.stringify([location.protocol])")) == ["file:"]
