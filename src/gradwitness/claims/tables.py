"""Gradients in tables, as pandas and people write them: of numbers, of arrays, long or wide.

What the columns of a table mean is told here, however its cells are read: `table_records` has them
one by one, `table_columns` has columns of one kind of cell as arrays.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.text_numbers import Digits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Run

    Integers: TypeAlias = NDArray[np.int64]

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
NO_CLAIM = {"dtype", "shape", "device", "type"}
INTEGER = re.compile(r"\d{1,9}")
MOST_ROWS = 1 << 21


class Table(Protocol):
    """Columns by their names, but for those of no claim, in which nothing is amiss."""

    path: Path
    columns: list[str]
    rows: int

    def is_text(self, column: str) -> bool:
        """Whether all cells of a column are text."""

    def words(self, column: str) -> tuple[Integers, list[str]]:
        """Return which of some different words each row holds; numbers are `Digits`."""

    def places(self, column: str) -> Integers:
        """Return the index in each cell of a column, with -1 where one is shorter, or empty."""

    def has_tensors(self, column: str) -> bool:
        """Whether a cell of a column is a tensor."""

    def has_numbers(self, columns: list[str], rows: Integers) -> bool:
        """Whether any cell in some rows and columns is more than text, or nothing."""

    def tensor(self, name: str, columns: list[str], rows: Integers | None = None) -> Claim:
        """Return the tensor in a cell, or the vector of several; empty cells at the end fill up.

        Raises `FileFormatError` if a cell holds anything else.
        """


def claims_of_table(table: Table, *, are_entries: bool = False) -> Claims:
    """Return the claims in a table.

    A table with names is long: a row is a tensor, or an entry of one, which columns of indices
    place. Without names it is wide: a column is a tensor, or a cell is, and then each row is a run.

    Parameters
    ----------
    table : Table
    are_entries : bool
        Whether indices are those of entries, even if they count the rows. Then a tensor that they
        do not fill is left out, with a note.
    """
    columns = table.columns
    runs = [c for c in columns if c.lower() in RUNS]
    indices = [c for c in columns if INDEX.fullmatch(c)]
    names = [c for c in columns if c not in indices and (c.lower() in NAMES or table.is_text(c))]
    values = [c for c in columns if c not in (*runs, *indices, *names)]
    if names:
        found, notes = _Long(table, runs, indices, names, values).read(are_entries=are_entries)
    else:
        found, notes = _wide(table, values or indices)
    found = [run for run in found if run]
    if not (found or are_entries):
        raise FileFormatError(
            f"{table.path}: no numbers found; expected a table of names and numbers"
        )
    return Claims(table.path.name, tuple(found), tuple(notes))


def may_count(column: str) -> bool:
    """Whether a column may only count the rows: pandas writes its index in one without a name."""
    return column == "" or column.startswith("Unnamed: ")


def _wide(table: Table, columns: list[str]) -> tuple[list[Run], list[str]]:
    """Return the tensors in columns or in cells, and notes on numbers that are left out."""
    if any(map(table.has_tensors, columns)):
        rows = np.arange(table.rows)[:, None]
        return [
            {c: table.tensor(c, [c], row) for c in columns if table.has_numbers([c], row)}
            for row in rows
        ], []
    vectors = {c: table.tensor(c, [c]) for c in columns}
    short = {c for c, x in vectors.items() if not x.array.size or np.isnan(x.array.flat[-1])}
    notes = []
    if any(x.array.size == table.rows for c, x in vectors.items() if c not in short):
        # Where one column is full, NaN at the end of another fills it up.
        for name in (c for c in columns if c in short):
            values = vectors[name].array.reshape(-1)
            length = 1 + int(np.flatnonzero(~np.isnan(values)).max(initial=-1))
            rounding = np.broadcast_to(vectors[name].rounding, values.shape)[:length]
            vectors[name] = claim_of(name, values[:length], rounding, table.path)
            if count := len(values) - length:
                notes.append(f"{name}: NaN at its end (in {count} cells) was taken for filling")
    return [_as_matrix(vectors, table.path)], notes


def _as_matrix(vectors: Run, path: Path) -> Run:
    """Return columns as they are, or one matrix if their names are the numbers of its columns."""
    if not vectors or not all(map(INTEGER.fullmatch, vectors)):
        return vectors
    parts = list(vectors.values())
    if len({part.array.size for part in parts}) > 1:
        raise FileFormatError(f"{path}: its columns differ in length")
    # In one row each column is a scalar.
    values = np.stack([claim.array.reshape(-1) for claim in parts], axis=1)
    roundings = [np.broadcast_to(claim.rounding, len(values)) for claim in parts]
    return {path.stem: Claim(path.stem, values, np.stack(roundings, axis=1), where=path.name)}


class _Long:
    """A table with a column of names, or several."""

    def __init__(
        self,
        table: Table,
        runs: list[str],
        indices: list[str],
        names: list[str],
        values: list[str],
    ) -> None:
        self._table = table
        self._values = values
        self._are_counts = len(values) > 1 and all(map(INTEGER.fullmatch, values))
        self._codes, self._words = self._names(names)
        changes = [np.flatnonzero(np.diff(table.words(c)[0])) + 1 for c in runs]
        self._starts = {n for change in changes for n in change.tolist()}
        self._places: Integers | None = None
        if indices:
            self._places = np.concatenate([table.places(c) for c in indices], axis=1)
            if not (self._places >= 0).any(axis=1).all():
                raise FileFormatError(
                    f"{table.path}: an entry without an index in a table that has them"
                )

    def _names(self, columns: list[str]) -> tuple[Integers, list[str]]:
        """Return which of some different names each row has, of one column or several."""
        (codes, words), *others = map(self._table.words, columns)
        if not others:
            return codes, [columns[0] * isinstance(word, Digits) + word for word in words]
        for more, endings in others:
            both, codes = np.unique(codes * len(endings) + more, return_inverse=True)
            pairs = (divmod(pair, len(endings)) for pair in both.tolist())
            joined = [f"{words[a]}.{endings[b]}" for a, b in pairs]
            # Those of a.b and c are those of a and b.c.
            numbered = {word: n for n, word in enumerate(dict.fromkeys(joined))}
            codes = np.array([numbered[word] for word in joined])[codes]
            words = list(numbered)
        return codes, words

    def read(self, *, are_entries: bool) -> tuple[list[Run], list[str]]:
        """Return the tensors of each run, and notes on those that are left out."""
        try:
            return self._read(self._starts, are_entries=are_entries, is_lenient=False)
        except FileFormatError:
            # Where a row comes again, another run begins.
            starts = self._starts | self._repeated()
            return self._read(starts, are_entries=are_entries, is_lenient=are_entries)

    def _read(
        self, starts: set[int], *, are_entries: bool, is_lenient: bool
    ) -> tuple[list[Run], list[str]]:
        places, found, notes = self._places, [], []
        for begin, end in pairwise((0, *sorted(starts), len(self._codes))):
            groups = self._groups(begin, end)
            if places is not None and len(groups) > 1 and not are_entries:
                # If they count the rows, they are not of a tensor's entries.
                places = None if _count(places[begin:end]) else places
            run: Run = {}
            for name, rows in groups.items():
                # One tensor of a table may lack its first entry.
                base = 0 if places is None else int((places[begin:end] != 0).all())
                try:
                    tensors = self._tensors(name, rows, places, base)
                except FileFormatError as error:
                    if not is_lenient:
                        raise
                    notes.append(f"{error}: not compared")
                    continue
                if not tensors:
                    notes.append(f"{name}: its cells are empty, and it was left out")
                run |= tensors
            found.append(run)
        return found, notes

    def _repeated(self) -> set[int]:
        """Return the rows with a name and an index that came before in their run."""
        found: set[int] = set()
        if self._places is None:
            return found
        seen: set[tuple[int, ...]] = set()
        rows = np.concatenate([self._codes[:, None], self._places], axis=1).tolist()
        for n, row in enumerate(map(tuple, rows)):
            if row in seen:
                found.add(n)
            if row in seen or n in self._starts:
                seen = set()
            seen.add(row)
        return found

    def _groups(self, begin: int, end: int) -> dict[str, Integers]:
        """Return the rows of each name, of those from one row to another, as they first come."""
        codes = self._codes[begin:end]
        order = np.argsort(codes, kind="stable")
        found, edges = np.unique(codes[order], return_index=True)
        groups = zip(found.tolist(), np.split(order + begin, edges[1:]), strict=True)
        return {self._words[n]: rows for n, rows in sorted(groups, key=lambda group: group[1][0])}

    def _tensors(self, name: str, rows: Integers, places: Integers | None, base: int) -> Run:
        """Return the tensors in rows of one name: one for each column of values.

        Indices count from ``base`` on.
        """
        table, values = self._table, self._values
        if places is None and self._are_counts:
            # The entries of a tensor side by side.
            is_empty = not table.has_numbers(values, rows)
            return {} if is_empty else {name: table.tensor(name, values, rows)}
        run: Run = {}
        for column in (c for c in values if table.has_numbers([c], rows)):
            long = name if len(values) == 1 else f"{name}.{column}"
            run[long] = table.tensor(long, [column], rows)
            if places is not None:
                run[long] = _placed(run[long], places[rows], base, table.path)
        return run


def _count(places: Integers) -> bool:
    """Whether indices count the rows."""
    is_used = places >= 0
    return bool(
        (is_used.sum(axis=1) == 1).all() and (places.max(axis=1) == np.arange(len(places))).all()
    )


def claim_of(name: str, values: NDArray[Any], rounding: NDArray[Any] | float, path: Path) -> Claim:
    """Return a vector, or the scalar of one number."""
    if len(values) == 1:
        values, rounding = values.reshape(()), np.reshape(rounding, ())[()]
    return Claim(name, values, rounding, where=path.name)


def _placed(claim: Claim, places: Integers, base: int, path: Path) -> Claim:
    """Put the entries of a tensor where their indices say, one in each row.

    Raises `FileFormatError` if they do not fill a tensor.
    """
    is_used = places >= 0
    axes = int(np.count_nonzero(is_used[0]))
    are_alike = not (is_used != is_used[0]).any() or (is_used.sum(axis=1) == axes).all()
    if not are_alike or len(places) != claim.array.size:
        raise FileFormatError(f"{path}, {claim.name[:80]}: its indices differ in length")
    order = places[is_used].reshape(-1, axes) - base
    shape = tuple(int(n) + 1 for n in order.max(axis=0))
    size = int(np.prod(np.array(shape, float)))
    at: Any = np.ravel_multi_index(tuple(order.T), shape) if size == len(order) else order[:0]
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


def _is_each(places: Integers) -> bool:
    """Whether so many places are each one of as many."""
    return bool((np.bincount(places, minlength=len(places)) == 1).all())
