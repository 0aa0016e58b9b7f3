"""Gradients in tables, as pandas and people write them: of numbers, of arrays, long or wide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.text_numbers import Digits, Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Run

Row = TypeVar("Row")

# A row by the names of its columns. A cell is a number, a tensor, other text, or empty.
Record: TypeAlias = "dict[str, Digits | Claim | str | None]"

NAMES = {
    "name",
    "names",
    "param",
    "params",
    "parameter",
    "tensor",
    "layer",
    "key",
    "variable",
    "path",
}
RUNS = {"run", "step", "epoch", "iter", "iteration", "seed", "trial", "pass"}
INDEX = re.compile(
    r"(?i)(?:flat[ _]?)?(?:index|idx|element|entry|position|pos)|row|col(?:umn)?|[ijkl]"
    r"|(?:dim|axis|index|idx|i|level)[ _]?\d"
)
UNNAMED = "Unnamed: "
NO_CLAIM = {"dtype", "shape", "device", "type"}
INTEGER = re.compile(r"\d{1,9}")
# A dash between two numbers is no sign.
_NEGATIVE = re.compile(r"(?<![\w)\]])-\s*\d")
_MOST_ENTRIES = 1 << 26
MOST_ROWS = 1 << 21
_ADVICE = (
    "Write decimals with a point and exponents with e, nothing between thousands, several numbers "
    "in brackets, and nan where there is no number."
)


class Ambiguous(str):
    """Text of a cell that is one number or several."""

    __slots__ = ()


def limited(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """Yield the rows of a table; raise `FileFormatError` if there are too many."""
    for count, row in enumerate(rows):
        if count == MOST_ROWS:
            raise FileFormatError(
                f"{path}: more than {MOST_ROWS:,} rows. Save so many numbers as arrays: by "
                "numpy.savez, or as .safetensors or .pt."
            )
        yield row


def is_table(records: list[Any]) -> bool:
    """Whether records have a column of names; else each is a run by itself."""
    return (
        bool(records)
        and all(isinstance(record, dict) for record in records)
        and any(
            key.lower() in NAMES and all(_is_text(record.get(key)) for record in records)
            for key in records[0]
        )
    )


def claims_of_records(records: list[Record], path: Path, first: int = 1) -> Claims:
    """Return the claims in a table whose first record is this row.

    A table with names is long: a row is a tensor, or an entry of one, which columns of indices
    place. Without names it is wide: a column is a tensor, or a cell is, and then each row is a run.
    """
    columns = list(dict.fromkeys(key for record in records for key in record))
    columns = [c for c in columns if c.lower() not in NO_CLAIM and not _counts(records, c)]
    runs = [c for c in columns if c.lower() in RUNS]
    names = [c for c in columns if c.lower() in NAMES or all(_is_text(r.get(c)) for r in records)]
    names = [c for c in names if not INDEX.fullmatch(c)]
    notes: list[str] = []
    values = [c for c in columns if c not in (*runs, *names) and not INDEX.fullmatch(c)]
    _check_numbers(records, [c for c in columns if c not in runs], values, path, first)
    if not names:
        found, notes = _wide(records, [c for c in columns if c not in runs], path)
    else:
        indices = [c for c in columns if c not in names and INDEX.fullmatch(c)]
        parts = _by_run(records, runs, names, indices)
        found = _long(parts, names, indices, values, path)
        notes = _empty(parts, names, values)
    found = [run for run in found if run]
    if not found:
        raise FileFormatError(f"{path}: no numbers found; expected a table of names and numbers")
    return Claims(path.name, tuple(found), tuple(notes))


def _check_numbers(
    records: list[Record], columns: list[str], values: list[str], path: Path, first: int
) -> None:
    """Refuse cells that should be a number, and are none or may be several."""
    # A column of text that no row fills with a number is a remark.
    numeric = {c for c in values if any(isinstance(r.get(c), Digits | Claim) for r in records)}
    others = {c for c in columns if c.lower() not in NAMES and not INDEX.fullmatch(c)}
    for row, record in enumerate(records, first):
        for column, cell in record.items():
            if isinstance(cell, Ambiguous) and column in others:
                problem = f"{cell[:30]!r} may be one number or two"
            elif column in numeric and _is_text(cell):
                problem = f"expected a number, found {str(cell)[:30]!r}"
            else:
                continue
            raise FileFormatError(f"{path}, row {row}, {column[:80]}: {problem}. {_ADVICE}")


def _empty(parts: list[list[Record]], names: list[str], values: list[str]) -> list[str]:
    """Return notes on names without any number."""
    return [
        f"{name}: its cells are empty, and it was left out"
        for records in parts
        for name, rows in _by_name(records, names).items()
        if all(row.get(column) is None for row in rows for column in values)
    ]


def runs_of_entries(
    records: list[Record], values: list[str], path: Path
) -> tuple[list[Run], list[str]]:
    """Return the tensors whose entries come one by one, and notes on those with gaps.

    A record has a ``name``, an ``index`` and numbers in the columns ``values``.
    """
    found, notes = [], []
    for part in _by_run(records, [], ["name"], ["index"]):
        base = _base([_index(record, ["index"], path) for record in part])
        run: Run = {}
        for rows in _by_name(part, ["name"]).values():
            try:
                run |= _tensors(rows, ["name"], ["index"], values, base, path)
            except FileFormatError as error:
                notes.append(f"{error}: not compared")
        found.append(run)
    return found, notes


def _counts(records: list[Record], column: str) -> bool:
    """Whether a column only counts the rows: pandas writes its index in one without a name."""
    counts = [record.get(column) for record in records]
    return (
        (column == "" or column.startswith(UNNAMED))
        and all(isinstance(n, Digits) and INTEGER.fullmatch(n) for n in counts)
        and len(set(counts)) == len(counts)
    )


def _by_run(
    records: list[Record], runs: list[str], names: list[str], indices: list[str]
) -> list[list[Record]]:
    """Split a table into runs: by a column that says so, or where a row comes again."""
    parts: list[list[Record]] = []
    before: Any = None
    seen: set[Any] = set()
    for record in records:
        run = tuple(record.get(column) for column in runs)
        row = tuple(str(_shown(record.get(column))) for column in (*names, *indices))
        if run != before or (indices and row in seen):
            parts.append([])
            before, seen = run, set()
        seen.add(row)
        parts[-1].append(record)
    return parts


def _long(
    parts: list[list[Record]],
    names: list[str],
    indices: list[str],
    values: list[str],
    path: Path,
) -> list[Run]:
    found = []
    for records in parts:
        groups = _by_name(records, names).values()
        places = [_index(record, indices, path) for record in records] if indices else []
        if len(groups) > 1 and places == [(n,) for n in range(len(places))]:
            indices = []  # they count the rows, not a tensor's entries
        run: Run = {}
        for rows in groups:
            run |= _tensors(rows, names, indices, values, _base(places), path)
        found.append(run)
    return found


def _by_name(records: list[Record], names: list[str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_name(record, names), []).append(record)
    return groups


def _base(places: list[tuple[int, ...]]) -> int:
    """Return whether all tensors' indices count from 0 or from 1: one may lack its first."""
    return int(all(0 not in place for place in places))


