"""Sparse tensors: how they are recorded, and the rules of what takes or makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.programs import leaf, weighted
from gradwitness.capture.memory.sparse import dense
from gradwitness.rules import find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")

# Row 1 names nothing, (2, 1) is a zero that is named.
S = np.array([[1.5, -0.0, -2.25, 0.75], [-0.0, -0.0, -0.0, -0.0], [0.5, 0.0, -0.0, 3.0]])
NAMED = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
RNG = np.random.default_rng(0)
B, C, D = RNG.standard_normal((4, 2)), RNG.standard_normal((3, 2)), RNG.standard_normal((2, 4))
INDICES = np.array([[0, 2, 0], [1, 3, 1]])


def recorded(x: np.ndarray[Any, Any], layout: torch.layout = torch.sparse_csr) -> torch.Tensor:
    """The torch tensor that is recorded as an array."""
    named = ~((x == 0) & np.signbit(x))
    coo = torch.sparse_coo_tensor(
        torch.tensor(np.argwhere(named).T), torch.tensor(x[named]), x.shape
    )
    coo = coo.coalesce()
    return coo if layout is torch.sparse_coo else coo.to_sparse(layout=layout)


@pytest.mark.parametrize(
    "layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=["coo", "csr", "csc"]
)
def test_a_number_that_is_not_named_is_a_zero_with_a_sign(layout: torch.layout) -> None:
    array, terms = dense(recorded(S, layout))
    assert array is not None
    assert terms == 1
    assert np.array_equal(array, S)
    assert np.array_equal(np.signbit(array), np.signbit(S))
    assert not array.flags.writeable


def test_what_is_named_twice_is_added_up_and_rounded_once() -> None:
    # In bfloat16, 256 + 1 = 256 each time; the sum of all three is 258.
    numbers = torch.tensor([256.0, 1.0, 1.0], dtype=torch.bfloat16)
    tensor = torch.sparse_coo_tensor(torch.tensor([[2, 2, 2]]), numbers, (4,))
    array, terms = dense(tensor)
    assert terms == 3
    assert array is not None
    assert array.dtype == ml_dtypes.bfloat16
    assert array.astype(float).tolist() == [0, 0, 258, 0]


def test_named_rows_blocks_whole_numbers_and_complex_ones() -> None:
    rows = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([[1.0, 0.0]]), (2, 2))
    array, _ = dense(rows)
    assert array is not None
    assert np.array_equal(np.signbit(array), [[True, True], [False, False]])
    blocks = torch.eye(4).to_sparse_bsr((2, 2))
    array, _ = dense(blocks)
    assert array is not None
    assert array.tolist() == np.eye(4).tolist()
    assert np.signbit(array).sum() == 8
    zero = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([-0.0]), (2,))
    array, _ = dense(zero)
    assert array is not None
    assert np.signbit(array).tolist() == [True, False]
    for numbers in (torch.tensor([3, 4]), torch.tensor([True, True]), torch.tensor([1j, 2 + 0j])):
        tensor = torch.sparse_coo_tensor(torch.tensor([[0, 2]]), numbers, (3,))
        array, _ = dense(tensor)
        assert array is not None
        assert array.tolist() == tensor.to_dense().tolist()


def test_what_is_too_large_in_full_is_not_read() -> None:
    empty = torch.sparse_coo_tensor(torch.zeros((2, 0), dtype=torch.long), [], (2**20, 2**20))
    assert dense(empty) == (None, 1)


# The rules, by central differences along numbers that are named.

RULES: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    ("_to_sparse", (B,), {}, {"x": True}),
    ("_to_dense", (S,), {"masked_grad": None}, {"x": NAMED}),
    ("_to_dense", (S,), {"masked_grad": False}, {"x": True}),
    ("_coalesce", (S,), {}, {"x": True}),
    ("sparse_mask", (C @ D, S), {}, {"x": True}),
    (
        "_sparse_coo_tensor_with_dims_and_tensors",
        (B[:3, 0],),
        {"indices": INDICES, "size": (3, 4)},
        {"values": True},
    ),
    (
        "_sparse_coo_tensor_with_dims_and_tensors",
        (B[:3],),
        {"indices": INDICES[:1], "size": (3, 2)},
        {"values": True},
    ),
    (
        "_sparse_addmm",
        (C, S, B),
        {"beta": 0.5, "alpha": -1.5},
        {"b": True, "A": NAMED, "B": True},
    ),
    (
        "sparse_sampled_addmm",
        (S, C, D),
        {"beta": 0.5, "alpha": -1.5},
        {"s": NAMED, "A": True, "B": True},
    ),
    ("values", (S,), {"found": S[NAMED]}, {"x": NAMED}),
    ("_sparse_sum", (S,), {"dim": (1,)}, {"x": NAMED}),
    ("_sparse_softmax", (S,), {"dim": 1}, {"x": NAMED}),
    ("_sparse_log_softmax", (S,), {"dim": 0}, {"x": NAMED}),
    ("_sparse_sparse_matmul", (S, S.T), {}, {"A": NAMED, "B": NAMED.T}),
    *(
        (
            "_sparse_mm_reduce_impl",
            (S, B),
            {"reduce": kind},
            {"A": NAMED, "B": True},
        )
        for kind in ("sum", "mean", "amax", "amin")
    ),
]


def products(kind: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Which of the named numbers is taken in each row and column: the sixth is none; and values."""
    rows, columns = np.nonzero(NAMED)
    which, values = np.full((3, 2), 6), np.zeros((3, 2))
    for i in (0, 2):
        for j in range(2):
            terms = {k: S[i, columns[k]] * B[columns[k], j] for k in np.flatnonzero(rows == i)}
            which[i, j] = (max if kind == "amax" else min)(terms, key=lambda k: terms[k])
            values[i, j] = terms[which[i, j]]
    return which, values


