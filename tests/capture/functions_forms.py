"""Programs with custom functions in more of their forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from capture.functions import apply
from capture.functions_kinds import (
    AlsoItsInput,
    Attributes,
    Between,
    Cube,
    DirtyAndNew,
    Join,
    MarkedFirst,
    NarrowInside,
    NotMaterialized,
    NumberInside,
    NumpyBeside,
    NumpyMemory,
    NumpyOnly,
    Order,
    Power,
    Product,
    Rest,
    RowByRow,
    Tanh,
    TimesInPlace,
    Unused,
    ViewAs,
)
from capture.programs import Tensors, leaf, run_back

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS: dict[str, Callable[[], Tensors]] = {}


def form(function: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Enter a program into the table of those that must be judged in full."""
    FORMS[function.__name__] = function
    return function


@form
def two_parts_and_defaults() -> Tensors:
    a, b = leaf(4, 5), leaf(4, 5)
    u, v = apply(Power, a, b, 3)
    return run_back(u * v.sin(), a, b)


@form
def no_tensors_between() -> Tensors:
    a, b, c = leaf(4), leaf(4), leaf(4)
    return run_back(apply(Between, a, 2.5, b, "text", c).sin(), a, b, c)


@form
def only_some_wanted() -> Tensors:
    a, c = leaf(4), leaf(4)
    return run_back(apply(Between, a, 2.5, torch.randn(4), "text", c).sin(), a, c)


@form
def places_are_not_differentiable() -> Tensors:
    x = leaf(7)
    return run_back(apply(Order, x)[0].square(), x)


@form
def first_output_is_not_differentiable() -> Tensors:
    x = leaf(7)
    marked, y, z = apply(MarkedFirst, x)
    return run_back(y * z + marked, x)


@form
def second_output_of_unmaterialized() -> Tensors:
    a, b = leaf(4), leaf(4)
    return run_back(apply(NotMaterialized, a, b)[1].exp(), a, b)


@form
def first_output_of_unmaterialized() -> Tensors:
    a, b = leaf(4), leaf(4)
    return run_back(apply(NotMaterialized, a, b)[0].exp(), a, b)


@form
def backward_that_is_differentiable_once() -> Tensors:
    x = leaf(5)
    return run_back(apply(Tanh, x), x)


@form
def in_place_twice() -> Tensors:
    a, b = leaf(4), leaf(4)
    y = apply(TimesInPlace, apply(TimesInPlace, a.sin(), b), b)
    return run_back(y * y, a, b)


@form
def in_place_beside_a_new_output() -> Tensors:
    a, b = leaf(4), leaf(4)
    u, v = apply(DirtyAndNew, a.sin(), b)
    return run_back(u * v, a, b)


@form
def kept_as_attributes() -> Tensors:
    a, b = leaf(3, 4), leaf(4, 5)
    return run_back(apply(Attributes, a, b), a, b)


@form
def view_of_its_input() -> Tensors:
    x = leaf(3)
    return run_back(apply(ViewAs, x * 2).sin(), x)


@form
def part_of_its_input() -> Tensors:
    x = leaf(3, 4)
    return run_back(apply(Rest, x * 2).sin(), x)


@form
def under_vmap() -> Tensors:
    x = leaf(4, 3)
    mapped: Any = torch.vmap(Cube.apply)
    return run_back(mapped(x), x)


@form
def differentiated_twice() -> Tensors:
    x = leaf(4)
    (g,) = torch.autograd.grad(apply(Cube, x).sum(), x, create_graph=True)
    return run_back(g, x)


@form
def unused_and_used_elsewhere() -> Tensors:
    x, w = leaf(4), leaf(4)
    return run_back(apply(Unused, x, w * 2) + w, x, w)


@form
def unused_altogether() -> Tensors:
    x, w = leaf(4), leaf(4)
    return [*run_back(apply(Unused, x, w), x), w.grad]


@form
def one_tensor_twice() -> Tensors:
    x = leaf(4)
    y = x.sin()
    return run_back(apply(Product, y, y), x)


@form
def one_leaf_twice() -> Tensors:
    x = leaf(4)
    return run_back(apply(Product, x, x), x)


@form
def input_among_outputs() -> Tensors:
    a, b = leaf(4), leaf(4)
    u, v = apply(AlsoItsInput, a.sin(), b)
    return run_back(u * v, a, b)


@form
def any_number_of_tensors() -> Tensors:
    parts = [leaf(4), leaf(4), leaf(4)]
    return run_back(apply(Join, *parts), *parts)


@form
def narrower_inside() -> Tensors:
    x = leaf(6, 9, dtype=torch.float64)
    return run_back(apply(NarrowInside, x).sin(), x)


@form
def row_by_row() -> Tensors:
    x, w = leaf(4, 3), leaf(3)
    return run_back(apply(RowByRow, x, w), x, w)


@form
def numpy_only() -> Tensors:
    x = leaf(4)
    return run_back(apply(NumpyOnly, x), x)


@form
def numpy_beside() -> Tensors:
    x = leaf(4)
    return run_back(apply(NumpyBeside, x), x)


@form
def numpy_in_memory_of_torch() -> Tensors:
    x = leaf(4)
    return run_back(apply(NumpyMemory, x), x)


@form
def number_inside() -> Tensors:
    x = leaf(4)
    return run_back(apply(NumberInside, x), x)
