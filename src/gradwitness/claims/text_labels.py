"""Parse the text around numbers: names, wrappers like ``tensor(...)``, and their ends."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gradwitness.engine.floats import is_float
from gradwitness.files.printed_numbers import NUMBER_PATTERN

# Names end before this column of a line.
LONGEST_LABEL = 4096
_LONGEST_NAME = 200
# Half a number is none: a long line is cut where a word ends.
_WHOLE_WORDS = re.compile(rb"(?s).*(?:(?=[\s,])|(?<=\[))")
# The letters of numbers, and those between them; as many of them as tell a name from a number.
_PLAIN = b"0123456789+-.eE, \t\r"
_ENOUGH = 512

_BRACKET = re.compile(rb"\[(?=[\s\[]*(?:[-+]*(?:\d|\.\d|nan|inf)|\.\.\.|\]|$))", re.IGNORECASE)
# [3] after a name is an index, [1/100] and [2x3] are text; so is [21, 10] before a colon.
_INDEX = re.compile(rb"\[\s*\d+\s*\]")
_TEXT = re.compile(
    rb"\[[^\]\[]*[/%:][^\]\[]*\]|\[\s*\d+\s*x[\dx\s]*\]|\[[\d\s,]*\]\s*[:=]|\[\d+\]\s*[^\W\d]"
)
_SIZE = re.compile(rb"(?:\bSize\(|\b(?:shape|size)\s*[:=]\s*)$")
_SCALAR = re.compile(
    rb"(?:\b(?:tensor|array|Array|DeviceArray|b?float\d+)\(\s*|['\"]\s*:\s*)("
    + NUMBER_PATTERN
    + rb")(?=[\s,)}])(?!\s*\*)"
)
_NUMBER = re.compile(NUMBER_PATTERN)
_SCALE = re.compile(rb"(" + NUMBER_PATTERN + rb")\s*\*\s*$")
_WORD = re.compile(rb"[^\s,:=;]+")
_DECIMAL = re.compile(rb"(?i)[.e]|nan|inf")

# fc1.weight[0,1] = 0.25, also with a number in each of several columns: an entry of a tensor.
_ENTRY = re.compile(
    rb"(?P<name>[\s#>*-]*[A-Za-z_\x80-\xff][^\n\[\]=]{0,200}?(?:\[\d+\][.\w]*){0,4}?)"
    rb"(?P<index>(?:\[[\s\d,]*\d[\s,]*\]){1,8}|\s?\([\s\d,]*\d[\s,]*\))(?:\s*[:=]|(?=\s))"
)
# An entry that would be counted from the end.
NEGATIVE_ENTRY = re.compile(
    rb"\s*[A-Za-z_][\w.]{0,200}\[[\d, \t]{0,200}-\d[-\d, \t]{0,200}\]\s*[:=]\s*"
    + NUMBER_PATTERN
    + rb"\s*\Z"
)
_BETWEEN = re.compile(rb"[\s,;|]+")

_VALUE = rb"(?:<[^>\n]{0,200}>|'[^'\n]{0,200}'|\([^)\n]{0,200}\)|[\w.:]{1,200})"
_TAIL = re.compile(
    rb"(?:\s{0,100},\s{0,100}(?:dtype|device|grad_fn|requires_grad|size|layout|shape|weak_type"
    rb"|names)\s?=\s?" + _VALUE + rb"){0,12}\s{0,100}(?:,\s{0,100})?\)"
)
_DTYPE = re.compile(rb"\bdtype\s?=\s?(?:[\w]+\.|')?(\w+)")
_SIZES = re.compile(rb"\bsize\s?=\s?\(([\d, ]*)\)")
# The end of a tensor in C++ and old versions of PyTorch: [ CPUFloatType{2,3} ].
_TRAILER = re.compile(
    rb"\s*\[\s*(?:[\w.]+?)(Float|Double|Half|BFloat16)\w*"
    rb"(?:\{([\d,]*)\}|\s+of\s+size\s+([\dx]+)|\s*\(\)|)[^\]\n]{0,80}\]"
)
_TRAILER_NAMES = {b"Float": "float32", b"Double": "float64", b"Half": "float16"}
COLUMNS = re.compile(rb"\s*Columns\s+\d+\s+(?:to|and|through)\s+\d+\s*:?")
SLICE = re.compile(rb"\s*\([\d.,\s]+\)\s*=\s*$")

_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"")
_KEY = re.compile(r"\[['\"]([^'\"\]\n]+)['\"]\]")
_KEYS = re.compile(rf"(?:{_KEY.pattern}){{2,}}")  # of a leaf in JAX: ['dense']['kernel']
_VARIABLE = re.compile(r"<\w*Variable path=([^\s,>]+),[^<>]*$")  # of Keras 3
_NOISE = re.compile(
    r"torch\.Size\(\[[^\]]*\]\)|<tf\.\w+[^>]*$|\b(?:shape|dtype|size|numpy)\s*=\s*(?:\([^)]*\)|[\w.]*)"
    r"|Parameter containing:"
)
_WRAPPER = re.compile(
    r"(?:\b(?:torch|np|numpy|jnp|jax)\.)?\b(?:tensor|array|Array|DeviceArray|Parameter|b?float\d+)"
    r"\s*\(\s*$"
)
_SHAPE = re.compile(r"(?:(?<!\w)[(\[]\s*\d+\s*,?|[(\[]\s*\d+(?:\s*[,x×]\s*\d+)+\s*,?)\s*[)\]]\s*$")
_BEFORE = " \t\r\n#>*,;:{}()[]|-=~"
_AFTER = " \t\r\n,;:=({[-~"
_RUN_HEADER = re.compile(
    r"(?i)\b(?:run|epoch|step|iter(?:ation)?|batch|seed|pass|sweep|trial|backward)s?\b"
)
_INTEGER = re.compile(rb"[-+]?\d+")
_DIGITS = re.compile(rb"\d{1,18}")


@dataclass(frozen=True)
class LineParts:
    """A line of text up to its first numbers."""

    kind: str  # `array`, `scalar`, `rows` or `text`
    label: bytes  # the text before the numbers
    at: int  # the offset of the numbers
    end: int = 0  # the end of a scalar


def beginning(line: bytes) -> bytes:
    """Return as much of a line as may hold a name, with some numbers after it."""
    end = min(len(line.rstrip(_PLAIN)) + _ENOUGH, LONGEST_LABEL)
    match = _WHOLE_WORDS.match(line, 0, end + 1) if end < len(line) else None
    return match[0] if match else line[:end]


def classify(line: bytes) -> LineParts:
    """Find the first numbers of a line: a bracket that opens an array, a scalar, or rows."""
    array = _array(line)
    scalar = _SCALAR.search(line)
    if scalar and (array is None or scalar.start() < array):
        return LineParts("scalar", line[: scalar.start(1)], scalar.start(1), scalar.end(1))
    if array is not None:
        return LineParts("array", line[:array], array)
    rows = _rows(line)
    if rows is not None:
        return LineParts("rows", line[:rows], rows)
    return LineParts("text", line, len(line))


def _array(line: bytes) -> int | None:
    after = 0
    for match in _BRACKET.finditer(line):
        at = match.start()
        if at < after:
            continue
        before = line[max(at - 40, 0) : at]
        index = _INDEX.match(line, at)
        named = before[-1:].isalnum() or before[-1:] in (b"_", b"]")
        text = _TEXT.match(line, at)
        if (index and named) or text or _SIZE.search(before):
            after = text.end() if text else line.find(b"]", at)
            continue
        return at
    return None


def _rows(line: bytes) -> int | None:
    words = list(_WORD.finditer(line))
    first = len(words)
    while first and _NUMBER.fullmatch(words[first - 1][0]):
        first -= 1
    if first == len(words) or (b"*" in line and _SCALE.search(line)):
        return None
    begin = words[first].start()
    label = line[:begin].rstrip()
    if not label:
        return begin
    if label.endswith((b":", b"=")):
        is_integer = first == len(words) - 1 and _INTEGER.fullmatch(words[first][0])
        return None if is_integer and is_run_header(clean(label)) else begin
    # "Hidden_layer 3" is a name; "Hidden_layer 3 0.25" a name and a number.
    for word in words[first:]:
        if _DECIMAL.search(word[0]):
            return word.start()
    return None


def is_like_numbers(line: bytes) -> bool:
    """Whether a line that is no row begins or ends like one, or has only letters of numbers."""
    words = _WORD.findall(line)
    return len(words) > 1 and bool(
        _NUMBER.fullmatch(words[0])
        or all(map(_NUMBER.fullmatch, words[-2:]))
        or not line.translate(None, _PLAIN)
    )


def entry(line: bytes) -> tuple[str, list[int], list[str]] | None:
    """Parse a line with an entry of a tensor: its name, its index, its number in each column."""
    match = _ENTRY.match(line) if len(line) < LONGEST_LABEL else None
    words = _BETWEEN.split(line[match.end() :].strip()) if match else []
    if not match or not all(len(w) < _LONGEST_NAME and _NUMBER.fullmatch(w) for w in words):
        return None
    place = [int(n) for n in _DIGITS.findall(match["index"])]
    return clean(match["name"]), place, [word.decode() for word in words]


def scale_of(label: bytes) -> tuple[bytes, float]:
    """Split off a factor that applies to all following numbers: ``1e-05 *``."""
    match = _SCALE.search(label) if b"*" in label else None
    if not match or not math.isfinite(float(match[1])):
        return label, 1.0
    return label[: match.start()], float(match[1])


def clean(label: bytes) -> str:
    """Return the name in the text before the numbers; empty if there is none."""
    text = label.decode("utf-8", "replace")
    if variable := _VARIABLE.search(text):
        return variable[1][:_LONGEST_NAME]
    if keys := _KEYS.search(text):
        return ".".join(_KEY.findall(keys[0]))[:_LONGEST_NAME]
    quoted = _QUOTED.findall(text)
    if quoted:
        single, double = quoted[-1]
        return str(single or double).strip()[:_LONGEST_NAME]
    text = _NOISE.sub(" ", text).rstrip()
    for _ in range(4):
        shorter = _WRAPPER.sub("", text).rstrip(_AFTER)
        shorter = _SHAPE.sub("", shorter) if _SHAPE.search(shorter) and shorter != text else shorter
        if shorter == text:
            break
        text = shorter
    return " ".join(text.lstrip(_BEFORE).split())[:_LONGEST_NAME] if _has_word(text) else ""


def _has_word(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def is_run_header(text: str) -> bool:
    """Whether a line announces another run, rather than a part of the network."""
    return bool(_RUN_HEADER.search(text))


def tail(after: bytes) -> tuple[int, str, tuple[int, ...] | None]:
    """Parse the end of ``tensor(...)``: its length, the dtype, and the size of an empty one."""
    match = _TAIL.match(after)
    if not match:
        return 0, "", None
    dtype = _DTYPE.search(match[0])
    sizes = _SIZES.search(match[0])
    name = dtype[1].decode() if dtype else ""
    size = tuple(int(s) for s in _DIGITS.findall(sizes[1])) if sizes else None
    return match.end(), name if is_float(name) else "", size


def trailer(line: bytes) -> tuple[int, str, tuple[int, ...] | None] | None:
    """Parse ``[ CPUFloatType{2,3} ]``: its length, the dtype and the shape."""
    match = _TRAILER.match(line)
    if not match:
        return None
    sizes = match[2] if match[2] is not None else match[3] or b""
    shape = tuple(int(s) for s in _DIGITS.findall(sizes))
    return match.end(), _TRAILER_NAMES.get(match[1], "bfloat16"), shape or None
