"""SVG to PDF and PNG, by the optional typst package."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from gradwitness._errors import InputError, MissingExtraError
from gradwitness.report.picture.looks import FONT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

# Readers of PDF may refuse pages of more than 200 inches.
_LARGEST_PAGE = 14_400.0
# Beyond this, programs that show pictures scale them down, or give up.
_LONGEST_SIDE = 10_000
_MOST_PIXELS = 80e6
_SVG = "{http://www.w3.org/2000/svg}"
_ADVICE = "fold it, draw a part of it, or save it as .svg"


def write_pdf(*pages: str) -> bytes:
    """Convert SVG documents to the pages of a PDF, each of the same size, a point per pixel.

    The text in it is text, with its fonts embedded. It takes the typst package.

    Raises
    ------
    InputError
        For a page larger than 14,400 points, the most that readers must accept.
    """
    for page in pages:
        if max(_size(page)) > _LARGEST_PAGE:
            raise InputError(_too_large("a PDF page", page, f"{_LARGEST_PAGE:.0f} points"))
    return _compile(pages, "pdf", 144.0)


def write_png(svg: str, *, scale: float = 2.0) -> bytes:
    """Render an SVG document as PNG, ``scale`` pixels for each of its own, by the typst package.

    They are fewer if the picture would be too large, but never less than one.

    Raises
    ------
    InputError
        If it is too large even so: shrunk, its text could not be read.
    """
    width, height = _size(svg)
    most = min(_LONGEST_SIDE / max(width, height), math.sqrt(_MOST_PIXELS / (width * height)))
    if most < 1:
        raise InputError(_too_large("a PNG", svg, f"{_LONGEST_SIDE} pixels a side") + " or .pdf")
    return _compile((svg,), "png", 72.0 * min(scale, most))


def _too_large(what: str, svg: str, limit: str) -> str:
    width, height = _size(svg)
    return f"the drawing is {width:.0f} x {height:.0f}, too large for {what} ({limit}); {_ADVICE}"


def _size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)  # noqa: S314  # our own writer's text
    return float(root.attrib["width"]), float(root.attrib["height"])


def _compile(pages: Sequence[str], form: Literal["pdf", "png"], ppi: float) -> bytes:
    # Without a date the same picture gives the same file.
    source = [f'#set document(date: none)\n#set text(font: "{FONT}", fallback: true)']
    files = {}
    for number, svg in enumerate(pages):
        width, height = (f"{side:.3f}pt" for side in _size(svg))
        texts, rest = _split(svg)
        files[f"{number}.svg"] = rest.encode()
        source.append(
            f"#page(width: {width}, height: {height}, margin: 0pt)[\n"
            f'#place(image("{number}.svg", width: {width}, height: {height}))\n{texts}]'
        )
    files["main.typ"] = "\n".join(source).encode()
    return bytes(_typst().compile(files, format=form, ppi=ppi))


def _split(svg: str) -> tuple[str, str]:
    """Return the text of a document as typst sets it, and the document without.

    Typst renders an image of a large page in tiles, and cuts text at their seams; its own text it
    does not.
    """
    root = ET.fromstring(svg)  # noqa: S314  # our own writer's text
    lines = []
    for group, left, top in _groups(root, 0.0, 0.0):
        for element in group.findall(f"{_SVG}text"):
            lines.append(_place(element, left, top))
            group.remove(element)
    return "\n".join(lines), ET.tostring(root, "unicode")


def _groups(
    element: ET.Element, left: float, top: float
) -> Iterator[tuple[ET.Element, float, float]]:
    """Yield an element and the groups in it, with the origins of their coordinates."""
    move = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
    if move is not None:
        left, top = left + float(move[1]), top + float(move[2])
    yield element, left, top
    for group in element.findall(f"{_SVG}g"):
        yield from _groups(group, left, top)


def _place(element: ET.Element, left: float, top: float) -> str:
    x, y = left + float(element.attrib["x"]), top + float(element.attrib["y"])
    # Typst would break lines at spaces, and drop those at the beginning.
    words = (element.text or "").replace("\\", "\\\\").replace('"', '\\"').replace(" ", "\u00a0")
    weight = element.get("font-weight", "regular")
    text = (
        f'text(size: {element.attrib["font-size"]}pt, weight: "{weight}", '
        f'fill: rgb("{element.attrib["fill"]}"), '
        f'top-edge: "baseline", bottom-edge: "baseline", "{words}")'
    )
    if element.get("text-anchor") == "middle":
        text = f"box(width: 0pt, align(center, box(width: 40pt, {text})))"
    return f"#place(dx: {x:.2f}pt, dy: {y:.2f}pt, {text})"


def _typst() -> ModuleType:
    try:
        import typst
    except ImportError as error:
        raise MissingExtraError(
            "PDF and PNG pictures need the typst package: pip install 'gradwitness[pictures]'. "
            "SVG and DOT need no extra package."
        ) from error
    return typst
