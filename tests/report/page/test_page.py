"""The page as text: what is in it, what is left out, and that its data are the report's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import runpy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

import gradwitness as gw
from capture.handmade import tape
from capture.tiny import GRADIENTS, network
from gradwitness import experiment
from gradwitness.api.targets import run_target
from gradwitness.cli import main
from gradwitness.report.page import columns, derivations, steps, views
from gradwitness.report.page.error_maps import DECADES, _histogram, _map
from gradwitness.report.page.page import write_page
from gradwitness.report.page.subject import Subject, Texts
from gradwitness.report.record import dumps, report_record
from gradwitness.report.save import save_report
from gradwitness.report.tables.terminal import FittingTable
from gradwitness.report.trace import trace
from gradwitness.tape import Source

SWISH = Path(__file__).parents[3] / "examples" / "swish.py"
DTYPES = {"u1": np.uint8, "u4": np.uint32, "i4": np.int32, "f4": np.float32, "f8": np.float64}


class Parts(HTMLParser):
    """The data blocks of a page, its scripts and styles, and the texts before the first script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: dict[str, str] = {}
        self.code: dict[str, list[str]] = {"script": [], "style": []}
        self.said: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self._inside: tuple[str, str] = ("", "")
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        name = dict(attrs).get("id") or ""
        self._inside = (tag, name.removeprefix("data-"))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (the base class's)
        self._inside = ("", "")

    def handle_data(self, data: str) -> None:
        tag, name = self._inside
        if tag == "script" and name:
            self.blocks[name] = data
        elif tag in self.code:
            self.code[tag].append(data)
        elif not self.blocks:
            self.said.append(data)


def unpacked(block: str) -> bytes:
    return gzip.decompress(base64.b64decode(block, validate=True))


def decimal(mantissa: int, exponent: int) -> float:
    odd = {999: math.copysign(math.inf, mantissa), -999: math.nan}
    return odd.get(int(exponent), float(f"{mantissa}e{exponent}"))


def read(block: str) -> dict[str, Any]:
    """Read a table as its description says."""
    content = unpacked(block)
    length = int.from_bytes(content[:4], "little")
    header = json.loads(content[4 : 4 + length])
    offset = 4 + length
    table = dict(header["facts"])
    for name, (kind, size, apart) in header["columns"].items():
        offset += -offset % 8
        dtype = np.dtype(DTYPES[kind])
        planes = np.frombuffer(content, np.uint8, size * dtype.itemsize, offset)
        column = planes.reshape(dtype.itemsize, size).T.copy().view(dtype).ravel()
        for first in range(apart):
            column[first::apart] = np.cumsum(column[first::apart], dtype=dtype)
        offset += column.nbytes
        table[name] = column
    for name in header["of_decimals"]:
        ago, *parts = (table[f"{name}_{part}"] for part in ("ago", "mantissa", "exponent"))
        new = [decimal(m, e) for m, e in zip(*parts, strict=True)]
        seen = 0
        table[name] = []
        for back in ago if len(ago) else [0] * len(new):
            table[name].append(new[seen - int(back)])
            seen += back == 0
    form_of, filled = table["_form"], iter(table["_filled"])
    texts = [""] * len(form_of)
    for number, form in enumerate(header["forms"]):
        first, *parts = form.split("\0")
        own = np.flatnonzero(form_of == number)
        columns = [[f"{next(filled)}{part}" for _ in own] for part in parts]
        for line, text in enumerate(own):
            texts[text] = first + "".join(column[line] for column in columns)
    for name in header["of_texts"]:
        table[name] = [texts[n] for n in table[name]]
    assert offset + -offset % 8 == len(content)
    return table


def compared(blocks: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Read the tables of comparisons, with what a page's script works out."""
    tables = {name: read(blocks[name]) for name in ("steps", "gradients")}
    for table in tables.values():
        figures = zip(table["error"], table["ratio"], table["bound"], strict=True)
        table["error"] = [(r * b if r else 0.0) if np.isnan(e) else e for e, r, b in figures]
    for line, step in enumerate(tables["gradients"]["like"]):
        for name in ("error", "bound", "ratio", "norm") if step >= 0 else ():
            tables["gradients"][name][line] = tables["steps"][name][step]
    return tables


@pytest.fixture(scope="module")
def swish() -> tuple[gw.Tape, gw.Report]:
    run = run_target(f"{SWISH}:step")
    return run.tape, run.report


@pytest.fixture(scope="module")
def page(swish: tuple[gw.Tape, gw.Report]) -> str:
    return write_page(Subject(*swish, swish[1].verdict, command="make it <again> & 'again'"))


def test_the_first_screen_comes_before_all_data(page: str) -> None:
    said = " ".join(Parts(page).said)
    for text in (
        "DISAGREES",
        "SwishBackward #3, gradient of x (input 0)",
        "128 of 128 elements",
        "make it <again> & 'again'",
        "2.13.0",
        "forward calls",
        "first.weight",
        "return g * torch.sigmoid(x)",
    ):
        assert text in said


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    parts = Parts(page)
    loading = [
        (t, n, v) for t, n, v in parts.attributes if n in ("src", "srcset", "data", "action")
    ]
    assert loading == []
    links = [value for _, name, value in parts.attributes if name == "href"]
    assert links
    assert all(link.startswith("#") for link in links)
    (style,) = parts.code["style"]
    assert "@import" not in style
    assert "url(" not in style
    policies = [v for _, n, v in parts.attributes if n == "content" and "default-src" in v]
    (policy,) = policies
    for directive, code in (
        ("script-src", parts.code["script"]),
        ("style-src", parts.code["style"]),
    ):
        digest = base64.b64encode(hashlib.sha256("".join(code).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not any(name.startswith("on") for _, name, _ in parts.attributes)


def test_the_same_report_gives_the_same_page(swish: tuple[gw.Tape, gw.Report]) -> None:
    first, second = (write_page(Subject(*swish, swish[1].verdict)) for _ in range(2))
    assert first == second


def test_the_data_are_the_reports(page: str, swish: tuple[gw.Tape, gw.Report]) -> None:
    given, report = swish
    blocks = Parts(page).blocks
    assert unpacked(blocks["record"]).decode() == dumps(report_record(report, given))
    steps, gradients = compared(blocks).values()
    assert steps["title"] == [f.title for f in report.findings]
    assert [steps["verdicts"][n] for n in steps["verdict"]] == [
        f.verdict.value for f in report.findings
    ]
    assert gradients["name"] == [row.name for row in report.rows]
    for table, judged in ((steps, report.findings), (gradients, report.rows)):
        for name in ("error", "bound", "ratio", "norm"):
            told = [getattr(each.comparison, name) for each in judged]
            assert list(table[name]) == pytest.approx(told, rel=1e-6, abs=0, nan_ok=True)
    ulps = np.ldexp(np.array(steps["error"], np.float64), steps["ulp"])
    assert list(ulps) == pytest.approx([f.comparison.ulps for f in report.findings], rel=1e-6)
    nodes = read(blocks["nodes"])
    assert nodes["name"] == [node.name for node in given.nodes]
    third = nodes["forward"][3].split("\n")
    assert third == ["x7 = 1 / (1 + exp(-x6))", "x8 = x6 * x7"]
    # Of a custom function, what went in and what came out, and nothing between.
    assert nodes["tensors"][3] == "x6\t16x8\tfloat32\t\toperand\nx8\t16x8\tfloat32\t\tresult"
    fifth = nodes["tensors"][5].split("\n")
    assert "W1^T\t4x8\tfloat32\tview of first.weight\toperand" in fifth
    # Which node a forward step belongs to: that of its call; two are Swish's own.
    own = given.nodes[3].inner
    inner = [steps["node"][i] for i, f in enumerate(report.findings) if f.call in own]
    assert inner == [3, 3]


def test_the_drawings_hold_every_node_once() -> None:
    outcome = experiment.run(experiment.preset("default"))
    given = outcome.tape
    blocks = Parts(write_page(Subject(given, outcome.report, outcome.verdict))).blocks
    drawings = [read(block) for name, block in blocks.items() if name.startswith("view")]
    counts = [len(drawing["x"]) for drawing in drawings]
    assert len(counts) > 2
    assert counts == sorted(set(counts))
    for drawing in drawings:
        assert sorted(drawing["nodes"]) == list(range(len(given.nodes)))
        assert drawing["nodes_end"][-1] == len(given.nodes)
        corners = list(zip(drawing["x"], drawing["y"], drawing["w"], drawing["h"], strict=True))
        for n, (x, y, w, h) in enumerate(corners):
            assert 0 <= x <= x + w <= drawing["width"] + 1
            assert 0 <= y <= y + h <= drawing["height"] + 1
            for left, top, wide, high in corners[n + 1 :]:
                assert x + w <= left or left + wide <= x or y + h <= top or top + high <= y
        # A chain of layers in columns, so that it fits a screen.
        assert 0.3 < drawing["width"] / drawing["height"] < 3


def test_each_arrow_is_an_edge_with_its_norm(swish: tuple[gw.Tape, gw.Report]) -> None:
    given, report = swish
    blocks = Parts(write_page(Subject(given, report, report.verdict))).blocks
    whole = [read(block) for name, block in blocks.items() if name.startswith("view")][-1]
    starts = [0, *whole["nodes_end"][:-1]]
    nodes = [list(whole["nodes"][a:b]) for a, b in zip(starts, whole["nodes_end"], strict=True)]
    sent = {
        (f.node, edge.node): f.comparison.norm
        for f in report.findings
        if f.step.value == "backward" and f.node is not None
        if (edge := given.nodes[f.node].edges[f.tensor_nr]) is not None
    }
    drawn = {}
    for arrow, (source, target) in enumerate(zip(whole["source"], whole["target"], strict=True)):
        if nodes[source]:
            step = report.findings[whole["high"][arrow]]
            assert whole["low"][arrow] == whole["high"][arrow]
            drawn[nodes[source][0], nodes[target][0]] = step.comparison.norm
    assert drawn == sent
    # What Swish sends is wrong, and so is all that follows from it: nodes 5, 7, 8 and 9.
    assert {n[0] for n, wrong in zip(nodes, whole["inherits"], strict=True) if wrong} == {
        5,
        7,
        8,
        9,
    }
    ends = [(nodes[s], nodes[t]) for s, t in zip(whole["source"], whole["target"], strict=True)]
    wrong = [end for end, is_wrong in zip(ends, whole["wrong"], strict=True) if is_wrong]
    assert wrong == [([3], [5]), ([5], [7]), ([5], [8]), ([8], [9])]


def test_what_gets_no_gradient_is_drawn() -> None:
    model = torch.nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    with gw.watch(model) as witness:
        model(torch.ones(3, 2)).sum().backward()
    subject = Subject(witness.tape, witness.report, witness.verdict)
    blocks = Parts(write_page(subject)).blocks
    whole = [read(block) for name, block in blocks.items() if name.startswith("view")][-1]
    box = whole["role"].index("missing")
    assert "bias" in whole["lines"][box]
    assert "requires_grad is False" in whole["about"][box]
    assert [whole["target"][n] for n, m in enumerate(whole["missing"]) if m] == [box]


def test_a_redacted_page_has_no_lines_and_no_numbers(swish: tuple[gw.Tape, gw.Report]) -> None:
    given, report = swish
    subject = Subject(given, report, report.verdict, command="secret-command", is_redacted=True)
    page = write_page(subject)
    blocks = Parts(page).blocks
    whole = page + "".join(unpacked(block).decode("latin-1") for block in blocks.values())
    for hidden in (
        "swish.py",
        "secret-command",
        "0.0290416759",
        "0.02904",
        "sigmoid(x)\n",
        "[6,3]",
    ):
        assert hidden not in whole
    assert "SwishBackward #3" in whole
    assert "Left out on request: source lines, values, the command" in page
    assert not len(read(blocks["errors"])["step"])
    assert not len(read(blocks["derivations"])["gradient"])
    full = write_page(Subject(given, report, report.verdict, command="secret-command"))
    assert len(read(Parts(full).blocks["errors"])["step"])
    assert "0.0290416759" in full
    assert "secret-command" in full


def test_a_redacted_page_has_no_lines_in_its_sentences(tmp_path: Path) -> None:
    (tmp_path / "my folder").mkdir()
    program = tmp_path / "my folder" / "secret.py"
    program.write_text(
        "import torch\n"
        "def step():\n"
        "    x = torch.ones(3, requires_grad=True)\n"
        "    y = x.exp()\n"
        "    y.register_hook(lambda g: 2 * g)\n"
        "    y.sum().backward()\n"
        "    raise RuntimeError('data ran out')\n"
    )
    with gw.watch() as witness, pytest.raises(RuntimeError, match="data ran out"):
        runpy.run_path(str(program))["step"]()
    assert "secret.py" in str(witness)
    witness.save(tmp_path / "a.html", redact=True)
    page = (tmp_path / "a.html").read_text("utf-8")
    whole = page + "".join(unpacked(b).decode("latin-1") for b in Parts(page).blocks.values())
    assert "changed the gradient" in whole
    assert "secret" not in whole
    assert "my folder" not in whole


def test_a_redacted_page_does_not_spell_out_scalars() -> None:
    leaf, factor = torch.ones(2, requires_grad=True), torch.tensor(1234.5)
    with gw.watch(names={"leaf": leaf}) as witness:
        (leaf * factor).sum().backward()  # type: ignore[no-untyped-call]
    shown = {}
    for is_redacted in (False, True):
        subject = Subject(witness.tape, witness.report, witness.verdict, is_redacted=is_redacted)
        blocks = Parts(write_page(subject)).blocks
        shown[is_redacted] = "\n".join(read(blocks["nodes"])["forward"])
    assert "leaf * 1234.5" in shown[False]
    assert "1234" not in shown[True]
    assert "leaf * c" in shown[True]


def test_a_recording_cannot_name_a_file_to_read(tmp_path: Path) -> None:
    given = tape("d3")
    secret = tmp_path / "secret.py"
    secret.write_text("password = 1\n")
    line = Source("net", f"{secret}:1")
    named = replace(given, calls=tuple(replace(call, source=line) for call in given.calls))
    report = gw.judge(named)
    assert report.first_wrong is not None
    live = write_page(Subject(named, report, report.verdict))
    assert "password" in live
    assert "password" not in write_page(Subject(named, report, report.verdict, is_live=False))
    gw.save_tape(named, tmp_path / "a.npz")
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "a.npz"), "--save", str(tmp_path / "a.html")])
    assert "password" not in (tmp_path / "a.html").read_text()


def test_what_else_was_judged_is_on_the_page(tmp_path: Path) -> None:
    claims = tmp_path / "claims.npz"
    arrays: dict[str, Any] = {"first.weight": np.zeros((8, 4), np.float32)}
    np.savez(claims, **arrays)
    with pytest.raises(SystemExit) as end:
        main(
            ["check", f"{SWISH}:step", "--claims", str(claims), "--save", str(tmp_path / "a.html")]
        )
    assert end.value.code == 1
    said = " ".join(Parts((tmp_path / "a.html").read_text()).said)
    assert "Claims" in said
    assert f"gradwitness check {SWISH}:step --claims {claims}" in said


def test_what_terminals_align_is_facts_and_tables() -> None:
    grid = Table.grid()
    grid.add_row(Text("  what"), Text("W1 is <b>\x1b[2J"))
    cells = [{"gradient of": Text("w"), "verdict": Text("AGREES")}]
    said = Text("\nfirst wrong: w\nnote      one\n           two\nunclaimed b\n")
    shown = Group(Text("CAUSE     wrong sign"), grid, FittingTable(cells, ("verdict",), ()), said)
    page = write_page(Texts(gw.Verdict.DISAGREES, (("Claims", shown),)))
    for part in (
        '<dt>CAUSE</dt><dd class="written"><bdi>wrong sign</bdi>',
        '<dt>what</dt><dd class="written"><bdi>W1 is &lt;b&gt;\\x1b[2J</bdi>',
        '<th scope="col" class="right">gradient of</th><th scope="col" class="left">verdict</th>',
        '<td class="right"><bdi>w</bdi></td>',
        '<p class="written"><bdi>first wrong: w</bdi></p>',
        '<dt>note</dt><dd class="written"><bdi>one\ntwo</bdi>',
        '<dt>unclaimed</dt><dd class="written"><bdi>b</bdi>',
    ):
        assert part in page
    # A verdict has its form.
    (verdict,) = re.findall(r'<td class="left">(.*?)</td>', page)
    assert 'class="verdict agrees"' in verdict
    assert "<pre" not in page


def test_the_first_screen_says_what_a_fast_look_may_miss(tmp_path: Path) -> None:
    pages = {}
    for depth in ("full", "fast"):
        model = torch.nn.Linear(512, 512)
        with gw.watch(model, depth=depth) as witness:
            model(torch.ones(64, 512)).square().sum().backward()
        witness.save(tmp_path / "a.html")
        parts = Parts((tmp_path / "a.html").read_text("utf-8"))
        pages[depth] = " ".join(parts.said)
        # Of projections the ratio is not that of the error and the bound.
        errors = [f.comparison.error for f in witness.report.findings]
        told = compared(parts.blocks)["steps"]["error"]
        assert list(told) == pytest.approx(errors, rel=1e-6, abs=0, nan_ok=True)
        inline = witness._repr_html_()
        assert inline is not None
        assert ("depth fast: " in inline) == (depth == "fast")
    assert "in full: every number against float64" in pages["full"]
    assert "Looked at" not in pages["full"]
    before, _, after = pages["fast"].partition("Looked at, not judged in full")
    assert "First wrong step" not in before
    # As the table of the same report says.
    (said,) = re.findall(r"^depth     fast: (.*)$", str(witness), re.MULTILINE)
    assert "passes with a chance below 1e-06" in said
    assert said in " ".join(after.split())


def test_a_wrong_claim_about_a_right_program_is_the_verdict(tmp_path: Path) -> None:
    given = tape()
    gw.save_tape(given, tmp_path / "right.npz")
    claims = tmp_path / "claims.npz"
    np.savez(claims, x=np.full(3, 1e6))
    page = tmp_path / "a.html"
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path / "right.npz"), "--claims", str(claims), "--save", str(page)])
    assert end.value.code == 1
    assert "<title>DISAGREES - gradwitness</title>" in page.read_text()


