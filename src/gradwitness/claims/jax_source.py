"""Gradients from JAX: pytrees as claims, under dotted names.

A leaf is named by its path in the tree: ``params.Dense_0.kernel``, ``layers.0.w``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError, MissingExtraError
from gradwitness.claims.layout import arranged
from gradwitness.claims.mappings import claims_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradwitness.claims.claim import Claims


def pytree_claims(
    tree: Any,
    *,
    names: Mapping[str, str] | None = None,
    transpose: Mapping[str, Sequence[int]] | None = None,
    source: str = "a pytree",
) -> Claims:
    """Turn a pytree of gradients into claims.

    Parameters
    ----------
    tree : pytree
        Nested dicts, lists, tuples, named tuples and dataclasses and, if JAX is loaded, whatever it
        treats as a pytree. The leaves are JAX or NumPy arrays, or numbers; None is not a leaf.
    names : mapping of str to str, optional
        What a leaf, given by its dotted path, is called in the program it is judged against:
        ``{"params.Dense_0.kernel": "0.weight"}``.
    transpose : mapping of str to sequence of int, optional
        The order of axes, as for ``numpy.transpose``, by dotted path or pattern:
        ``{"*.kernel": (1, 0)}`` for Flax's dense layers, ``(3, 2, 0, 1)`` for its convolutions.
        A kernel that ``names`` renames keeps its layout unless it is listed here.
    source : str, optional
        What messages call the source.

    Returns
    -------
    Claims
        One run, with a note for each given name and layout.

    Raises
    ------
    InputError
        If the tree holds no array, a leaf is not an array, or a name or pattern matches no leaf.

    Examples
    --------
    >>> import numpy as np
    >>> import gradwitness
    >>> tree = {"dense": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}
    >>> names = {"dense.kernel": "0.weight", "dense.bias": "0.bias"}
    >>> claims = gradwitness.pytree_claims(tree, names=names, transpose={"*.kernel": (1, 0)})
    >>> claims.runs[0]["0.weight"].array.shape
    (3, 2)
    """
    leaves: dict[str, Any] = {}
    for name, leaf in _leaves(tree):
        if name in leaves:
            raise InputError(f"{source}: two leaves are named {name!r} when keys are joined")
        leaves[name] = None if _is_none(leaf) else leaf
    return arranged(claims_of(leaves, source), names, transpose)


def jax_claims(
    loss: Callable[..., Any],
    *arguments: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    names: Mapping[str, str] | None = None,
    transpose: Mapping[str, Sequence[int]] | None = None,
) -> Claims:
    """Differentiate a function with JAX, and turn its gradients into claims.

    Parameters
    ----------
    loss : callable
        A JAX function that returns a scalar.
    *arguments
        The arguments of the function; NumPy arrays will do.
    argnums : int or sequence of int, optional
        As for ``jax.grad``.
    has_aux : bool, optional
        As for ``jax.grad``.
    names : mapping of str to str, optional
        As for `pytree_claims`.
    transpose : mapping of str to sequence of int, optional
        As for `pytree_claims`.

    Returns
    -------
    Claims

    Raises
    ------
    MissingExtraError
        If JAX is not installed.
    InputError
        As for `pytree_claims`. Exceptions of the function itself pass through.

    Examples
    --------
    >>> import numpy as np
    >>> import gradwitness
    >>> parameters = {"w": np.array([1.0, 2.0], dtype=np.float32)}
    >>> claims = gradwitness.jax_claims(lambda p: (p["w"] ** 2).sum(), parameters)
    >>> claims.runs[0]["w"].array
    array([2., 4.], dtype=float32)
    """
    try:
        import jax
    except ImportError as error:
        raise MissingExtraError(
            f"jax_claims requires JAX ({error}): pip install 'gradwitness[jax]'"
        ) from None
    gradients = jax.grad(loss, argnums=argnums, has_aux=has_aux)(*arguments)
    if has_aux:
        gradients, _ = gradients
    name = getattr(loss, "__name__", type(loss).__name__)
    return pytree_claims(gradients, names=names, transpose=transpose, source=f"jax.grad({name})")


def _is_none(leaf: Any) -> bool:
    """Whether a leaf has dtype float0, JAX's gradient of an integer."""
    return str(getattr(leaf, "dtype", "")) == "[('float0', 'V')]"


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its dotted name."""
    jax = sys.modules.get("jax")
    if jax is None:
        yield from _walk(tree, ())
        return
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        # An unregistered dataclass is a leaf to JAX.
        yield from _walk(leaf, tuple(map(_step, path)))


def _step(key: Any) -> str:
    """Return one step of a JAX path: a key, an index or an attribute."""
    steps = (getattr(key, attribute, None) for attribute in ("key", "idx", "name"))
    return str(next((step for step in steps if step is not None), key))


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if tree is None:
        return
    parts: list[tuple[Any, Any]]
    if isinstance(tree, Mapping):
        parts = list(tree.items())
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = list(zip(tree._fields, tree, strict=True))
    elif isinstance(tree, (list, tuple)):
        parts = list(enumerate(tree))
    elif is_dataclass(tree) and not isinstance(tree, type):
        parts = [(field.name, getattr(tree, field.name)) for field in fields(tree)]
    else:
        yield ".".join(path) or "gradient", tree
        return
    for step, subtree in parts:
        yield from _walk(subtree, (*path, str(step)))
