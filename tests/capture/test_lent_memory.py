"""What is written to a tensor's memory through an array, or a storage, that torch gave out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness import Verdict
from gradwitness.capture.memory import storages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAYS: dict[str, Callable[[torch.Tensor], Any]] = {
    "numpy": lambda tensor: tensor.detach().numpy(),
    "data": lambda tensor: tensor.data.numpy(),
    "asarray": lambda tensor: np.asarray(tensor.detach()),
    "dlpack": lambda tensor: np.from_dlpack(tensor.detach()),
    "to torch": lambda tensor: torch.utils.dlpack.from_dlpack(tensor.detach()).numpy(),
}
OVERWRITTEN = "changed after it was saved"

ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
depths = pytest.mark.parametrize("depth", ["full", "fast"])
kept = pytest.mark.parametrize("keep", ["auto", 0, None])


def back(result: torch.Tensor) -> None:
    torch.autograd.backward(result.sum())


def gradient(leaf: torch.Tensor) -> torch.Tensor:
    assert leaf.grad is not None
    return leaf.grad


def kinds(witness: gw.Witness) -> list[str]:
    return [note.kind for note in witness.report.notes]


def applied(function: Any, *arguments: Any) -> torch.Tensor:
    result: torch.Tensor = function.apply(*arguments)
    return result


class Square(torch.autograd.Function):
    """Keeps its operand by itself, where torch does not see it change."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.x = x
        return x * x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        kept: torch.Tensor = ctx.x
        return 2 * kept * g


@ways
@depths
@kept
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_right_gradients_of_new_numbers_agree(
    way: Any, depth: str, keep: Any, dtype: torch.dtype
) -> None:
    w = torch.tensor([1.0, -2.0, 3.0], dtype=dtype, requires_grad=True)
    with gw.watch(depth=depth, keep=keep) as witness:
        back(w * w)
        way(w)[:] = 0.5
        back(w * w * w)
    assert witness.verdict is Verdict.AGREES, witness.report
    assert witness.report.notes == ()
    # 2 w of the first numbers, and 3 w^2 = 0.75 of the second ones.
    assert torch.equal(gradient(w), torch.tensor([2.75, -3.25, 6.75], dtype=dtype))


@ways
@depths
@kept
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("square", [lambda x: x * x, lambda x: applied(Square, x)])
def test_what_a_backward_kept_is_not_what_the_forward_read(
    way: Any, depth: str, keep: Any, square: Any, *, written: bool
) -> None:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with gw.watch(depth=depth, keep=keep) as witness:
        h = w * 1.5
        result = square(h)
        lent = way(h)
        if written:
            # Its backward sends 2 * 0.5, where 2 * 1.5 w belongs to the forward pass.
            lent[:] = 0.5
        back(result)
    assert witness.verdict is (Verdict.DISAGREES if written else Verdict.AGREES), witness.report
    assert kinds(witness) == ([OVERWRITTEN] if written else [])


@ways
@depths
@kept
def test_an_input_overwritten_before_its_backward(way: Any, depth: str, keep: Any) -> None:
    w, x = torch.ones(2, 3, requires_grad=True), torch.ones(4, 2)
    with gw.watch(depth=depth, keep=keep) as witness:
        result = x @ w
        way(x)[:] = 0.5
        back(result)
    # The sum of a column of x: 4 in the forward pass, 2 now.
    assert torch.equal(gradient(w), torch.full((2, 3), 2.0))
    assert witness.verdict is Verdict.DISAGREES, witness.report
    assert kinds(witness) == [OVERWRITTEN]


@depths
@kept
@pytest.mark.parametrize("at_once", [False, True])
def test_a_batch_that_is_filled_anew(depth: str, keep: Any, *, at_once: bool) -> None:
    # The weights' gradient has in each row the sum of the batches' column.
    w, x = torch.ones(2, 3, requires_grad=True), torch.zeros(4, 2)
    with gw.watch(depth=depth, keep=keep) as witness:
        results = []
        for number in (1, 2, 3):
            x.numpy()[:] = number
            results.append((x @ w).sum())
            if not at_once:
                torch.autograd.backward(results.pop())
        if at_once:
            torch.autograd.backward(results)
    # 4 (1 + 2 + 3), or three times the last one's 4 * 3, which is wrong.
    assert torch.equal(gradient(w), torch.full((2, 3), 36.0 if at_once else 24.0))
    assert witness.verdict is (Verdict.DISAGREES if at_once else Verdict.AGREES), witness.report
    assert kinds(witness) == ([OVERWRITTEN] if at_once else [])


