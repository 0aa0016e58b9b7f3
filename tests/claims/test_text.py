"""Text: what NumPy and PyTorch print comes back, with how exactly it was printed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from claims.seeds import TEXT
from gradwitness import FileFormatError
from gradwitness.claims import text_file
from gradwitness.claims.sources import read_claims
from gradwitness.claims.text import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

    from gradwitness.claims.claim import Claim, Claims

MANY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FLOATS = st.floats(width=64, allow_nan=False, allow_infinity=False)


def read(path: Path, content: str | bytes) -> Claims:
    file = path / "claims.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text(file)


def only(path: Path, content: str | bytes) -> Claim:
    (run,) = read(path, content).runs
    (claim,) = run.values()
    return claim


def covers(claim: Claim, true: NDArray[Any]) -> bool:
    """Whether each true number lies within the rounding, but for float64's own."""
    room = claim.rounding * (1 + 1e-9) + 2e-16 * np.abs(true)
    return bool(claim.array.shape == true.shape and np.all(np.abs(claim.array - true) <= room))


@MANY
@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5),
        elements=st.floats(-1e30, 1e30),
    ),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_what_torch_prints(tmp_path: Path, values: NDArray[np.float64], dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(values).to(dtype)
    claim = only(tmp_path, f"Hidden_layer 3 weight gradient:\n{tensor}\n")
    assert claim.name == "Hidden_layer 3 weight gradient"
    assert covers(claim, tensor.double().numpy())
    assert np.max(claim.rounding) <= 0.51e-4 * max(1, np.abs(claim.array).max())


def test_nines_have_no_more_digits_than_they_show(tmp_path: Path) -> None:
    # 15 digits of each: half a unit of 4.50029281581193e-107 is 5e-122.
    claim = only(tmp_path, "w [9.99999999999999e+011 4.50029281581193e-107]")
    np.testing.assert_allclose(claim.rounding, [5e-4, 5e-122])


@MANY
@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6),
        elements=st.floats(-1e12, 1e12),
    ),
    st.integers(4, 17),
    st.booleans(),
)
def test_what_numpy_prints(
    tmp_path: Path, values: NDArray[np.float64], digits: int, as_repr: bool
) -> None:
    with np.printoptions(precision=digits):
        printed = f"w = {values!r}" if as_repr else f"w {values}"
    claim = only(tmp_path, printed)
    assert claim.name == "w"
    assert covers(claim, values)


@MANY
@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_shortest_decimals_read_back_to_the_same_bits(tmp_path: Path, values: list[float]) -> None:
    for printed in (f"a: {values}", "a:\n" + "\n".join(map(repr, values))):
        claim = only(tmp_path, printed)
        assert claim.array.reshape(-1).tolist() == values
        assert claim.array.tobytes() == np.array(values).tobytes()


@MANY
@given(
    st.lists(
        st.from_regex(
            r"[-+]?([0-9]{1,19}\.?[0-9]{0,9}|\.[0-9]{1,5})([eE][-+]?[0-9]{1,3})?", fullmatch=True
        )
    )
)
def test_any_decimal_is_rounded_as_python_rounds_it(tmp_path: Path, words: list[str]) -> None:
    if words:
        claim = only(tmp_path, f"a: [{', '.join(words)}]")
        assert claim.array.tobytes() == np.array([float(word) for word in words]).tobytes()


def test_numbers_next_to_the_middle_between_two(tmp_path: Path) -> None:
    # In 18 decimals, at most one unit from the middle between a float64 number and the next.
    words = []
    for number in np.random.default_rng(0).integers(2**52, 2**53, 4000).tolist():
        digits = ((2 * number + 1) * 10**18 >> 53) + 1 - number % 2
        words.append(f"{digits // 10**18}.{digits % 10**18:018d}")
    claim = only(tmp_path, f"a: [{', '.join(words)}]")
    assert claim.array.tolist() == [float(word) for word in words]


