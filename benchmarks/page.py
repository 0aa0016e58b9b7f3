"""How large the page of very many nodes is, and how long Chromium takes to load and to pan it.

``python benchmarks/page.py [--nodes 100000]``. The recording is made up: a chain of linear layers
and ReLUs in modules, with figures as random as real ones. The page is without values, as
``--redact`` writes it. Chromium, its driver and selenium must be there. CPU time is that of the
page's main thread, which on a machine with nothing else to do is what one waits for.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from gradwitness import Tape, Verdict
from gradwitness.judging.comparing.comparison import Comparison
from gradwitness.judging.finding import Finding, Report, Row, Step
from gradwitness.report.page.page import write_page
from gradwitness.report.page.subject import Subject
from gradwitness.tape import Call, Edge, Kind, Node, Ref, Source, Sweep, Value

# Nodes of one layer: of its weight, its bias, the transposition, the product, the ReLU.
LAYER = 5
FRAMES = 25
LOOK = """
new MutationObserver(() => {
  if (document.documentElement.dataset.ready && !window.readyAt) window.readyAt = performance.now();
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-ready"] });
"""


def compared(rng: random.Random, norm: float) -> Comparison:
    """Return a comparison with an error as rounding makes it."""
    bound = norm * 1e-7 * rng.uniform(0.5, 3)
    error = bound * rng.random() ** 2
    ulps = error * 2.0 ** rng.randint(15, 25)
    return Comparison(
        Verdict.AGREES, "", 441, index=(1, 2), recorded=norm, expected=norm, error=error,
        bound=bound, ratio=error / bound, ulps=ulps, detects_relative=rng.uniform(1e-7, 3e-6),
        norm=norm,
    )  # fmt: skip


def made_up(layers: int) -> tuple[Tape, Report]:
    """Return the recording of a chain of layers, and its judgement."""
    rng = random.Random(0)  # noqa: S311
    values: list[Value] = []
    calls: list[Call] = []
    nodes: list[Node] = []

    def value(shape: tuple[int, ...], name: str = "") -> int:
        values.append(Value(len(values), shape, "float32", None, None, name, bool(name)))
        return len(values) - 1

    def call(op: str, arguments: dict[str, Any], output: int, node: int, source: Source) -> int:
        is_view = op == "aten.t.default"
        calls.append(Call(len(calls), op, arguments, (output,), (), is_view, node, None, source))
        return len(calls) - 1

    def node(name: str, edges: tuple[Edge | None, ...], output: int, call: int | None) -> Edge:
        kind = Kind.ACCUMULATE if call is None else Kind.OPERATION
        leaf = output if call is None else None
        nodes.append(Node(len(nodes), name, kind, edges, (output,), call, (), leaf, ()))
        return Edge(len(nodes) - 1, 0)

    x, before = value((1, 21)), None
    for layer in range(layers):
        source = Source(
            f"layers.{layer // 12}.block{layer % 12}", f"/home/me/model.py:{layer % 90}"
        )
        weight, bias = (
            value((21,) * n, f"{source.module}.{k}") for n, k in ((2, "weight"), (1, "bias"))
        )
        transposed, product, result = value((21, 21)), value((1, 21)), value((1, 21))
        first = len(nodes)
        t = call("aten.t.default", {"self": Ref(weight)}, transposed, first + 2, source)
        operands = {
            "self": Ref(bias),
            "mat1": Ref(x),
            "mat2": Ref(transposed),
            "beta": 1,
            "alpha": 1,
        }
        addmm = call("aten.addmm.default", operands, product, first + 3, source)
        relu = call("aten.relu.default", {"self": Ref(product)}, result, first + 4, source)
        to_weight, to_bias = (node("AccumulateGrad", (), leaf, None) for leaf in (weight, bias))
        to_transposed = node("TBackward0", (to_weight,), transposed, t)
        sent = node("AddmmBackward0", (to_bias, before, to_transposed), product, addmm)
        before, x = node("ReluBackward0", (sent,), result, relu), result
    assert before is not None
    findings = [
        Finding(Step.FORWARD, f"{c.op} (call {c.id})", compared(rng, rng.lognormvariate(0, 2)),
                c.id, c.node, None, 0, c.source, "y = x")
        for c in calls
    ]  # fmt: skip
    arriving = {before.node: 1.0}
    rows = []
    for each in reversed(nodes):
        comparison = compared(rng, arriving[each.id])
        title = f"{each.name} #{each.id}, gradient"
        findings.append(
            Finding(Step.FAN_IN, f"{title} arriving at input 0", comparison, each.call, each.id, 0)
        )
        for number, edge in enumerate(each.edges):
            if edge is not None:
                arriving[edge.node] = rng.lognormvariate(0, 2)
                sending = compared(rng, arriving[edge.node])
                findings.append(
                    Finding(
                        Step.BACKWARD,
                        f"{title} of input {number}",
                        sending,
                        each.call,
                        each.id,
                        0,
                        number,
                    )
                )
        if each.leaf is not None:
            leaf = values[each.leaf]
            rows.append(
                Row(
                    leaf.name, leaf.shape, "float32", Verdict.AGREES, "", False, comparison,
                    rng.uniform(5, 8), each.id, 0, 0, value=leaf.id,
                )
            )  # fmt: skip
    tape = Tape(values, calls, nodes, (Sweep(((before, None),), (), ()),), {"torch": "2"})
    return tape, Report(tuple(findings), tuple(rows))


def seconds_of(driver: Any) -> float:
    """Return the CPU time of a page's main thread so far."""
    values = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(float(m["value"]) for m in values if m["name"] == "TaskDuration")


def browsed(page: Path) -> None:
    """Load a page in Chromium, show every node, pan and zoom, and print what that takes."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LOOK})
        driver.get(page.as_uri())
        while not driver.execute_script("return window.readyAt"):
            time.sleep(0.01)
        seconds = seconds_of(driver)
        ready, paint = driver.execute_script(
            "return [readyAt, performance.getEntriesByType('paint')[0].startTime]"
        )
        print(
            f"first paint after {paint / 1000:.2f} s, ready after {ready / 1000:.2f} s, "
            f"{seconds:.2f} s of CPU time"
        )
        driver.execute_script(
            "const f = document.querySelector('#fold'); f.value = f.options.length - 1;"
            "f.dispatchEvent(new Event('change', { bubbles: true }))"
        )
        canvas = driver.find_element("css selector", ".drawing")
        drawn = "return document.querySelector('.drawing').dataset.milliseconds"
        time.sleep(5)
        frames = []
        for frame in range(FRAMES):
            canvas.send_keys("+" if frame < FRAMES * 2 // 3 else "\ue014")
            frames.append(float(driver.execute_script(drawn)))
        print(f"frames: {max(frames):.0f} ms at most, {sorted(frames)[FRAMES // 2]:.0f} ms usually")
    finally:
        driver.quit()


def main() -> None:
    """Write the page, load it, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=100_000)
    tape, report = made_up(parser.parse_args().nodes // LAYER)
    start = time.process_time()
    page = write_page(Subject(tape, report, report.verdict, is_redacted=True))
    seconds = time.process_time() - start
    print(
        f"{len(tape.nodes):,} nodes, {len(report.findings):,} steps: {len(page) / 1e6:.2f} MB, "
        f"written in {seconds:.0f} s"
    )
    path = Path(tempfile.mkdtemp()) / "page.html"
    path.write_text(page, "utf-8")
    browsed(path)


if __name__ == "__main__":
    main()
