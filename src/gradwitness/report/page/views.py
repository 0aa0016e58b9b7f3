"""The graph as a page draws it: whole, and folded by module to several depths."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.finding import Step
from gradwitness.report.page.columns import Columns
from gradwitness.report.page.nodes import calls_of, module_of
from gradwitness.report.page.steps import VERDICTS, shaped
from gradwitness.report.page.wrapping import wrapped
from gradwitness.report.picture.layout import lay_out
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.finding import Finding, Report
    from gradwitness.report.names import Names
    from gradwitness.tape import Edge, Node, Tape

# In pixels, with the script's font: a character, a line, the room around the text of a box.
_CHAR, _LINE, _ROOM = 6.7, 17.0, 24.0
_LONGEST = 44
UNJUDGED = len(VERDICTS)
# Folding deeper than this shows little that the whole does not.
_MOST_DEPTH = 5


@dataclass
class _Box:
    """A node, the nodes of a folded module, or a result."""

    key: str
    lines: list[str]
    nodes: list[int] = field(default_factory=list)
    verdict: int = UNJUDGED


@dataclass(frozen=True)
class _Arrow:
    source: str
    target: str
    label: str
    norm: float


def views(tape: Tape, report: Report, names: Names) -> list[Columns]:
    """Return the graph folded to each depth that differs from the others, and then whole."""
    drawing = _Drawing(tape, report, names)
    deepest = max((len(module.split(".")) for module in drawing.modules if module), default=0)
    made: list[Columns] = []
    counts: set[int] = set()
    for depth in [*range(1, min(deepest, _MOST_DEPTH) + 1), None]:
        boxes, arrows = drawing.folded(depth)
        if len(boxes) not in counts:
            made.append(_laid_out(boxes, arrows, depth))
            counts.add(len(boxes))
        elif depth is None:
            # No module holds several nodes: the whole graph under its own name.
            made[-1] = _laid_out(boxes, arrows, None)
    return made


class _Drawing:
    def __init__(self, tape: Tape, report: Report, names: Names) -> None:
        self._tape = tape
        self._names = names
        self.modules = [module_of(tape, node) for node in tape.nodes]
        self._findings: dict[int, list[Finding]] = {}
        self._norms: dict[tuple[int, int], float] = {}
        for finding in report.findings:
            if finding.node is None:
                continue
            self._findings.setdefault(finding.node, []).append(finding)
            if finding.step is Step.BACKWARD:
                self._norms[finding.node, finding.tensor_nr] = finding.comparison.norm

    def folded(self, depth: int | None) -> tuple[list[_Box], list[_Arrow]]:
        """Return the boxes and arrows with modules folded to a depth; None folds none."""
        boxes: dict[str, _Box] = {}
        keys = self._keys(depth)
        for number, key in enumerate(keys):
            boxes.setdefault(key, _Box(key, [])).nodes.append(number)
        for box in boxes.values():
            self._fill(box)
        arrows = list(self._arrows(keys))
        for key, arrow in self._results(keys):
            boxes[key] = _Box(key, ["result", arrow.label])
            arrows.append(arrow)
        return list(boxes.values()), _merged(arrows)

    def _keys(self, depth: int | None) -> list[str]:
        """Return the key of each node's box: its module's, or its own where it is alone in it."""
        modules = [".".join(module.split(".")[:depth]) for module in self.modules]
        counts = Counter(modules)
        return [
            f"n{number}" if depth is None or not module or counts[module] == 1 else f"m{module}"
            for number, module in enumerate(modules)
        ]

    def _fill(self, box: _Box) -> None:
        findings = [f for number in box.nodes for f in self._findings.get(number, ())]
        if findings:
            box.verdict = VERDICTS.index(worst([f.verdict for f in findings]))
        if box.key.startswith("m"):
            counts = Counter(f.verdict for f in findings)
            said = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
            box.lines = [box.key[1:], f"{len(box.nodes)} nodes", said]
            return
        (number,) = box.nodes
        node = self._tape.nodes[number]
        box.lines = [f"{node.name} #{number}", self._about(node)]

    def _about(self, node: Node) -> str:
        if node.leaf is not None:
            value = self._tape.values[node.leaf]
            return f"{value.name or self._names.of(node.leaf)} {shaped(value.shape)}"
        calls = calls_of(self._tape, node)
        return self._names.equation(calls[-1]) if calls else ""

    def _arrows(self, keys: list[str]) -> Iterator[_Arrow]:
        for node in self._tape.nodes:
            for input_nr, edge in enumerate(node.edges):
                if edge is not None and keys[node.id] != keys[edge.node]:
                    norm = self._norms.get((node.id, input_nr), float("nan"))
                    yield _Arrow(keys[node.id], keys[edge.node], self._label(edge), norm)

    def _results(self, keys: list[str]) -> Iterator[tuple[str, _Arrow]]:
        for number, sweep in enumerate(self._tape.sweeps):
            for edge, _ in sweep.roots:
                key = f"r{number}.{edge.node}.{edge.index}"
                yield key, _Arrow(key, keys[edge.node], self._label(edge), float("nan"))

    def _label(self, edge: Edge) -> str:
        """Return what the gradient along an edge is of, with its shape."""
        node = self._tape.nodes[edge.node]
        value = node.leaf
        if value is None and edge.index < len(node.outputs):
            value = node.outputs[edge.index]
        if value is None:
            return ""
        return f"d{self._names.of(value)} {shaped(self._tape.values[value].shape)}"


def _merged(arrows: list[_Arrow]) -> list[_Arrow]:
    """Return one arrow for all between the same two boxes."""
    between: dict[tuple[str, str], list[_Arrow]] = {}
    for arrow in arrows:
        between.setdefault((arrow.source, arrow.target), []).append(arrow)
    merged = []
    for (source, target), group in between.items():
        labels = list(dict.fromkeys(arrow.label for arrow in group))
        label = labels[0] if len(labels) == 1 else f"{len(labels)} gradients"
        merged.append(_Arrow(source, target, label, max(arrow.norm for arrow in group)))
    return merged


def _laid_out(boxes: list[_Box], arrows: list[_Arrow], depth: int | None) -> Columns:
    """Lay boxes out, and keep them with their arrows."""
    lines = [[_cut(line) for line in box.lines if line] for box in boxes]
    widths = np.array([max(map(len, texts)) * _CHAR + _ROOM for texts in lines])
    heights = np.array([len(texts) * _LINE + _ROOM / 2 for texts in lines])
    position = {box.key: number for number, box in enumerate(boxes)}
    sources = [position[arrow.source] for arrow in arrows]
    targets = [position[arrow.target] for arrow in arrows]
    layout = wrapped(lay_out(widths, heights, sources, targets), heights)
    columns = Columns(depth=depth, width=layout.width, height=layout.height)
    # Whole pixels take a third of the room.
    columns.numbers("x", np.rint(layout.x), np.float32)
    columns.numbers("y", np.rint(layout.y), np.float32)
    columns.numbers("w", np.rint(widths), np.float32)
    columns.numbers("h", np.rint(heights), np.float32)
    columns.numbers("norm", [arrow.norm for arrow in arrows], np.float32)
    columns.numbers("verdict", [box.verdict for box in boxes], np.uint8)
    columns.texts("key", (box.key for box in boxes))
    columns.texts("lines", ("\n".join(texts) for texts in lines))
    columns.numbers("nodes_end", np.cumsum([len(box.nodes) for box in boxes]), np.uint32)
    columns.numbers("nodes", [number for box in boxes for number in box.nodes], np.uint32)
    columns.numbers("source", sources, np.uint32)
    columns.numbers("target", targets, np.uint32)
    columns.texts("label", (arrow.label for arrow in arrows))
    pieces = [piece for route in layout.routes for piece in route]
    points = np.concatenate([*pieces, np.zeros((0, 2))])
    columns.numbers("points", np.rint(points).ravel(), np.float32)
    columns.numbers("piece_end", np.cumsum([len(piece) for piece in pieces]), np.uint32)
    columns.numbers("route_end", np.cumsum([len(route) for route in layout.routes]), np.uint32)
    return columns


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