@depths
@kept
@pytest.mark.parametrize("hold", [False, True])
def test_gradient_descent_in_numpy(depth: str, keep: Any, *, hold: bool) -> None:
    def trained() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(6, n, generator=generator) for n in (4, 3))
        w = torch.zeros(4, 3, requires_grad=True)
        numbers = None
        for _ in range(3):
            loss = (x @ w - y).square().mean()
            torch.autograd.backward(loss)
            if numbers is None or not hold:
                numbers = w.detach().numpy()
            numbers -= 0.1 * gradient(w).numpy()
            w.grad = None
        return w.detach()

    with gw.watch(depth=depth, keep=keep) as witness:
        weights = trained()
    assert witness.verdict is Verdict.AGREES, witness.report
    assert witness.report.notes == ()
    assert torch.equal(weights, trained())


class Exp(torch.autograd.Function):
    """NumPy's exponential, written into a tensor of torch's: a new one, or a copy of the operand.

    Its backward computes in NumPy, too.
    """

    factor, copied, saves_result = 1, False, False

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        result = x.clone() if Exp.copied else torch.empty_like(x)
        np.exp(x.numpy(), out=result.numpy())
        ctx.save_for_backward(result if Exp.saves_result else x)
        return result

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        numbers = ctx.saved_tensors[0].numpy()
        result = numbers if Exp.saves_result else np.exp(numbers)
        return torch.from_numpy(Exp.factor * g.numpy() * result)


@depths
@kept
@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize(
    "settings", [*itertools.product([1, 3], [False, True], [False, True])], ids=str
)
def test_a_result_that_its_function_fills(
    monkeypatch: pytest.MonkeyPatch, depth: str, keep: Any, settings: Any, *, is_root: bool
) -> None:
    for name, setting in zip(("factor", "copied", "saves_result"), settings, strict=True):
        monkeypatch.setattr(Exp, name, setting)
    w = torch.tensor([0.0, -1.0, 0.5], requires_grad=True)
    with gw.watch(depth=depth, keep=keep) as witness:
        result = applied(Exp, w * 1)
        torch.autograd.backward(result if is_root else result.sum(), torch.ones(3 * is_root or ()))
    expected = Verdict.AGREES if Exp.factor == 1 else Verdict.DISAGREES
    assert witness.verdict is expected, witness.report
    assert witness.report.notes == ()


def test_what_is_read_again_after_it_was_released_may_be_another_value() -> None:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with gw.watch(keep=0) as witness:
        back(w * w)
        back(w * w)
        # Another view of the memory, of which nothing is kept.
        w.detach()[:2].numpy()[:] = 0.5
        back(w * w * w)
    assert witness.verdict is Verdict.AGREES, witness.report
    # Twice 2 w of the first numbers, and 3 w^2 of the second ones.
    assert torch.equal(gradient(w), torch.tensor([4.75, -7.25, 39.0]))


@pytest.mark.parametrize("written", [False, True])
def test_a_recording_holds_both_values(tmp_path: Path, *, written: bool) -> None:
    w, x = torch.ones(3, requires_grad=True), torch.zeros(3)
    with gw.watch(names={"x": x}, keep=None) as witness:
        back(w * x)
        numbers = x.numpy()
        if written:
            numbers[:] = [1, 2, 3]
        back(w * x)
    values = [v.array for v in witness.tape.values if v.name == "x"]
    expected = [[0, 0, 0], [1, 2, 3]] if written else [[0, 0, 0]]
    assert [np.asarray(array).tolist() for array in values] == expected
    witness.save(tmp_path / "tape.npz")
    for tape in (witness.tape, gw.load_tape(tmp_path / "tape.npz")):
        assert gw.judge(tape).verdict is Verdict.AGREES


def test_a_byte_written_to_a_storage() -> None:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with gw.watch() as witness:
        back(w * w)
        # The last byte of 1.0 has its sign: 0x3f80_0000.
        w.detach().untyped_storage()[3] = 0xBF
        back(w * w)
    assert witness.verdict is Verdict.AGREES, witness.report
    # 2 - 2, and twice 2 w of the others.
    assert torch.equal(gradient(w), torch.tensor([0.0, -8.0, 12.0]))


class Double(torch.autograd.Function):
    """Its backward works in scratch memory, which it notes by a weak reference."""

    scratch: Any = None

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        scratch = torch.empty(3)
        np.multiply(g.numpy(), 2, out=scratch.numpy())
        Double.scratch = scratch.untyped_storage()._weak_ref()
        return scratch + 0


def test_memory_of_no_recorded_value_is_not_held() -> None:
    w = torch.ones(3, requires_grad=True)
    with gw.watch() as witness:
        back(applied(Double, w))
        assert torch.UntypedStorage._expired(Double.scratch)
    torch.UntypedStorage._free_weak_ref(Double.scratch)  # type: ignore[no-untyped-call]
    assert witness.verdict is Verdict.AGREES


ALIKE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dlpack": torch.utils.dlpack.from_dlpack,
    "from_numpy": lambda tensor: torch.from_numpy(tensor.numpy()),
    "a part": lambda tensor: torch.from_numpy(tensor.numpy()[1:]),
    "at third hand": lambda tensor: torch.utils.dlpack.from_dlpack(
        torch.from_numpy(tensor.numpy())
    ),
}


