"""PDF and PNG have the size of the picture, its fonts and its colours."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from gradwitness._errors import MissingExtraError
from gradwitness.check.verdict import Verdict
from gradwitness.report.looks import INKS
from gradwitness.report.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.report.svg import write_svg
from gradwitness.report.typeset import write_pdf, write_png


def sample() -> str:
    boxes = (
        Box("a", Role.RESULT, "∂L/∂W", ("y = x Wᵀ + b",), Verdict.DISAGREES, "DISAGREES"),
        Box("b", Role.LEAF, "AccumulateGrad", ()),
    )
    return write_svg(Picture("Headline", "", boxes, (Arrow("a", "b", Flow.GRADIENT, "g"),)))


def size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])


def blank(width: float, height: float) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"/>'


def png_size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def pixels(png: bytes) -> set[tuple[int, ...]]:
    """Colours in an 8-bit RGBA or RGB file, with the filters of PNG undone."""
    (width, height), depth, kind = png_size(png), png[24], png[25]
    assert depth == 8
    channels = {2: 3, 6: 4}[kind]
    data, start = b"", 8
    while start < len(png):
        length = int.from_bytes(png[start : start + 4])
        if png[start + 4 : start + 8] == b"IDAT":
            data += png[start + 8 : start + 8 + length]
        start += length + 12
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, -1)
    above = np.zeros((width, channels), np.int64)
    colours: set[tuple[int, ...]] = set()
    for row in rows:
        above = unfilter(int(row[0]), row[1:].reshape(width, channels).astype(np.int64), above)
        colours.update(map(tuple, np.unique(above[:, :3], axis=0).tolist()))
    return colours