def _tensors(
    rows: list[Record],
    names: list[str],
    indices: list[str],
    values: list[str],
    base: int,
    path: Path,
) -> Run:
    """Return the tensors in rows of one name: one for each column of values."""
    run: Run = {}
    name = _name(rows[0], names)
    if not indices and len(values) > 1 and all(map(INTEGER.fullmatch, values)):
        # The entries of a tensor side by side; empty cells at the end, or none, fill them up.
        cells = [row[c] for row in rows for c in values if c in row]
        return {name: _vector(cells, name, path)}
    for column in values:
        cells = [row.get(column) for row in rows]
        if all(cell is None or _is_text(cell) for cell in cells):
            continue
        full = name if len(values) == 1 else f"{name}.{column}"
        claim = _vector(cells, full, path)
        if indices:
            claim = _placed(claim, [_index(row, indices, path) for row in rows], base, path)
        run[full] = claim
    return run


def _wide(records: list[Record], columns: list[str], path: Path) -> tuple[list[Run], list[str]]:
    """Return the tensors in columns or in cells, and notes on numbers that are left out."""
    columns = [c for c in columns if not INDEX.fullmatch(c)] or columns
    if any(isinstance(record.get(c), Claim) for record in records for c in columns):
        runs = [
            {c: _vector([record[c]], c, path) for c in columns if record.get(c) is not None}
            for record in records
        ]
        return runs, []
    notes = []
    cells = {c: [record.get(c) for record in records] for c in columns}
    if any(records and _is_finite(column[-1]) for column in cells.values()):
        # Where one column is full, NaN at the end of another fills it up.
        for name, column in cells.items():
            written = 0
            while column and not _is_finite(column[-1]) and not _is_text(column[-1]):
                written += column.pop() is not None
            if written:
                notes.append(f"{name}: NaN at its end (in {written} cells) was taken for filling")
    return [as_matrix({c: _vector(column, c, path) for c, column in cells.items()}, path)], notes


