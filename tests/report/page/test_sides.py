"""Two reports in one page: as text, and in a real browser, where another report is opened too."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gradwitness.cli import run_words
from gradwitness.report.compared import compared
from gradwitness.report.page.blocks import unpacked
from gradwitness.report.page.columns import packed
from gradwitness.report.page.page import write_page
from report.page.browser import Browser, needs_browser

SWISH = Path(__file__).parents[3] / "examples" / "swish.py"
WRONG = "return g * torch.sigmoid(x)"
RIGHT = "s = torch.sigmoid(x); return g * (s + x * s * (1 - s))"
STICKS_OUT = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
HOSTILE = "a</script><script>hacked=1</script><img src=x onerror=hacked=2>'\"&lt;\u05d0\u202e\x1b"

A, D, OPEN = "AGREES", "DISAGREES", "INCONCLUSIVE"


def step(title: str, verdict: str = A, norm: Any = 1.0, module: str = "", **more: Any) -> Any:
    fields = {"step": "backward", "title": title, "module": module, "line": "", "verdict": verdict}
    return fields | {"ratio": 0.5, "norm": norm} | more


def gradient(name: str, verdict: str = A, norm: Any = 1.0, digits: Any = 7.0, nr: int = 0) -> Any:
    fields = {"name": name, "pass": nr, "verdict": verdict, "ratio": 0.1}
    return fields | {"norm": norm, "digits": digits}


def record(verdict: str, gradients: list[Any], steps: list[Any], notes: list[str]) -> Any:
    return {
        "schema": "gradwitness-comparison",
        "version": 1,
        "verdict": verdict,
        "first_wrong": None,
        "gradients": gradients,
        "steps": steps,
        "notes": [{"kind": kind, "line": "", "text": ""} for kind in notes],
    }


# Every way in which an entry may change, twice the same name, and numbers that are none.
BEFORE = record(
    D,
    [gradient("w"), gradient("w", nr=1), gradient("z", norm=0.0, digits=2.0),
     gradient("n", norm="nan"),
     gradient("d"), gradient("e", digits="inf"), gradient("gone", D), gradient("i", norm="inf")],
    [step("Mul #3, gradient of a", module="m"), step("Mul #4, gradient of a", D, module="m"),
     step("Mul #5, gradient of a", module="n"), step("Add #6, gradient of a", OPEN),
     step("aten.relu (call 7)"), step("Old #8", D), step("Sum #9", norm=1.0)],
    ["stale", "lost"],
)  # fmt: skip
AFTER = record(
    D,
    [gradient("w", norm=1.02), gradient("w", OPEN, nr=1), gradient("z", norm=0.0, digits=2.0),
     gradient("n", norm="nan"), gradient("d", digits=6.0), gradient("e", digits="inf"),
     gradient(HOSTILE, OPEN), gradient("i", norm=1.0)],
    [step("New #0", D), step(HOSTILE), step("Mul #4, gradient of a", D, module="m"),
     step("Mul #5, gradient of a", module="m"), step("Mul #6, gradient of a", module="n"),
     step("Add #7, gradient of a"), step("aten.relu (call 9)"), step("Sum #11", norm=1.009)],
    ["lost", "lost"],
)  # fmt: skip
# By hand. The two multiplications in m swap their verdicts; a new step that disagrees is worse;
# a norm of 1.009 is within a hundredth.
STEPS = {
    "Mul #4, gradient of a": ["worse"],
    "Mul #5, gradient of a": ["better"],
    "Mul #6, gradient of a": ["same"],
    "Add #7, gradient of a": ["better"],
    "aten.relu (call 9)": ["same"],
    "Old #8": ["gone"],
    "Sum #11": ["same"],
    "New #0": ["worse"],
}


@pytest.fixture(scope="module")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("handmade")
    paths = folder / "<img src=x onerror=hacked=3>before.json", folder / "after.json"
    for path, content in zip(paths, (BEFORE, AFTER), strict=True):
        path.write_text(json.dumps(content))
    return paths


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Save the pages and records of a right step, and of one whose backward forgets a term."""
    folder = tmp_path_factory.mktemp("pages")
    program = SWISH.read_text()
    paths = folder / "right.html", folder / "wrong.html"
    for path, line in zip(paths, (RIGHT, WRONG), strict=True):
        path.with_suffix(".py").write_text(program.replace(WRONG, line))
        words = ["--save", f"{path}", "--save", f"{path.with_suffix('.json')}"]
        run_words(["check", f"{path.with_suffix('.py')}:step", *words])
    return paths