@pytest.mark.parametrize("place", range(len(RULES)))
def test_vjps_are_the_transposes_of_slopes(place: int) -> None:
    name, operands, parameters, wanted = RULES[place]
    rule = find(f"aten.{name}")
    assert rule
    if name == "_sparse_mm_reduce_impl":
        which, values = products(parameters["reduce"])
        parameters = {**parameters, "which": which}
        y, chosen = rule.function(*operands, **parameters)
        if parameters["reduce"] in ("amax", "amin"):
            np.testing.assert_allclose(y, values, rtol=1e-15)
            assert np.array_equal(chosen, which)
            # Of another row, of another column, and none.
            for other in (which[::-1], (which + 1) % 6, which + 7):
                assert np.any(rule.function(*operands, **{**parameters, "which": other})[1] == -1)

    def value(*moved: Any) -> Any:
        # What is handed out in order is taken as recorded.
        handed = {"found": moved[0][NAMED]} if name == "values" else {}
        made = rule.function(*moved, **{**parameters, **handed})
        return made[0] if isinstance(made, tuple) else made

    g = np.random.default_rng(1).standard_normal(value(*operands).shape)
    given = (g, None) if name == "_sparse_mm_reduce_impl" else g
    result = (value(*operands), parameters.get("which")) if given is not g else value(*operands)
    for operand, where in wanted.items():
        at = rule.operands.index(operand)
        x = operands[at]
        sent = np.broadcast_to(
            rule.gradients[operand](given, result, operands, parameters), x.shape
        )
        assert not np.any(sent[~np.broadcast_to(where, x.shape)])
        for index in np.argwhere(np.broadcast_to(where, x.shape)):
            ends = []
            for step in (2.0**-12, -(2.0**-12)):
                moved = x.copy()
                moved[tuple(index)] += step
                ends.append(value(*operands[:at], moved, *operands[at + 1 :]))
            # Half of a step squared, 2^-25, times the third derivative, is left out.
            slope = np.sum(g * (ends[0] - ends[1])) / 2.0**-11
            assert sent[tuple(index)] == pytest.approx(slope, rel=1e-8, abs=1e-8)


def test_a_product_of_another_row_is_not_the_one_taken() -> None:
    rule = find("aten._sparse_mm_reduce_impl")
    assert rule
    # Both rows name the same columns alone, with the same numbers.
    A = np.array([[2.0, 3.0], [2.0, 3.0]])
    chosen = rule.function(A, np.eye(2), reduce="amax", which=np.array([[0, 1], [0, 1]]))[1]
    assert chosen.tolist() == [[0, 1], [-1, -1]]


def test_which_product_is_taken_may_depend_on_rounding() -> None:
    rule = find("aten._sparse_mm_reduce_impl")
    assert rule
    A, B = np.array([[1.0, 1.0]]), np.array([[1.0], [1 + 2.0**-20]])
    with pytest.raises(NotImplementedError, match="depends on rounding"):
        rule.function(A, B, reduce="amax", which=np.array([[0]]))


# Programs.


def embedding() -> Any:
    weight = leaf(6, 3)
    rows = torch.nn.functional.embedding(torch.tensor([1, 4, 2, 1]), weight, sparse=True)
    weighted(rows.pow(2)).backward()
    return weight


def graph_layer() -> Any:
    x, v = leaf(4, 2), leaf(6)
    places = torch.tensor(np.argwhere(NAMED).T)
    weighted(torch.sparse.mm(torch.sparse_coo_tensor(places, v, (3, 4)), x)).backward()
    return v