@depths
@kept
@pytest.mark.parametrize("alike", ALIKE)
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("reads_second", [False, True])
def test_two_storages_of_one_memory(
    depth: str, keep: Any, alike: str, *, before: bool, reads_second: bool
) -> None:
    w, first = torch.tensor([1.0, -2.0, 3.0], requires_grad=True), torch.ones(3)
    given = ALIKE[alike](first)
    with gw.watch(depth=depth, keep=keep) as witness:
        second = given if before else ALIKE[alike](first)
        read, written = (second, first) if reads_second else (first, second)
        back(read * w[-read.numel() :])
        written.mul_(5)
        back(read * w[-read.numel() :])
    assert witness.verdict is Verdict.AGREES, witness.report
    # 1 from each, then 5: the first number is no part of the part.
    other = 6.0 if alike != "a part" else 0.0 if reads_second else 2.0
    assert torch.equal(gradient(w), torch.tensor([other, 6.0, 6.0]))


@depths
@kept
def test_what_was_saved_of_memory_written_to_as_another_storage(depth: str, keep: Any) -> None:
    w, first = torch.tensor([1.0, -2.0, 3.0], requires_grad=True), torch.ones(3)
    with gw.watch(depth=depth, keep=keep) as witness:
        second = torch.utils.dlpack.from_dlpack(first)
        result = second * w
        first.mul_(5)
        back(result)
    # The forward pass multiplied by 1.
    assert torch.equal(gradient(w), torch.full((3,), 5.0))
    assert witness.verdict is Verdict.DISAGREES, witness.report
    assert kinds(witness) == [OVERWRITTEN]


def test_a_recording_of_memory_that_moved_to_where_torch_copied_it(tmp_path: Path) -> None:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with gw.watch(keep=None) as witness:
        w.detach().share_memory_()  # type: ignore[no-untyped-call]
        back(w * w)
        w.detach().numpy()[:] *= 0.5
        back(w * w)
    # 2 w, and half of it.
    assert torch.equal(gradient(w), torch.tensor([3.0, -6.0, 9.0]))
    witness.save(tmp_path / "tape.npz")
    for tape in (witness.tape, gw.load_tape(tmp_path / "tape.npz")):
        assert gw.judge(tape).verdict is Verdict.AGREES


MADE: dict[str, Callable[[Any], torch.Tensor]] = {
    "from_numpy": torch.from_numpy,
    "as_tensor": torch.as_tensor,
    "asarray": torch.asarray,
    "dlpack": torch.utils.dlpack.from_dlpack,
    "frombuffer": lambda array: torch.frombuffer(array.data, dtype=torch.float32).view(4, 2),
}
PICKED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "whole": lambda x: x,
    "rows": lambda x: x[:4],
    "transposed": lambda x: x.T.contiguous().T,
    "index_select": lambda x: x.index_select(0, torch.arange(len(x))),
}
# The bytes of a value that is not copied.
large = pytest.mark.parametrize("bound", [16, 2**24])


@depths
@kept
@large
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("pick", PICKED.values(), ids=PICKED)
@pytest.mark.parametrize("before", [False, True])
def test_a_batch_filled_anew_in_the_array_that_it_was_made_of(
    monkeypatch: Any, depth: str, keep: Any, made: Any, pick: Any, bound: int, *, before: bool
) -> None:
    monkeypatch.setattr(storages, "_LARGE", bound)
    w, array = torch.ones(2, 3, requires_grad=True), np.zeros((4, 2), np.float32)
    given = made(array)
    with gw.watch(depth=depth, keep=keep) as witness:
        x = given if before else made(array)
        for number in (1, 2, 3):
            array[:] = number
            back(pick(x) @ w)
    # 4 (1 + 2 + 3), the sum of each batch's column.
    assert torch.equal(gradient(w), torch.full((2, 3), 24.0))
    assert witness.verdict is Verdict.AGREES, witness.report
    if keep is None:
        assert gw.judge(witness.tape).verdict is not Verdict.DISAGREES


@depths
@kept
@large
@pytest.mark.parametrize("written", [False, True])
def test_a_batch_overwritten_in_its_array_before_the_backward(
    monkeypatch: Any, depth: str, keep: Any, bound: int, *, written: bool
) -> None:
    monkeypatch.setattr(storages, "_LARGE", bound)
    w, array = torch.ones(2, 3, requires_grad=True), np.ones((4, 2), np.float32)
    with gw.watch(depth=depth, keep=keep) as witness:
        result = torch.from_numpy(array) @ w
        if written:
            array[:] = 0.5
        back(result)
    # A column's sum is 4 in the forward pass, and 2 later.
    assert torch.equal(gradient(w), torch.full((2, 3), 2.0 if written else 4.0))
    if written and bound == 16:
        # Without a copy, only what the judge still has of the forward pass can tell.
        assert witness.verdict is not Verdict.AGREES, witness.report
    else:
        expected = Verdict.DISAGREES if written else Verdict.AGREES
        assert witness.verdict is expected, witness.report