def page_of(folder: Path, before: Path, after: Path) -> Path:
    path = folder / "compared.html"
    path.write_text(write_page(compared(before, after)))
    return path


def test_what_became_worse_stands_before_any_script(handmade: tuple[Path, Path]) -> None:
    page = write_page(compared(*handmade))
    screen = page[: page.index("<script")]
    for said in ("Something became worse", "before.json", "after.json", "New #0", "w (pass 2)"):
        assert said in screen
    assert "a&lt;/script&gt;&lt;script&gt;hacked=1" in screen
    assert "<img" not in screen
    # A report that got no worse is told by what it is.
    same = write_page(compared(handmade[0], handmade[0]))
    assert "Nothing became worse" in same
    assert '<header class="banner disagrees">' in same


def test_a_block_is_unpacked_to_its_end_or_not_at_all() -> None:
    block = packed(b"a" * 100)
    assert unpacked(block, 100) == b"a" * 100
    with pytest.raises(ValueError, match="cut off, or too large"):
        unpacked(block, 99)


def test_a_page_among_the_two_gives_the_graph(pages: tuple[Path, Path]) -> None:
    right, wrong = pages
    for pair, own in (
        ((right, wrong), "after"),
        ((right, wrong.with_suffix(".json")), "before"),
        ((right.with_suffix(".json"), wrong), "after"),
    ):
        page = write_page(compared(*pair))
        assert f'data-own="{own}"' in page
        assert 'id="data-view0"' in page
        assert "have a graph" not in page
    bare = write_page(compared(right.with_suffix(".json"), wrong.with_suffix(".json")))
    assert "have a graph: compare those" in bare
    assert 'id="data-view0"' not in bare


def rows(browser: Browser, table: str = "#pairs") -> list[list[str]]:
    """Return the cells of the lines that are shown."""
    found: list[list[str]] = browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' .all [role=row]')].map("
        "row => [...row.children].map(cell => cell.innerText.trim()))",
        table,
    )
    return found


def everything(browser: Browser, kind: str) -> list[dict[str, str]]:
    """Return the lines of a table's file, without any filter."""
    table = {"steps": "#pairs", "gradients": "#gradient-pairs"}[kind]
    browser.click(f"{table} .chips button:last-child")
    browser.click(f"{table} .gap ~ button")
    return list(csv.DictReader(io.StringIO(browser.downloaded(f"compared-{kind}.csv").decode())))


@needs_browser
def test_the_page_pairs_as_the_command_does(
    browser: Browser, handmade: tuple[Path, Path], tmp_path: Path
) -> None:
    found = compared(*handmade)
    browser.open(page_of(tmp_path, *handmade))
    for kind, singular in (("steps", "step"), ("gradients", "gradient")):
        pairs = [pair for pair in found.pairs if pair.entry.kind == singular]
        lines = everything(browser, kind)
        assert [
            (line["change"], line["verdict before"], line["verdict after"]) for line in lines
        ] == [
            (pair.how.value, *(e.verdict.value if e and e.verdict else "" for e in
             (pair.before, pair.after))) for pair in pairs
        ]  # fmt: skip
        names = [f"{line['kind']}: {line['title']}" if kind == "steps" else line["title"]
                 for line in lines]  # fmt: skip
        assert names == [pair.entry.name for pair in pairs]
    by_hand: dict[str, list[str]] = {}
    for line in everything(browser, "steps"):
        by_hand.setdefault(line["title"], []).append(line["change"])
    assert by_hand.pop(HOSTILE) == ["new"]
    assert by_hand == STEPS
    # Hostile names stay text.
    assert HOSTILE[:30] in browser.text("#pairs")
    assert browser.count("img") == 0
    assert browser.run("return typeof hacked === 'undefined'")


