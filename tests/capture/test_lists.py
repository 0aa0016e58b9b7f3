"""Operations whose schema has lists as defaults, which cannot be hashed."""

from __future__ import annotations

import torch

import gradwitness as gw


def test_an_operation_with_list_defaults_is_recorded() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        # stride, padding and dilation are left to the schema.
        torch.nn.functional.max_pool2d(x, 2).sum().backward()  # type: ignore[no-untyped-call]
    call = next(c for c in witness.tape.calls if "max_pool2d" in c.op)
    assert call.arguments["kernel_size"] == (2, 2)
    assert call.arguments["padding"] in (0, (0, 0))


def test_outputs_without_elements_do_not_cast_doubt() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(3).eval()
    x = torch.rand(5, 3, requires_grad=True)
    with gw.watch(norm) as witness:
        # In evaluation batch norm saves no statistics: two of its three outputs are empty.
        (norm(x) * torch.rand(5, 3)).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
