"""Claims in JSON: trees of numbers, and tables of records."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.table_records import claims_of_records, is_table, limited
from gradwitness.claims.text_brackets import MAX_DEPTH
from gradwitness.claims.text_file import read_bytes
from gradwitness.claims.text_numbers import DECIMALS_OF_A_POINT, Digits, Numbers, advice, digits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradwitness.claims.claim import Run
    from gradwitness.claims.table_records import Record
# Exact decimals of a float64 have up to 1,075 digits.
_LONGEST_NUMBER = 1100


def read_json(path: Path) -> Claims:
    """Read nested objects of nested lists of numbers; names are joined by dots.

    A list of objects is a level of the tree, or a table of records. Raises `FileFormatError` if it
    is not JSON, or a list is no tensor.
    """
    tree = _loads(read_bytes(path), path)
    if isinstance(tree, list) and is_table(tree):
        return claims_of_records(_cells(tree, path), path)
    if not isinstance(tree, dict) or not isinstance(tree.get("runs"), list):
        return _of_runs([_claims(tree, path)], path)
    runs = [_claims(part, path) for part in tree.pop("runs")]
    others = len(_claims(tree, path))
    return _of_runs(runs, path, f"{others} entries besides 'runs' were ignored" if others else "")


def read_jsonl(path: Path) -> Claims:
    """Read one JSON object a line: a table of records, or a run each."""
    lines = enumerate(io.BytesIO(read_bytes(path)), 1)
    records = [_loads(line, path, n) for n, line in limited(lines, path) if line.strip()]
    if is_table(records):
        return claims_of_records(_cells(records, path), path)
    return _of_runs([_claims(record, path) for record in records], path)


def _of_runs(runs: list[Run], path: Path, note: str = "") -> Claims:
    if not any(runs):
        raise FileFormatError(f"{path}: no numbers found; expected names with lists of numbers")
    return Claims(path.name, tuple(run for run in runs if run), (note,) if note else ())


def _loads(content: bytes, path: Path, first: int = 1) -> Any:
    """Return what JSON holds, which begins in line ``first``."""
    try:
        return json.loads(
            content.decode(),
            parse_float=_number,
            parse_int=_number,
            parse_constant=digits,
            object_pairs_hook=lambda pairs: _object(pairs, path),
        )
    except RecursionError:
        raise FileFormatError(f"{path}: nested more than {MAX_DEPTH} levels deep") from None
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated") or not error.doc[error.pos :].strip()
        place = f"line {first + error.lineno - 1}, column {error.colno}"
        what = error.msg[0].lower() + error.msg[1:]
        raise FileFormatError(
            f"{path}, {place}: not JSON: {what}{'. Is the file cut off?' if is_cut else ''}"
        ) from None
    except ValueError as error:
        raise FileFormatError(f"{path}: not JSON ({error})") from None


def _number(text: str) -> Any:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} characters")
    return digits(text)


def _object(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        # A lone surrogate could not be printed.
        name = key.encode(errors="backslashreplace").decode()
        if name in entries:
            raise FileFormatError(f"{path}: two entries of one object are named {name[:80]!r}")
        entries[name] = value
    return entries


def _claims(tree: Any, path: Path) -> Run:
    """Return the tensors of a tree."""
    run: Run = {}
    for name, value in _leaves(tree, (), path):
        if name in run:
            raise FileFormatError(
                f"{path}: two entries are named {name[:80]!r} when nested names are joined"
            )
        run[name] = _tensor(value, name, path)
    return run


def _leaves(tree: Any, names: tuple[str, ...], path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the numbers and lists of numbers of a tree; other text is no claim."""
    if len(names) > MAX_DEPTH:
        raise FileFormatError(f"{path}: nested more than {MAX_DEPTH} levels deep")
    if isinstance(tree, list) and any(isinstance(part, dict) for part in tree):
        if not all(isinstance(part, dict) for part in tree):
            raise FileFormatError(f"{path}: a list of both objects and others: {'.'.join(names)!r}")
        tree = {str(index): part for index, part in enumerate(tree)}
    if isinstance(tree, dict):
        for key, part in tree.items():
            yield from _leaves(part, (*names, key), path)
    elif isinstance(tree, Digits | list):
        yield ".".join(names) or "tensor1", tree


def _tensor(value: Any, name: str, path: Path) -> Claim:
    numbers = Numbers(DECIMALS_OF_A_POINT)
    shape: list[int] = []

    def add(part: Any, depth: int, *, is_first: bool) -> None:
        if isinstance(part, list) and depth < MAX_DEPTH:
            if is_first:
                shape.append(len(part))
            if depth >= len(shape) or len(part) != shape[depth]:
                raise FileFormatError(
                    f"{path}: the lists of {name[:80]!r} differ in length or depth"
                )
            if depth + 1 == len(shape) and all(isinstance(inner, Digits) for inner in part):
                numbers.extend([inner.encode() for inner in part])
                return
            for index, inner in enumerate(part):
                add(inner, depth + 1, is_first=is_first and index == 0)
        elif isinstance(part, Digits) and depth == len(shape):
            numbers.append(part.encode())
        else:
            raise FileFormatError(
                f"{path}: expected only numbers in {name[:80]!r}, found {str(part)[:30]!r}."
                + advice(str(part))
            )

    add(value, 0, is_first=True)
    values, rounding = numbers.take()
    if isinstance(rounding, np.ndarray):
        rounding = rounding.reshape(shape)
    return Claim(name, values.reshape(shape), rounding, where=path.name)


def _cells(records: list[dict[str, Any]], path: Path) -> list[Record]:
    return [
        {key: _tensor(v, key, path) if isinstance(v, list) else v for key, v in record.items()}
        for record in records
    ]