def test_only_a_page_can_be_redacted(
    tmp_path: Path, swish: tuple[gw.Tape, gw.Report], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(gw.InputError, match=r"unsupported extension '\.json'; use \.html$"):
        save_report(tmp_path / "a.json", *swish, redact=True)
    with pytest.raises(SystemExit) as end:
        main(["check", f"{SWISH}:step", "--redact", "--save", str(tmp_path / "a.svg")])
    assert end.value.code == 2
    assert "use .html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_open_shows_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def opened(address: str) -> bool:
        shown.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", opened)
    saved = tmp_path / "a.html"
    for words in (["--save", str(saved)], [], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main(["check", f"{SWISH}:step", "--open", *words])
        assert end.value.code == 1
        out, err = capsys.readouterr()
        if words == ["--json"]:
            assert json.loads(out)["verdict"] == "DISAGREES"
            out = err
        path = Path(re.findall(r"^page      (.*)$", out, re.MULTILINE)[0])
        assert shown.pop() == path.as_uri()
        assert path.read_text().startswith("<!DOCTYPE html>")
    assert saved.exists()


def test_a_page_says_that_it_contains_other_texts(swish: tuple[gw.Tape, gw.Report]) -> None:
    # The experiment's text has its input and its target in full.
    subject = Subject(*swish, swish[1].verdict, sections=(("The experiment", "x [0.1 0.2]"),))
    page = write_page(subject)
    assert "what stands under &#39;The experiment&#39;" in page
    assert "Beyond that, no tensor is contained in full" in page
    assert "Beyond that" not in write_page(replace(subject, is_redacted=True))


def test_a_witness_opens_its_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    with gw.watch() as witness:
        torch.ones(3, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]
    witness.show()
    (address,) = shown
    assert "by hand" in capsys.readouterr().out  # as `append` returns nothing
    assert "AGREES" in Path(address.removeprefix("file://")).read_text("utf-8")


def test_a_witness_of_nothing_yet_is_a_bare_object_in_a_notebook() -> None:
    assert gw.watch()._repr_html_() is None


def test_a_report_without_gradients_or_numbers() -> None:
    empty = gw.Tape((), (), (), ())
    report = gw.judge(empty)
    page = write_page(Subject(empty, report, report.verdict))
    said = " ".join(Parts(page).said)
    assert "INCONCLUSIVE" in said
    assert "No gradient was recorded." in said


def test_judgements_about_no_program_are_a_page_of_text(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", -1.0)):
        np.savez(tmp_path / f"{name}.npz", w=np.full(3, value))
    page = tmp_path / "a.html"
    with pytest.raises(SystemExit) as end:
        main(["diff", *(str(tmp_path / f"{n}.npz") for n in "ab"), "--save", str(page)])
    assert end.value.code == 1
    assert "<title>DISAGREES - gradwitness</title>" in page.read_text()
    parts = Parts(page.read_text())
    said = " ".join(parts.said)
    assert "wrong sign" in said
    assert parts.blocks == {}
    assert parts.code["script"] == []


def test_the_worst_entry_of_each_gradient_is_derived() -> None:
    given, report = network()
    table = read(Parts(write_page(Subject(given, report, report.verdict))).blocks["derivations"])
    names = [report.rows[number].name for number in table["gradient"]]
    assert sorted(names) == sorted(GRADIENTS)
    for name, entry, text in zip(names, table["entry"], table["text"], strict=True):
        index = tuple(map(int, entry.removeprefix(name).strip("[]").split(",")))
        number = np.array(GRADIENTS[name])[index]
        assert text.startswith(f"{entry}: torch has {number:g}\n")
        assert text == trace(given, report, entry)


def test_what_is_derived_is_what_is_asked_for_alone(swish: tuple[gw.Tape, gw.Report]) -> None:
    given, report = swish
    table = read(Parts(write_page(Subject(given, report, report.verdict))).blocks["derivations"])
    assert len(table["gradient"]) == len(report.rows)
    for number, entry, text in zip(table["gradient"], table["entry"], table["text"], strict=True):
        worst = report.rows[number].comparison
        assert worst.index is not None
        assert entry.endswith(f"[{','.join(map(str, worst.index))}]")
        assert text.startswith(f"{entry}: torch has {worst.recorded:.9g}\n")
        assert text == trace(given, report, entry)


def test_wrong_gradients_are_derived_first(
    swish: tuple[gw.Tape, gw.Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derivations, "_ROOM", 1)
    table = read(derivations.derivation_columns(*swish).packed())
    wrong = [n for n, row in enumerate(swish[1].rows) if row.verdict is gw.Verdict.DISAGREES]
    assert 0 < len(wrong) < len(swish[1].rows)
    assert list(table["gradient"]) == wrong[:1]
    assert "not written out: it takes too long for a page" in table["text"][0]


def test_figures_of_many_steps_are_rounded(
    swish: tuple[gw.Tape, gw.Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, report = swish
    monkeypatch.setattr(columns, "_MOST_EXACT", 0)
    blocks = {
        "steps": steps.step_columns(given, report).packed(),
        "gradients": steps.gradient_columns(report).packed(),
    }
    comparisons = [[f.comparison for f in report.findings], [r.comparison for r in report.rows]]
    for table, judged in zip(compared(blocks).values(), comparisons, strict=True):
        for name in ("error", "bound", "ratio", "norm"):
            # Three digits; an error is the product of two such numbers.
            told = [getattr(c, name) for c in judged]
            assert list(table[name]) == pytest.approx(told, rel=0.011, abs=0, nan_ok=True)
        assert list(table["norm"]) == [float(f"{c.norm:.2e}") for c in judged]


def test_figures_that_recur_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [
        0.12345,
        9.996e-310,
        0.12345,
        0.0,
        np.inf,
        2e300,
        -np.inf,
        np.nan,
        0.12345,
        -1.5,
        0.0,
    ]
    told = [0.123, 1.00e-309, 0.123, 0.0, np.inf, 2e300, -np.inf, np.nan, 0.123, -1.5, 0.0]
    monkeypatch.setattr(columns, "_MOST_EXACT", 0)
    table = columns.Columns()
    table.figures("once", figures, recurring=True)
    table.figures("each", figures)
    found = read(table.packed())
    np.testing.assert_array_equal(found["once"], told)
    np.testing.assert_array_equal(found["each"], told)
    assert (len(found["once_mantissa"]), len(found["each_mantissa"])) == (9, 11)
    assert list(found["once_ago"]) == [0, 0, 2, 0, 0, 0, 0, 0, 7, 0, 0]


def test_a_fold_of_very_many_boxes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = experiment.run(experiment.preset("default"))

    def sizes() -> list[int]:
        drawings, _ = views.views(outcome.tape, outcome.report)
        return [len(read(drawing.packed())["x"]) for drawing in drawings]

    every = sizes()
    monkeypatch.setattr(views, "_MOST_FOLDED", every[1])
    assert sizes() == [every[0], every[-1]]


def test_texts_that_differ_by_numbers_are_one_form() -> None:
    texts = ["a1", "a2", "", "b01c", "b 7,7", "a1", "9" * 10, "x0.5e-05 12", "a\u0663", "a20"]
    table = columns.Columns()
    table.texts("text", texts)
    block = table.packed()
    assert read(block)["text"] == texts
    header = unpacked(block)[4:].partition(b'"of_texts"')[0]
    assert header.count(b"a\\u0000") == 1


def test_the_map_shows_where_the_error_is() -> None:
    # Node 3 is p = z c: it should send c = (5, 6, 7), but its first number is 100 too large.
    given = tape("d3")
    report = gw.judge(given)
    table = read(Parts(write_page(Subject(given, report, report.verdict))).blocks["errors"])
    step = report.findings.index(report.wrong[0])
    at = list(table["step"]).index(step)
    assert (table["shape"][at], table["rows"][at], table["columns"][at]) == ("3", 1, 3)
    end = table["end"][at]
    assert list(table["cells"][end - 3 : end]) == [100.0, 0.0, 0.0]
    width = len(table["decades"]) + 2
    counts = table["counts"][at * width : (at + 1) * width]
    # Two are zero; 100 / 7 is more than the largest number expected, which is the last decade.
    assert list(counts) == [2, *[0] * (width - 3), 1, 0]


def test_errors_are_counted_by_powers_of_ten() -> None:
    errors = np.array([0.0, 0.9e-3, 5e-3, 2.0, np.inf, np.nan, 1e-30])
    counts = dict(zip(DECADES, _histogram(errors, 1.0)[1:-1], strict=True))
    assert {decade: n for decade, n in counts.items() if n} == {-3: 1, -2: 1, 0: 1, -16: 1}
    assert _histogram(errors, 1.0)[[0, -1]].tolist() == [1, 2]


def test_a_large_map_keeps_the_largest_error_of_each_cell() -> None:
    errors = np.zeros((4, 16, 96))  # 64 rows and 96 columns, in 32 x 32 cells of 2 x 3
    errors[3, 15, 95] = 7.0
    errors[3, 15, 94] = 3.0  # in the same cell
    errors[0, 0, 4] = 5.0
    cells = _map(errors)
    assert cells.shape == (32, 32)
    assert (cells[31, 31], cells[0, 1], cells.sum()) == (7.0, 5.0, 12.0)
