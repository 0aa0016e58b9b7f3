"""Claims in JSON: digits, names, and what is wrong with a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claims.seeds import JSON
from gradwitness._errors import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.claims.claim import Claims

PLAIN = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(folder: Path, content: str | bytes) -> Claims:
    path = folder / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_claims(path)


def test_digits_are_kept(tmp_path: Path) -> None:
    (run,) = read(tmp_path, JSON).runs
    assert list(run) == ["fc.weight", "fc.bias", "loss"]
    assert np.array_equal(run["fc.weight"].array, [[0.1, 2e-3], [np.nan, -0.0]], equal_nan=True)
    assert run["loss"].rounding == 0.005
    # Where floats are written short, 1 is 1.0; with an exponent a digit is what it is.
    assert run["fc.bias"].rounding == 5e-5
    (run,) = read(tmp_path, '{"a": [1.5e1, 2.5e1], "b": 3, "c": 3e0}').runs
    assert [run[name].rounding for name in "abc"] == [0.5, 5e-5, 0.5]
    (run,) = read(tmp_path, "[-Infinity, Infinity, NaN]").runs
    assert np.array_equal(run["tensor1"].array, [-np.inf, np.inf, np.nan], equal_nan=True)


def test_several_runs(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    claims = read(tmp_path, '{"lr": 0.1, "runs": [{"a": 1.5}, {}, {"a": [2.5]}], "x": [1]}')
    assert [list(run) for run in claims.runs] == [["a"], ["a"]]
    assert claims.notes == snapshot


def test_lists_of_objects_have_numbers_in_their_names(tmp_path: Path) -> None:
    (run,) = read(tmp_path, '{"layers": [ {"w": [[1.0]]}, {"w": [2.0], "b": null} ]}').runs
    assert {name: claim.array.shape for name, claim in run.items()} == {
        "layers.0.w": (1, 1),
        "layers.1.w": (1,),
    }
    (run,) = read(tmp_path, '[{"w": 1}]').runs
    assert list(run) == ["0.w"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_names_may_be_in_any_letters(tmp_path: Path, encoding: str) -> None:
    text = '{"\u03b4 \\"W\\"\\u00e4\\ud800": [1, 2], "note": "a\\\\", "b": true}'
    (run,) = read(tmp_path, text.encode(encoding)).runs
    assert list(run) == ['\u03b4 "W"\u00e4\\ud800']


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '[{"a":' * 100_000,
        '{"a": [[1, 2],\n [3]]}',
        '{"a": [1, "x"]}',
        '{"a": [1, null]}',
        '{"a": [1, [2]]}',
        '{"a": [1, {}]}',
        '{"a": [{}, 1]}',
        '{"a": [{} {}]}',
        '{"a": [1, ...]}',
        '{"a": [1 2]}',
        '{"a": [1,,2]}',
        '{"a": [1,]}',
        '{"a": [,1]}',
        '{"a": [[1][2]]}',
        '{"a": [1-2]}',
        '{"a": [1, 2',
        '{"a": "text"}',
        "{}",
        "",
        "{",
        '{"a"',
        '{"a": 1\n, ',
        '{"a": 1, }',
        '{"a": 1} 2',
        '{"a": 1.2.3}',
        '{"a": nil}',
        '{"a": "b\\',
        '{"a',
        '{"\n": 1}',
        b'{"\xff": 1}',
        '{"a": {"b": 1}, "a.b": 2}',
        '{"a": "", "a": 2}',
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, content: str | bytes, snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(FileFormatError) as error:
        read(tmp_path, content)
    assert str(error.value).removeprefix(f"{tmp_path}/") == snapshot


NUMBERS = st.floats(width=32) | st.integers(-(10**6), 10**6)
TENSORS = st.integers(1, 4).flatmap(
    lambda n: (
        st.lists(NUMBERS, min_size=n, max_size=n)
        | st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
ITEMS = NUMBERS | TENSORS | st.none() | st.booleans() | st.text(max_size=5)
TREES = st.recursive(
    ITEMS,
    lambda inner: (
        st.dictionaries(st.text('abc\u00e4"\\ ', min_size=1, max_size=3), inner, max_size=3)
        | st.lists(st.dictionaries(st.text("ab", min_size=1), inner, max_size=2), min_size=1)
    ),
    max_leaves=12,
)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the numbers and tensors of a tree, found with what Python itself has read."""
    arrays: dict[str, Any] = {}
    if isinstance(tree, dict):
        for key, subtree in tree.items():
            arrays |= leaves(subtree, (*path, key))
    elif isinstance(tree, list) and any(isinstance(subtree, dict) for subtree in tree):
        for i, subtree in enumerate(tree):
            arrays |= leaves(subtree, (*path, str(i)))
    elif isinstance(tree, (int, float, list)) and not isinstance(tree, bool):
        arrays[".".join(path) or "tensor1"] = np.asarray(tree, float)
    return arrays


@PLAIN
@given(TREES, st.sampled_from([None, 1]))
def test_every_tree_of_numbers_is_read(tmp_path: Path, tree: Any, indent: int | None) -> None:
    text = json.dumps({"tree": tree}, indent=indent)
    expected = leaves(json.loads(text))
    try:
        (run,) = read(tmp_path, text).runs
    except FileFormatError as error:
        assert not expected or "nested names" in str(error)  # noqa: PT017
        return
    assert list(run) == list(expected)
    for name, claim in run.items():
        assert np.array_equal(claim.array, expected[name], equal_nan=True)


def test_many_small_entries_take_no_more_than_their_number(tmp_path: Path) -> None:
    content = {f"layer{i}": {"w": i / 7, "b": "x"} for i in range(20_000)}
    (run,) = read(tmp_path, json.dumps(content)).runs
    assert float(run["layer19999.w"].array) == 19999 / 7