@needs_browser
def test_two_records_side_by_side(
    browser: Browser, handmade: tuple[Path, Path], tmp_path: Path
) -> None:
    page = page_of(tmp_path, *handmade)
    browser.open(page)
    assert {row[0].split()[-1] for row in rows(browser)} == {"worse", "better", "new", "gone"}
    for chip, count in (("worse", 2), ("better", 2), ("gone", 1), ("same", 3)):
        browser.click(f"#pairs .chip:has(.{chip})")
        assert len(rows(browser)) == count
    browser.click("#pairs .chip:last-child")
    browser.choose("#pairs .bar label:nth-of-type(1) select", "INCONCLUSIVE")
    assert [row[2] for row in rows(browser)] == ["Add #7, gradient of a"]
    browser.choose("#pairs .bar label:nth-of-type(1) select", "all")
    browser.write("#pairs input[type=search]", "no such step")
    assert "Nothing fits these filters" in browser.text("#pairs")
    browser.write("#pairs input[type=search]", "Mul")
    # Sorted by what was lost.
    browser.click("#gradient-pairs .chip:last-child")
    browser.click("#gradient-pairs .head > :last-child button")
    assert rows(browser, "#gradient-pairs")[0][1] == "d"
    # A line, by pointer and by keys, and by its address.
    browser.click("#pairs .all [role=row]")
    assert "Mul #4, gradient of a" in browser.text("#panel h2")
    assert browser.run("return location.hash") == "#p0"
    browser.press("#pairs .lines", "\ue015")
    assert browser.run("return location.hash") == "#p1"
    assert "better" in browser.text("#panel .beside")
    browser.open(page, "#p5")
    assert "Old #8" in browser.text("#panel h2")
    assert "absent" in browser.text("#panel .beside")
    browser.open(page, "#g4")
    assert browser.text("#panel .beside .differs").split() == ["digits", "7", "6"]
    for nonsense in ("#p999", "#g-1", "#n0", "#<b>"):
        browser.open(page, nonsense)
        assert "Select a line" in browser.text("#panel")


def graph(browser: Browser) -> str:
    browser.settle()
    return str(browser.run("return document.querySelector('.drawing').toDataURL()"))


@needs_browser
def test_the_graph_is_coloured_by_what_changed(
    browser: Browser, pages: tuple[Path, Path], tmp_path: Path
) -> None:
    browser.open(page_of(tmp_path, *pages))
    assert browser.run("return document.querySelector('#mode').value") == "change"
    changed = graph(browser)
    browser.click("#svg")
    svg = browser.downloaded("graph.svg").decode()
    # One node became worse, and the four that its gradient reaches moved.
    assert (svg.count(">\u25bc<"), svg.count(">\u25c6<"), svg.count(">\u2713<")) == (1, 4, 0)
    browser.choose("#mode", "verdict")
    assert graph(browser) != changed
    browser.choose("#mode", "change")
    assert graph(browser) == changed
    assert "SwishBackward #3" in rows(browser)[0][2]
    browser.click("#pairs .all [role=row]")
    assert browser.text("#panel h2") == "SwishBackward #3"
    beside = browser.text("#panel [aria-current=true] .beside")
    assert "0.0290416759" in beside  # what torch has, after and wrong
    before, after = next(r.split("\t")[1:3] for r in beside.splitlines() if r.startswith("x bound"))
    assert 0 < float(before) < 1 < float(after)  # as this processor rounds, and wrong
    browser.click("#gradient-pairs .all [role=row]")
    browser.until(lambda: browser.text("#panel h2").startswith("AccumulateGrad"))
    browser.click("#theme")
    assert graph(browser) != changed