def masked_product() -> Any:
    a, b = leaf(3, 2), leaf(2, 4)
    # Kept where a pattern names a number, as in sparse attention.
    made: Any = torch.sparse.sampled_addmm(recorded(S).float(), a, b, beta=0.5, alpha=2.0)
    weighted(made.to_dense()).backward()
    return a


def reduced(kind: str) -> Callable[[], Any]:
    def run() -> Any:
        x = leaf(4, 2)
        weighted(torch.sparse.mm(recorded(S).float(), x, kind)).backward()
        return x

    return run


def made_sparse() -> Any:
    x = leaf(3, 4)
    weighted(x.exp().to_sparse().to_dense()).backward()
    return x


PROGRAMS = [
    embedding,
    graph_layer,
    masked_product,
    *map(reduced, ("sum", "mean", "amax", "amin")),
    made_sparse,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_right_programs_agree_and_wrong_numbers_do_not(program: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    with gw.watch() as witness:
        program()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    sent = {n for run in witness.tape.sweeps[0].node_runs for n in run.outgoing if n is not None}
    for number in sent:
        value = witness.tape.values[number]
        array = np.array(value.array)
        flat = array.reshape(-1)
        flat[int(np.argmax(np.abs(flat)))] *= 1.001
        values = list(witness.tape.values)
        values[number] = replace(value, array=array)
        found = gw.judge(replace(witness.tape, values=tuple(values)))
        assert found.verdict is gw.Verdict.DISAGREES


def test_a_gradient_where_no_number_is_named_disagrees() -> None:
    torch.manual_seed(0)
    with gw.watch() as witness:
        graph_layer()
    (number,) = (
        run.outgoing[1]
        for run in witness.tape.sweeps[0].node_runs
        if witness.tape.nodes[run.node].name.startswith("SparseAddmm")
    )
    assert number is not None
    value = witness.tape.values[number]
    array = np.array(value.array)
    array[1, 1] = np.abs(array).max()
    values = [replace(v, array=array) if v is value else v for v in witness.tape.values]
    assert gw.judge(replace(witness.tape, values=tuple(values))).wrong


def test_terms_of_sparse_gradients_are_not_known_where_places_repeat(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = leaf(6, 3)
    with gw.watch(names={"w": weight}) as witness:
        for _ in range(2):
            rows = torch.nn.functional.embedding(torch.tensor([1, 4, 1]), weight, sparse=True)
            weighted(rows.pow(2)).backward()
    # Each is right; added to the other, it is so term by term.
    assert [row.verdict for row in witness.report.rows] == [
        gw.Verdict.AGREES,
        gw.Verdict.INCONCLUSIVE,
    ]
    assert {f.comparison.reason for f in witness.report.findings} >= {
        "a sparse tensor that names a place twice: its terms are not known"
    }
    gw.save_tape(witness.tape, tmp_path / "tape.npz")
    later = gw.judge(gw.load_tape(tmp_path / "tape.npz"))
    assert later.verdict is gw.Verdict.INCONCLUSIVE
    assert later.wrong == ()


def test_sparse_gradients_that_are_added_in_place_are_read_anew() -> None:
    torch.manual_seed(0)
    weight = leaf(6, 3)
    with gw.watch(names={"w": weight}) as witness:
        for at in ([1, 4], [1, 4], [2, 4]):
            rows = torch.nn.functional.embedding(torch.tensor(at), weight, sparse=True)
            weighted(rows.pow(2)).backward()
    assert [row.verdict for row in witness.report.rows][:2] == [gw.Verdict.AGREES] * 2
    assert witness.report.wrong == ()


@pytest.mark.parametrize("factor", [1, 2])
def test_a_function_may_send_what_a_sparse_operand_names_alone(factor: int) -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, A: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(A, x)
            return A @ x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            A, x = ctx.saved_tensors
            return (g @ x.t()).sparse_mask(A), factor * A.t() @ g

    torch.manual_seed(0)
    A, x = recorded(S, torch.sparse_coo).float().requires_grad_(), leaf(4, 2)
    with gw.watch(names={"A": A, "x": x}, rerun=True) as witness:
        apply: Any = Product.apply
        weighted(apply(A, x)).backward()
    # Autograd's own product sends a gradient for all numbers, so that both are left open.
    of_a, of_x = witness.report.rows
    assert of_a.verdict is gw.Verdict.INCONCLUSIVE
    assert "of a sparse tensor only what it names may count" in str(witness)
    assert of_x.verdict is (gw.Verdict.AGREES if factor == 1 else gw.Verdict.DISAGREES)


SPARSE_OPERANDS: list[Callable[[Any], Any]] = [
    lambda s: (s * s).to_dense(),
    lambda s: (s + s / 2).to_dense(),
    lambda s: (-s.t()).to_dense(),
    lambda s: s.relu().pow(2).to_dense(),
    lambda s: s.to_sparse_csr() @ torch.ones(4, 2),
    lambda s: s @ torch.ones(4),
    lambda s: torch.ones(3, 4) + s,
    lambda s: s.sum(),
    lambda s: s.coalesce().values(),
    lambda s: torch.sparse.sum(s),
    lambda s: torch.sparse.sum(s, 1).to_dense(),
    lambda s: torch.sparse.softmax(s, 1).to_dense(),
    lambda s: torch.sparse.log_softmax(s, 0).to_dense(),
    lambda s: torch.sparse.mm(s, s.detach().t()).to_dense(),
]


@pytest.mark.parametrize("place", range(len(SPARSE_OPERANDS)))
def test_what_is_computed_with_sparse_tensors_agrees_later_too(place: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    s = recorded(S, torch.sparse_coo).float().requires_grad_()
    with gw.watch(names={"s": s}) as witness:
        weighted(SPARSE_OPERANDS[place](s)).backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    gw.save_tape(witness.tape, tmp_path / "tape.npz")
    assert gw.judge(gw.load_tape(tmp_path / "tape.npz")).verdict is gw.Verdict.AGREES


def test_the_softmax_of_named_numbers_is_that_of_each_row_alone() -> None:
    rule = find("aten._sparse_softmax")
    assert rule
    y = rule.function(S, dim=1)
    for row, wanted in ((0, [1.5, -2.25, 0.75]), (2, [0.5, 0.0, 3.0])):
        e = np.exp(wanted)
        np.testing.assert_allclose(y[row][NAMED[row].astype(bool)], e / e.sum(), rtol=1e-14)
    assert np.signbit(y[~NAMED]).all()


def test_numbers_in_another_order_are_left_open() -> None:
    rule = find("aten.values")
    assert rule
    with pytest.raises(NotImplementedError, match="row by row"):
        rule.function(S, found=S.T[NAMED.T])


def test_numbers_that_are_handed_out_by_columns_are_left_open() -> None:
    torch.manual_seed(0)
    s = recorded(S, torch.sparse_coo).float().requires_grad_()
    with gw.watch(names={"s": s}, rerun=True) as witness:
        weighted(s.to_sparse(layout=torch.sparse_csc).values()).backward()
    (row,) = witness.report.rows
    assert row.verdict is gw.Verdict.INCONCLUSIVE
    assert "numbers of a sparse tensor that do not lie row by row" in str(witness)


# Row 0 names columns 1 and 2, row 1 none, row 2 column 0, and that number is a zero.
PLACES = np.array([[-0.0, 4.0, -2.0], [-0.0, -0.0, -0.0], [0.0, -0.0, -0.0]])


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("indices", [[0, 0, 2], [1, 2, 0]]),
        ("indices", [[2, 0, 0, 0], [0, 2, 1, 2]]),
        ("_indices", [[0, 0, 2], [1, 2, 0]]),
        ("crow_indices", [0, 2, 2, 3]),
        ("col_indices", [1, 2, 0]),
        ("ccol_indices", [0, 1, 2, 3]),
        ("row_indices", [2, 0, 0]),
    ],
)
def test_the_places_of_a_sparse_tensor_are_those_that_it_names(name: str, right: Any) -> None:
    rule = find(f"aten.{name}")
    assert rule
    found = np.array(right)
    assert np.array_equal(rule.function(PLACES, found=found), found)
    for index in np.ndindex(found.shape):
        other = found.copy()
        other[index] = (other[index] + 1) % 3
        assert not np.array_equal(rule.function(PLACES, found=other), other)


def of_rows(w: Any) -> Any:
    s = recorded(S, torch.sparse_coo).float().coalesce()
    return w[s.indices()[1]] * s._values()


def of_compressed_rows(w: Any) -> Any:
    s = recorded(S, torch.sparse_coo).float().to_sparse_csr()
    assert s.crow_indices()[-1] == len(s.values())
    return w[s.col_indices()] * s.values()


@pytest.mark.parametrize("computed", [of_rows, of_compressed_rows])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_what_is_computed_at_the_places_of_a_sparse_tensor_agrees(computed: Any) -> None:
    w = torch.ones(4, requires_grad=True)
    with gw.watch(names={"w": w}) as witness:
        weighted(computed(w)).backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)


def test_places_that_are_not_read_row_by_row_are_left_open() -> None:
    for name in ("crow_indices", "col_indices"):
        rule = find(f"aten.{name}")
        assert rule
        with pytest.raises(NotImplementedError, match="a sparse tensor of blocks"):
            rule.function(PLACES, found=np.array([0, 1]))
    rule = find("aten.indices")
    assert rule
    with pytest.raises(NotImplementedError, match="without floating-point numbers"):
        rule.function(PLACES.astype(int), found=np.array([[0], [1]]))