@pytest.mark.parametrize(
    ("words", "rounding"),
    [
        ("0.1234, 0.5000", 5e-5),
        # With an exponent, zero is as precise as the finest other number.
        ("1.2500e-03, 0.0000e+00", 5e-8),
        ("0.e+00, 1.e-05", 5e-6),
        ("0.0e+00, 0.0e+00", 0),
        ("0.5, 0.12345678", [2.0**-25, 5e-9]),  # NumPy leaves zeros out at the end
        ("1., 2., 0.", 5e-5),
        # So is a zero without decimals beside numbers that have as many digits as each other.
        ("0., 0.00028157907700644214", [0, 0]),
        ("0, 0.00123456, 12.3456", [5e-9, 5e-9, 5e-5]),
        ("0.5, 0.3", 0.05),
        ("-0.12345678901234567, 0.5", [0, 0]),
        ("nan, 0.25", [0, 0.005]),
        ("3, 4", 0.5),
    ],
)
def test_rounding_is_half_a_unit_of_the_last_digit(
    tmp_path: Path, words: str, rounding: Any
) -> None:
    claim = only(tmp_path, f"a: [{words}]")
    assert np.allclose(claim.rounding, rounding, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize(
    ("content", "name", "value"),
    [
        ("fc.bias = [0.5 0.25]", "fc.bias", [0.5, 0.25]),
        ("fc.bias: tensor([0.5, 0.25])", "fc.bias", [0.5, 0.25]),
        (
            "grad of fc1.weight [[0.5 1.5]\n [2.5 -0.]]",
            "grad of fc1.weight",
            [[0.5, 1.5], [2.5, 0]],
        ),
        ("b\n0.5\n1e3\n", "b", [0.5, 1000]),
        ("w:\n0.5 1\n2 3\n\n", "w", [[0.5, 1], [2, 3]]),
        ("w: 0.5, 1.5, 2.5", "w", [0.5, 1.5, 2.5]),
        ("loss 0.5", "loss", 0.5),
        ("y: tensor(0.5000, dtype=torch.float64)", "y", 0.5),
        ("{'a.b': array([0.5], dtype=float32)}", "a.b", [0.5]),
        ("{'a.b': 0.5}", "a.b", 0.5),
        ("x[0]: [.5]", "x[0]", [0.5]),
        ("w (2, 1): [[1.], [2.]]", "w", [[1], [2]]),
        ("w torch.Size([1]) tensor([2.])", "w", [2]),
        ("1.00000e-05 *\n[1.0, 2.0]", "claims", [1e-5, 2e-5]),
        ("w: tensor(1e-05 *\n  [2.0])", "w", [2e-5]),
        ("w: [nan, -inf, Infinity]", "w", [math.nan, -math.inf, math.inf]),
        (f"w: [0.{'1' * 5000}]", "w", [1 / 9]),
        (
            "<tf.Variable 'd/kernel:0' shape=(1,) dtype=float32, numpy=array([.5])>",
            "d/kernel:0",
            [0.5],
        ),
        ("w: [[], []]", "w", [[], []]),
    ],
)
def test_forms_of_names_and_numbers(tmp_path: Path, content: str, name: str, value: Any) -> None:
    claim = only(tmp_path, content)
    assert claim.name == name
    assert claim.array.shape == np.shape(value)
    assert np.array_equal(claim.array, value, equal_nan=True)


def test_a_parameter_an_empty_tensor_and_dtypes(tmp_path: Path) -> None:
    (run,) = read(tmp_path, TEXT["torch"]).runs
    assert run["fc.weight"].array.tolist() == [[1, 2], [3, 4]]
    assert run["x"].array.shape == (0, 3)
    assert run["Hidden_layer 1 bias gradient"].dtype == "float64"
    assert run["big"].gaps == (2, 3)
    assert run["fc.weight"].where == "claims.txt:6"


@pytest.mark.parametrize("shape", [(2000,), (60, 60), (3, 40, 50)])
def test_what_is_left_out_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensor = torch.rand(shape)
    for printed in (str(tensor), repr(tensor.numpy())):
        claim = only(tmp_path, f"w: {printed}")
        kept = tuple(range(n) if n < 7 else (0, 1, 2, -3, -2, -1) for n in shape)
        assert claim.gaps == tuple(None if n < 7 else 3 for n in shape)
        assert not claim.is_whole
        assert covers(claim, tensor.double().numpy()[np.ix_(*kept)])


def test_what_libtorch_prints(tmp_path: Path) -> None:
    (run,) = read(tmp_path, TEXT["libtorch"]).runs
    assert np.allclose(run.pop("tensor1").array, [[2e-5, 3e-5], [4e-5, 5e-5]], rtol=1e-15)
    assert [c.array.tolist() for c in run.values()] == [
        [[1, 2, 5], [3, 4, 6]],
        [[[1, 2]], [[3, 4]]],
    ]
    assert [c.dtype for c in run.values()] == ["float32", "float64"]


def test_runs_are_told_apart(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    for content in (TEXT["runs"], "a: [1.0, 2.0]\nb: 0.5\na: [1.5, 2.5]\nb: 0.75\n"):
        claims = read(tmp_path, content)
        assert [list(run) for run in claims.runs] == [["a", "b"], ["a", "b"]]
        assert claims.runs[1]["b"].array == 0.75
        told = tuple(note for note in claims.notes if "headings: 'Epoch 1'" not in note)
        assert told == snapshot(name="notes")
        assert (told != claims.notes) == (content == TEXT["runs"])
    (run,) = read(tmp_path, "Layer 1\nw: 0.5\nb: 1.5\nLayer 2\nw: 2.5\nb: 3.5\n").runs
    assert list(run) == ["Layer 1 w", "Layer 1 b", "Layer 2 w", "Layer 2 b"]
    first, second = read(tmp_path, "run 1\n[1.]\n[2.]\nrun 2\n[3.]\n").runs
    assert (list(first), list(second)) == (["tensor1", "tensor2"], ["tensor1"])


@pytest.mark.parametrize("between", [": ", ", ", " | ", "/9 - ", ", step 4: "])
def test_a_number_behind_the_name_of_a_run_belongs_to_it(between: str, tmp_path: Path) -> None:
    """And begins it: a log's line stands above the gradients of its run."""
    text = "".join(f"Epoch {n}{between}loss={n / 4}\nw: [{n}.5, {n}.25]\n" for n in (1, 2))
    first, second = read(tmp_path, text).runs
    assert [list(run) for run in (first, second)] == [["loss", "w"], ["loss", "w"]]
    assert [float(run["loss"].array) for run in (first, second)] == [0.25, 0.5]
    assert second["w"].array.tolist() == [2.5, 2.25]


def test_lines_of_one_run_and_of_a_mere_log_begin_none(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "Epoch 2\nEpoch 2: w=[0.5, 1.5]\nEpoch 2: b=[2.5]\n").runs
    assert list(run) == ["w", "b"]
    log = "step 1: loss=0.5\nstep 2: loss=0.25\n"
    gradients = "w: [0.5, 1.5]\nb: [2.5]\n"
    for content in (log + gradients, gradients + log):
        (run,) = read(tmp_path, content).runs
        assert {"w", "b", "step 1: loss"} <= set(run)
    assert len(read(tmp_path, log).runs) == 2


@pytest.mark.parametrize(
    "content",
    [
        "a: [0.5, 0.2x5]",
        "\n\na: [1-2]",
        "a: [1.2.3]",
        "a: [--1]",
        "a: [1e5e6]",
        "a: [nannan]",
        "a: [1e, 2]",
        "a: [1 2.]\n[5.e]",
        "a: [[1, 2], [3]]",
        "a: [[1, 2], 3]",
        "a: [1, [2]]",
        "a: [[1, ..., 2], [1, 2, 3]]",
        "a: [[1, ..., 2], [1, 2]]",
        "a: [[1, 2], [3",
        "a: [0.5, None]",
        "a: " + "[" * 100_000,
        "1 2\n3\n",
        "",
        "only words\n",
        b"\x00\x01",
        "1.0 2.0\n[ CPUFloatType{3} ]",
    ],
)
def test_what_is_malformed_is_named_by_its_place(
    tmp_path: Path, content: str | bytes, snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(FileFormatError) as error:
        read(tmp_path, content)
    assert str(error.value).removeprefix(f"{tmp_path}/") == snapshot


@MANY
@given(st.sampled_from(sorted(TEXT)), st.data())
def test_damaged_files_end_in_one_kind_of_error(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(TEXT[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 5))] = data.draw(
            st.sampled_from([b"[", b"]", b"...", b"\n", b"1e", b"-", b".", b"\xff", b"(", b"nan"])
        )
    try:
        claims = read(tmp_path, bytes(content))
    except FileFormatError:
        return
    for run in claims.runs:
        for claim in run.values():
            assert np.shape(claim.rounding) in ((), claim.array.shape)
            assert claim.array.dtype == np.float64
            assert np.all(np.asarray(claim.rounding) >= 0)


def test_a_factor_that_is_no_number_is_none(tmp_path: Path) -> None:
    run = read(tmp_path, "w:\nnan *\n 1.0 2.0\n").runs[0]
    (claim,) = run.values()
    assert np.array_equal(claim.array, [1, 2])
    assert np.all(np.asarray(claim.rounding) == 0.05)


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.csv", "a.jsonl"])
def test_more_text_than_anybody_reads_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "MOST_BYTES", 1 << 20)
    (tmp_path / name).write_bytes(b"w,1\n" * (1 << 18))
    with (tmp_path / name).open("ab") as file:
        file.write(b"1")
    with pytest.raises(FileFormatError, match=r"more than 1 MiB of text\. Save .* numpy\.savez"):
        read_claims(tmp_path / name)


def test_a_matrix_alone_is_named_as_its_file(tmp_path: Path) -> None:
    values = np.array([[0.125, -0.25], [0.375, 0.5], [0.625, -0.75]])
    path = tmp_path / "fc2.weight.txt"
    for delimiter in (" ", ","):
        np.savetxt(path, values, delimiter=delimiter)
        claims = read_claims(path)
        (run,) = claims.runs
        assert run["fc2.weight"].array.tolist() == values.tolist()
        assert run["fc2.weight"].name == "fc2.weight"
        assert claims.notes == ()
    path.write_text("0.5 0.25\n\n0.75 1.5\n")
    (run,) = read_claims(path).runs
    assert list(run) == ["tensor1", "tensor2"]
