"""The blocks of data in a page that was written before: see `columns.packed`."""

from __future__ import annotations

import base64
import re
import zlib

# As the template writes a block.
_BLOCK = re.compile(
    r'<script type="application/octet-stream" id="data-(\w+)">([\w+/=]*)</script>', re.ASCII
)


def blocks_of(page: str) -> dict[str, str]:
    """Return the blocks of a page by name, as packed as they are."""
    return dict(_BLOCK.findall(page))


def unpacked(block: str, most: int) -> bytes:
    """Return the bytes of a block; of an untrusted page, at most so many."""
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = reader.decompress(base64.b64decode(block), most)
    if not reader.eof:
        raise ValueError("a block of the page is cut off, or too large")
    return content
