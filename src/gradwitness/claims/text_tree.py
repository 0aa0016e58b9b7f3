"""Printed trees: dicts, lists and named tuples of arrays, as Python, JAX and Flax print them.

What they print is a Python expression, or nearly: it is parsed, and never run. The numbers are
taken out first, as their digits count.
"""

from __future__ import annotations

import ast
import re
import warnings
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from gradwitness.claims.text_brackets import MAX_DEPTH, Tensor, read_nest
from gradwitness.engine.floats import is_float

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.claims.text_file import Cursor

# Where a tree begins: {, [{, [(, FrozenDict({, Params(w=, but not a tensor.
BEGIN = re.compile(
    rb"(?:\b[A-Za-z_][\w.]*\()?[\[(]*(?:\{(?=\s*(?:['\"\w}]|$))|\((?=['\"(]|\w+\())"
    rb"|\b(?!Size\b|shape\b)[A-Za-z_][\w.]*\((?=[A-Za-z_]\w*=(?:\w+\.)?\w+\(\[)"
)
_TOKEN = re.compile(
    rb"'[^'\n]*'|\"[^\"\n]*\"|#[^\n]*|<[^<>\n]*>|(?P<open>[\[({])|(?P<close>[\])}])"
    rb"|[^'\"#<\[\](){}]+|.",
    re.DOTALL,
)
_ARRAY = re.compile(rb"\[[\s\[]*(?:[-+.\d\]]|(?i:nan|inf))")
# What is parsed takes a hundred times its room.
_LONGEST = 1 << 21
_WRAPPERS = re.compile(r"(?:.*\.)?(?:tensor|array|Array|DeviceArray|Parameter|asarray)")
# A leaf: its path, what was printed, a factor, and its dtype or nothing.
Leaf: TypeAlias = "tuple[str, Tensor, float, str]"


def read_tree(text: Cursor) -> list[Leaf] | None:
    """Return the tensors of a tree that begins here, and go to its end; None if it is not one.

    Raises `FileFormatError` if a tensor in it is malformed.
    """
    begin = text.at
    skeleton, tensors = _skeleton(text)
    leaves: list[Leaf] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(skeleton, mode="eval").body
        leaves = list(_Walk(skeleton, tensors).leaves(tree, ()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    if not leaves:
        text.at = begin
        return None
    return leaves


def _skeleton(text: Cursor) -> tuple[str, list[Tensor]]:
    """Return the text of a tree with a name in place of each tensor, and the tensors."""
    parts: list[bytes] = []
    tensors: list[Tensor] = []
    depth = length = 0
    while token := _TOKEN.match(text.content, text.at):
        if token["open"] == b"[" and _ARRAY.match(text.content, text.at):
            parts.append(b"_%d" % len(tensors))
            tensors.append(read_nest(text))
            continue
        text.at = token.end()
        length += len(token[0])
        if length > _LONGEST:
            return "", []
        parts.append(b"None" if token[0][:1] == b"<" else token[0])
        depth += bool(token["open"]) - bool(token["close"])
        if depth > MAX_DEPTH or (token["close"] and not depth):
            break
    return b"".join(parts).decode("utf-8", "replace"), tensors


class _Walk:
    def __init__(self, skeleton: str, tensors: list[Tensor]) -> None:
        self._source = skeleton.encode()
        self._tensors = tensors
        lines = self._source.split(b"\n")
        self._lines = list(accumulate((len(line) + 1 for line in lines), initial=0))

    def leaves(self, node: ast.expr, path: tuple[str, ...]) -> Iterator[Leaf]:
        """Yield the leaves of a subtree."""
        tensor = self._tensor(node)
        if tensor is not None:
            yield (".".join(path), *tensor)
        else:
            for key, part in self._parts(node):
                yield from self.leaves(part, (*path, key) if key else path)

    def _parts(self, node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
        """Yield the parts of a node with their keys."""
        if isinstance(node, ast.Dict):
            yield from ((_key(k), v) for k, v in zip(node.keys, node.values, strict=True) if k)
        elif isinstance(node, ast.List | ast.Tuple):
            for index, part in enumerate(node.elts):
                if isinstance(part, ast.Tuple) and len(part.elts) == 2 and _is_text(part.elts[0]):
                    # An item of an OrderedDict.
                    yield _key(part.elts[0]), part.elts[1]
                else:
                    yield str(index), part
        elif isinstance(node, ast.Call):
            yield from (("", argument) for argument in node.args)
            for keyword in node.keywords:
                # Param(value=...) of Flax is a box around one value.
                yield "" if keyword.arg == "value" else keyword.arg or "", keyword.value

    def _tensor(self, node: ast.expr) -> tuple[Tensor, float, str] | None:
        """Return a tensor, its factor and its dtype, if a node is one."""
        if isinstance(node, ast.Call) and _WRAPPERS.fullmatch(ast.unparse(node.func)) and node.args:
            inner = self._tensor(node.args[0])
            dtypes = (ast.unparse(k.value) for k in node.keywords if k.arg == "dtype")
            dtype = next(dtypes, "").strip("'\"").rpartition(".")[2]
            return inner and (*inner[:2], dtype if is_float(dtype) else "")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            # 1e-05 * [...], as torch prints it.
            inner = self._tensor(node.right)
            return inner and (inner[0], float(self._printed(node.left)), inner[2])
        if isinstance(node, ast.Name) and node.id[1:].isdecimal() and node.id[0] == "_":
            return self._tensors[int(node.id[1:])], 1.0, ""
        printed = self._printed(node)
        if not printed:
            return None
        scalar = Tensor()
        scalar.numbers.append(printed)
        return scalar, 1.0, ""

    def _printed(self, node: ast.expr) -> bytes:
        """Return a number as it was printed; nothing if a node is none."""
        number = node.operand if isinstance(node, ast.UnaryOp) else node
        is_number = (
            isinstance(number, ast.Constant)
            and isinstance(number.value, int | float)
            and not isinstance(number.value, bool)
        ) or (isinstance(number, ast.Name) and number.id in ("nan", "inf"))
        if not is_number:
            return b""
        begin = self._lines[node.lineno - 1] + node.col_offset
        end = self._lines[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        return self._source[begin:end]


def _key(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