@needs_browser
def test_another_report_is_opened_in_a_page(
    browser: Browser, pages: tuple[Path, Path], tmp_path: Path
) -> None:
    def choose(path: Path) -> None:
        field = browser.driver.find_element("css selector", "#compare input[type=file]")
        field.send_keys(str(path))
        browser.settle()

    right, wrong = pages
    browser.open(wrong)
    own = graph(browser)
    for other in (right, right.with_suffix(".json")):
        choose(other)
        browser.until(lambda: browser.count("#pairs") == 1)
        assert other.name in browser.text("#compare")
        lines = everything(browser, "steps")
        expected = [p for p in compared(right, wrong).pairs if p.entry.kind == "step"]
        assert [line["change"] for line in lines] == [pair.how.value for pair in expected]
        assert browser.count("#steps, #all-gradients") == 0
        assert graph(browser) != own
        browser.click("#compare button:nth-of-type(1)")  # swap
        assert "better" in {line["change"] for line in everything(browser, "steps")}
        browser.click("#compare button:nth-of-type(2)")  # close
        assert graph(browser) == own
        assert browser.count("#steps") == 1
    # What is no report is refused, and what is there stays.
    bad = {
        "a.txt": ("not JSON", "it is not JSON, nor a page"),
        "b.json": ('{"schema": "gradwitness-claims"}', "its schema is gradwitness-claims"),
        "c.json": ("null", "it has no schema"),
        "d.json": (json.dumps(BEFORE | {"version": 2}), "its version is 2"),
        "e.json": (json.dumps(BEFORE | {"steps": [step("a", line=5)]}), "its fields are not"),
        "f.html": ("<p>text</p>", "it is a page without a report"),
        "g.html": (wrong.read_text().replace('id="data-record">H4sI', 'id="data-record">AAAA'),
                   "its data are damaged"),
        "<b>h": ("[", "<b>h is not a saved report: it is not JSON"),
    }  # fmt: skip
    for name, (content, said) in bad.items():
        (tmp_path / name).write_text(content)
        choose(tmp_path / name)
        browser.until(lambda said=said: said in browser.text("#compare .trouble"))  # type: ignore[misc]
        assert "--save writes them" in browser.text("#compare .trouble")
    assert browser.count("#steps") == 1
    # Dropped, with names that would be more than text.
    browser.run(
        "const transfer = new DataTransfer();"
        "transfer.items.add(new File([arguments[0]], arguments[1]));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, cancelable: true}))",
        json.dumps(AFTER),
        HOSTILE,
    )
    browser.until(lambda: browser.count("#pairs") == 1)
    assert HOSTILE[:30] in browser.text("#compare")
    assert browser.count("img") == 0
    # A step of the other report alone has an address of its own.
    browser.write("#pairs input[type=search]", "New #0")
    browser.click("#pairs .all [role=row]")
    assert "New #0" in browser.text("#panel h2")
    assert browser.run("return typeof hacked === 'undefined'")
    # A page without its record says so.
    bare = tmp_path / "bare.html"
    bare.write_text(wrong.read_text().replace('id="data-record">H', 'id="data-none">H'))
    browser.open(bare)
    assert "run gradwitness compare" in browser.text("#compare")
    assert browser.count("#compare input") == 0


def shown(browser: Browser) -> Any:
    """Return how the table on paper and that of the script are displayed."""
    elements = "['#changes', '#pairs'].map(name => document.querySelector(name))"
    return browser.run(f"return {elements}.map(element => getComputedStyle(element).display)")


@needs_browser
def test_nothing_sticks_out_and_paper_has_what_changed(
    browser: Browser, pages: tuple[Path, Path], handmade: tuple[Path, Path], tmp_path: Path
) -> None:
    for pair, address in ((pages, "#n3"), (handmade, "#p7")):
        page = page_of(tmp_path, *pair)
        for width in (390, 1280):
            browser.open(page, address, width=width)
            assert browser.run(STICKS_OUT) == 0
            assert shown(browser) == ["none", "block"]
        browser.open(page, media="print")
        assert shown(browser) == ["block", "none"]
