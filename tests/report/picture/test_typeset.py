"""PDF and PNG have the size of the picture, its fonts and its colours."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from gradwitness._errors import InputError, MissingExtraError
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.typeset import write_pdf, write_png
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
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


def darkness(png: bytes) -> NDArray[np.float64]:
    """How dark each row of an RGBA picture is, its filters undone."""
    across, down = png_size(png)
    lines = np.frombuffer(png_rows(png), dtype=np.uint8).reshape(down, 1 + 4 * across)
    before = [0] * (4 * across)
    sums = []
    for kind, *line in lines.tolist():
        for n, value in enumerate(line):
            left, up, corner = (
                (line[n - 4], before[n], before[n - 4]) if n > 3 else (0, before[n], 0)
            )
            near = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            line[n] = (value + (0, left, up, (left + up) // 2, near)[kind]) % 256
        before = line
        sums.append(255 * 4 * across - sum(line))
    return np.array(sums, dtype=float)


def test_pdf_has_the_size_and_the_fonts() -> None:
    svg = sample()
    pdf = write_pdf(svg)
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    (box,) = set(re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", pdf))
    assert [float(number) for number in box.split()] == pytest.approx([0, 0, *size(svg)], abs=0.01)
    fonts = set(re.findall(rb"/FontName\s*/[A-Z]+\+([\w-]+)", pdf))
    assert fonts == {b"DejaVuSansMono", b"DejaVuSansMono-Bold"}


def test_several_documents_are_the_pages_of_one_pdf() -> None:
    pdf = write_pdf(blank(100, 200), blank(100, 50), blank(100, 200))
    boxes = re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", pdf)
    assert [float(box.split()[3]) for box in boxes] == pytest.approx([200, 50, 200])


def test_what_readers_would_refuse_is_refused(snapshot: SnapshotAssertion) -> None:
    for write, svg in ((write_pdf, blank(1440, 28_800)), (write_png, blank(200, 40_000))):
        with pytest.raises(InputError) as error:
            write(svg)
        assert str(error.value) == snapshot


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


def test_a_large_png_has_a_pixel_for_each_of_the_pictures_own_at_least() -> None:
    assert png_size(write_png(blank(200, 7000))) == pytest.approx((286, 10_000), abs=1)
    assert png_size(write_png(blank(8900, 8900))) == pytest.approx((8944, 8944), abs=1)
    with pytest.raises(InputError, match="too large for a PNG"):
        write_png(blank(9000, 9000))


def test_no_line_of_a_long_picture_is_cut() -> None:
    # Typst renders images in tiles: of 187 equal lines, some lost a part of their letters.
    line = '<text x="10" y="{}" font-size="11.5" fill="#000">HHHH gap HHHH</text>'
    lines = "".join(line.format(y) for y in range(20, 3000, 16))
    svg = blank(400, 3000).replace("/>", f">{lines}</svg>")
    dark = darkness(write_png(svg, scale=0.7))
    rows = [dark[int(0.7 * (y - 10)) : int(0.7 * (y + 4))].sum() for y in range(20, 3000, 16)]
    assert min(rows) > 0.95 * max(rows)


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