def as_matrix(vectors: Run, path: Path) -> Run:
    """Return columns as they are, or one matrix if their names are the numbers of its columns."""
    if not vectors or not all(map(INTEGER.fullmatch, vectors)):
        return vectors
    stem, parts = path.stem, list(vectors.values())
    if len({part.array.size for part in parts}) > 1:
        raise FileFormatError(f"{path}: its columns differ in length")
    return {stem: _stacked(parts, stem, path)}


def _stacked(columns: list[Claim], name: str, path: Path) -> Claim:
    # In one row each column is a scalar.
    values = np.stack([claim.array.reshape(-1) for claim in columns], axis=1)
    roundings = [np.broadcast_to(claim.rounding, len(values)) for claim in columns]
    return Claim(name, values, np.stack(roundings, axis=1), where=path.name)


def _vector(cells: list[Digits | Claim | str | None], name: str, path: Path) -> Claim:
    """Return the tensor in a cell, or the vector of several; empty cells at the end fill up."""
    while cells and cells[-1] is None:
        cells = cells[:-1]
    if len(cells) == 1 and isinstance(cells[0], Claim):
        claim = cells[0]
        return Claim(name, claim.array, claim.rounding, claim.dtype, claim.gaps, path.name)
    numbers = Numbers()
    for cell in cells:
        # pandas leaves out NaN.
        word = "nan" if cell is None else cell
        if not isinstance(word, Digits) and cell is not None:
            raise FileFormatError(
                f"{path}, {name[:80]}: expected a number, found {str(_shown(cell))[:30]!r}"
            )
        numbers.append(str(word).encode())
    return claim_of(name, *numbers.take(), path)


def claim_of(name: str, values: NDArray[Any], rounding: NDArray[Any] | float, path: Path) -> Claim:
    """Return a vector, or the scalar of one number."""
    if len(values) == 1:
        values, rounding = values.reshape(()), np.reshape(rounding, ())[()]
    return Claim(name, values, rounding, where=path.name)


def _placed(claim: Claim, indices: list[tuple[int, ...]], base: int, path: Path) -> Claim:
    """Put the entries of a tensor where their indices say."""
    if len(set(map(len, indices))) > 1 or len(indices) != claim.array.size:
        raise FileFormatError(f"{path}, {claim.name[:80]}: its indices differ in length")
    return at_places(claim, np.array(indices, np.int64) - base, path)


def at_places(claim: Claim, order: NDArray[np.int64], path: Path) -> Claim:
    """Put the entries of a tensor where their indices from 0 on say, one in each row.

    Raises `FileFormatError` if they do not fill a tensor.
    """
    shape = tuple(int(n) + 1 for n in order.max(axis=0))
    size = int(np.prod(np.array(shape, float)))
    if size > _MOST_ENTRIES or size != len(order):
        at = np.zeros(0, np.int64)
    else:
        at = np.ravel_multi_index(tuple(order.T), shape)
    if not len(at) or not _is_each(at):
        raise FileFormatError(
            f"{path}, {claim.name[:80]}: {len(order)} entries do not fill the shape {shape} "
            "that their indices span"
        )
    values, rounding = claim.array.reshape(-1), claim.rounding
    if (np.diff(at) != 1).any():
        order = np.argsort(at)
        values = values[order]
        rounding = rounding[order] if isinstance(rounding, np.ndarray) else rounding
    if isinstance(rounding, np.ndarray):
        rounding = rounding.reshape(shape)
    return Claim(claim.name, values.reshape(shape), rounding, where=claim.where, is_open=True)


def _is_each(places: NDArray[np.int64]) -> bool:
    """Whether so many places are each one of as many."""
    return bool((np.bincount(places, minlength=len(places)) == 1).all())


def _index(record: Record, columns: list[str], path: Path) -> tuple[int, ...]:
    index: list[int] = []
    for column in columns:
        cell = record.get(column)
        if isinstance(cell, Claim):
            index += [int(n) for n in cell.array.reshape(-1)]
        else:
            index += [-1] * bool(_NEGATIVE.search(cell or ""))
            index += map(int, INTEGER.findall(cell or ""))
    if any(n < 0 for n in index):
        raise FileFormatError(
            f"{path}: an entry with a negative index. Count from the begin of each axis."
        )
    if not index:
        raise FileFormatError(f"{path}: an entry without an index in a table that has them")
    return tuple(index)


def _name(record: Record, columns: list[str]) -> str:
    parts = [str(_shown(record.get(column))) for column in columns]
    if len(parts) == 1 and isinstance(record.get(columns[0]), Digits):
        return f"{columns[0]}{parts[0]}"
    return ".".join(parts)


def _shown(cell: Any) -> Any:
    return cell.array.tolist() if isinstance(cell, Claim) else cell


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and not isinstance(cell, Digits)


def _is_finite(cell: Any) -> bool:
    return isinstance(cell, Digits) and cell.lower() != "nan"
