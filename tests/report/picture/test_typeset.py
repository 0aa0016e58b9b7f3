"""PDF and PNG have the size of the picture, its fonts and its colours."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from gradwitness._errors import MissingExtraError
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.typeset import write_pdf, write_png
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def sample() -> str:
    boxes = (
        Box("a", Role.RESULT, "∂L/∂W", ("y = x Wᵀ + b",), Verdict.DISAGREES, "DISAGREES"),
        Box("b", Role.LEAF, "AccumulateGrad", ()),
    )
    return write_svg(Picture("Headline", "", boxes, (Arrow("a", "b", Flow.GRADIENT, "g"),)))


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # our own writer's text


def size(svg: str) -> tuple[float, float]:
    root = parse(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])


def blank(width: float, height: float) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"/>'


def png_size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def png_rows(png: bytes) -> bytes:
    """Rows of the picture, unpacked, with the sum of every chunk checked."""
    data, start = b"", 8
    while start < len(png):
        (length,) = struct.unpack(">I", png[start : start + 4])
        kind, body = png[start + 4 : start + 8], png[start + 8 : start + 8 + length]
        (check,) = struct.unpack(">I", png[start + 8 + length : start + 12 + length])
        assert zlib.crc32(kind + body) == check
        data += body if kind == b"IDAT" else b""
        start += length + 12
    assert kind == b"IEND"
    return zlib.decompress(data)


def test_pdf_has_the_size_and_the_fonts() -> None:
    svg = sample()
    pdf = write_pdf(svg)
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    (box,) = set(re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", pdf))
    assert [float(number) for number in box.split()] == pytest.approx([0, 0, *size(svg)], abs=0.01)
    fonts = set(re.findall(rb"/FontName\s*/[A-Z]+\+([\w-]+)", pdf))
    assert fonts == {b"DejaVuSansMono", b"DejaVuSansMono-Bold"}


def test_a_very_tall_pdf_is_shrunk_to_what_readers_accept() -> None:
    pdf = write_pdf(blank(1440, 28_800))
    (box,) = set(re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", pdf))
    assert [float(number) for number in box.split()] == pytest.approx([0, 0, 720, 14_400])


def test_png_decodes_to_the_size_asked_for() -> None:
    svg = sample()
    width, height = size(svg)
    for scale in (1.0, 1.5):
        png = write_png(svg, scale=scale)
        assert png_size(png) == pytest.approx((scale * width, scale * height), abs=1)
        rows = png_rows(png)
        across, down = png_size(png)
        assert len(rows) in (down * (1 + 3 * across), down * (1 + 4 * across))
    assert png_size(write_png(svg)) == pytest.approx((2 * width, 2 * height), abs=1)


def test_png_shows_text_and_boxes() -> None:
    svg = sample()
    root = parse(svg)
    for group in root.findall("{*}g"):
        root.remove(group)
    without = write_png(ET.tostring(root, "unicode"), scale=1.0)
    assert len(write_png(svg, scale=1.0)) > 2 * len(without)


def test_a_large_picture_stays_within_bounds() -> None:
    assert png_size(write_png(blank(200, 40_000))) == pytest.approx((40, 8000), abs=1)
    assert png_size(write_png(blank(200, 4000), longest=500)) == pytest.approx((25, 500), abs=1)
    width, height = png_size(write_png(blank(7000, 7000)))
    assert 39e6 < width * height <= 40.1e6


def test_the_same_picture_gives_the_same_file() -> None:
    assert write_pdf(sample()) == write_pdf(sample())
    assert b"CreationDate" not in write_pdf(sample())
    assert write_png(sample(), scale=1.0) == write_png(sample(), scale=1.0)


@pytest.mark.parametrize("write", [write_pdf, write_png])
def test_without_typst_the_error_says_what_to_install(
    write: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtraError) as error:
        write(sample())
    assert str(error.value) == snapshot
