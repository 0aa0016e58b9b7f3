"""SVG to PDF and PNG, by the optional typst package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from gradwitness._errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

# Readers of PDF may refuse pages of more than 200 inches.
_LARGEST_PAGE = 14_400.0
_MOST_PIXELS = 40e6


def write_pdf(svg: str) -> bytes:
    """Convert an SVG document to a PDF page of the same size, one point per pixel.

    One larger than 14,400 points, the most that PDF readers must accept, is scaled down to that.
    The text in it is text, with its fonts embedded. It takes the typst package.
    """
    width, height = _size(svg)
    return _compile(svg, min(1.0, _LARGEST_PAGE / max(width, height)), "pdf", 144.0)


def write_png(svg: str, *, scale: float = 2.0, longest: int = 8000) -> bytes:
    """Render an SVG document as PNG, ``scale`` pixels for each of its own, by the typst package.

    They are fewer if the picture would have more than ``longest`` on a side, or than 40 million.
    """
    width, height = _size(svg)
    scale = min(scale, longest / max(width, height), math.sqrt(_MOST_PIXELS / (width * height)))
    return _compile(svg, 1.0, "png", 72.0 * scale)


def _size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)  # noqa: S314  # our own writer's text
    return float(root.attrib["width"]), float(root.attrib["height"])


def _compile(svg: str, scale: float, form: Literal["pdf", "png"], ppi: float) -> bytes:
    width, height = (f"{scale * side:.3f}pt" for side in _size(svg))
    # Without a date the same picture gives the same file.
    page = (
        "#set document(date: none)\n"
        f"#set page(width: {width}, height: {height}, margin: 0pt)\n"
        f'#image("picture.svg", width: {width}, height: {height})\n'
    )
    files = {"main.typ": page.encode(), "picture.svg": svg.encode()}
    return bytes(_typst().compile(files, format=form, ppi=ppi))


def _typst() -> ModuleType:
    try:
        import typst
    except ImportError as error:
        raise MissingExtraError(
            "PDF and PNG pictures need the typst package: pip install 'gradwitness[pictures]'. "
            "SVG and DOT need no extra package."
        ) from error
    return typst
