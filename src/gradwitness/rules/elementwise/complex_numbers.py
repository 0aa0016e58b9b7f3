"""Complex numbers: how they are made, taken apart and conjugated, and which rules hold for them.

The gradient of a real loss L with respect to z = a + i b is dL/da + i dL/db, as torch has it. The
vjp of a function that has a complex derivative is then g conj(f'(z)), which is the rule's own
formula between two conjugations: conj(conj(g) f'(z)). So a rule of real numbers whose vjp is linear
in g and makes no use of an order of numbers holds for complex ones as it stands, and the engine
conjugates. Rules that say themselves what they do to complex gradients are listed apart; all others
are of real numbers only.
"""

from __future__ import annotations

import re

import numpy as np

from gradwitness.rules.elementwise.rounding import sign_of
from gradwitness.rules.kernel_ops import is_complex, over, paired, parts
from gradwitness.rules.registry import Array, Rule, elementwise, rule
from gradwitness.rules.scalar_rule import scalar_rule

# The engine conjugates the gradient before the vjp and after it.
HOLOMORPHIC = frozenset(
    f"aten.{name}"
    for name in (
        "add", "sub", "rsub", "mul", "div", "neg", "reciprocal", "pow", "sqrt", "rsqrt", "addcmul",
        "addcdiv", "lerp", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp",
        "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh", "acosh",
        "atanh", "sinc", "sigmoid", "silu", "ldexp",
        "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "addr", "dot", "_trilinear",
        "linalg_cross", "sum", "mean", "cumsum", "prod", "cumprod", "trace",
        "linalg_inv_ex", "_linalg_solve_ex", "_linalg_det", "linalg_solve_triangular",
        "triangular_solve", "linalg_lu_factor_ex", "linalg_lu", "lu_unpack", "linalg_lu_solve",
        "linalg_matrix_exp", "logsumexp", "logcumsumexp",
        "t", "transpose", "permute", "view", "unsqueeze", "squeeze", "expand", "clone", "detach",
        "copy", "fill", "zero", "select", "slice", "as_strided", "cat", "stack", "split",
        "split_with_sizes", "unbind", "repeat", "flip", "roll", "diagonal", "tril", "triu",
        "unfold", "where", "masked_fill", "masked_scatter", "masked_select", "index",
        "index_select", "index_add", "index_copy", "index_fill", "index_put", "take", "put",
        "gather", "scatter", "scatter_add", "diag_embed",
        "diagonal_scatter", "block_diag", "constant_pad_nd", "reflection_pad2d",
        "replication_pad2d", "im2col", "col2im", "rot90", "pixel_shuffle", "pixel_unshuffle",
        "channel_shuffle", "narrow_copy",
        "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones",
        "new_full", "scalar_tensor", "eye", "linspace", "logspace", "eq", "ne", "isnan", "isinf",
        "logical_and", "logical_or", "logical_xor", "logical_not", "all", "any", "nonzero",
        "count_nonzero",
        "_to_sparse", "_to_dense", "_coalesce", "sparse_mask", "_sparse_addmm",
        "_sparse_coo_tensor_with_dims_and_tensors", "sparse_sampled_addmm",
        "_chunk_cat", "resize", "resize_as", "nonzero_static", "_unsafe_masked_index",
        "_unsafe_masked_index_put_accumulate", "as_strided_scatter",
        "select_backward", "slice_backward", "diagonal_backward", "unfold_backward",
    )
)  # fmt: skip
# Written for complex gradients, in torch's convention.
OF_COMPLEX = frozenset(
    f"aten.{name}"
    for name in (
        "complex", "polar", "view_as_real", "view_as_complex", "_conj", "vdot", "abs", "angle",
        "sgn", "_fft_c2c", "_fft_r2c", "_fft_c2r", "var", "std", "var_mean", "std_mean",
        "linalg_vector_norm", "norm", "dist", "renorm", "_linalg_slogdet", "linalg_cholesky_ex",
        "cholesky", "cholesky_solve", "cholesky_inverse", "_linalg_eigh", "_linalg_svd",
        "linalg_qr", "linalg_pinv", "linalg_lstsq", "linalg_householder_product", "ormqr", "geqrf",
        "linalg_eig", "_linalg_eigvals", "linalg_ldl_factor_ex", "linalg_ldl_solve",
    )
)  # fmt: skip
COMPLEX = HOLOMORPHIC | OF_COMPLEX


def gradient_text(rule: Rule, operand: str, over_complex: bool) -> str:
    """Return the formula of a gradient, as it is of complex numbers if it has to do with such."""
    if operand in rule.refused:
        return ""
    gradient = rule.gradients[operand]
    if not over_complex or rule.name not in HOLOMORPHIC or gradient.reads <= {"g"}:
        return gradient.text
    conjugated = re.sub(r"\bg\b", "conj(g)", gradient.text)
    return f"conj({conjugated})"


@elementwise(
    "aten.complex",
    "y = re + 1j * im",
    meaning="sends the real and the imaginary part of the gradient to the two parts",
)
def complex_(re: Array, im: Array) -> Array:
    return paired(re, im)


complex_.vjps(re="real(g)", im="imag(g)")


@elementwise(
    "aten.polar",
    "y = size * (cos(phase) + 1j * sin(phase))",
    meaning="sends to the magnitude the gradient along the result's direction, and to the phase "
    "that across it, times the magnitude",
)
def polar(size: Array, phase: Array) -> Array:
    return paired(size * np.cos(phase), size * np.sin(phase))


polar.vjps(
    size="real(g) * cos(phase) + imag(g) * sin(phase)",
    phase="imag(g) * real(y) - real(g) * imag(y)",
)


@rule(
    "aten.view_as_real",
    "y = parts(x)",
    meaning="puts the gradients of the two parts together",
)
def view_as_real(x: Array) -> Array:
    return parts(x)


view_as_real.vjp("x", "g[..., 0] + 1j * g[..., 1]")(lambda g: paired(g[..., 0], g[..., 1]))


@rule(
    "aten.view_as_complex",
    "y = x[..., 0] + 1j * x[..., 1]",
    meaning="takes the gradient apart into its two parts",
)
def view_as_complex(x: Array) -> Array:
    return paired(x[..., 0], x[..., 1])


view_as_complex.vjp("x", "parts(g)")(lambda g: parts(g))


scalar_rule(
    "aten._conj",
    "y = conj(x)",
    "conj(g)",
    meaning="conjugates the gradient",
    aliases=("aten._conj_physical", "aten.conj_physical"),
)


@rule(
    "aten.vdot",
    "y = conj(a) @ b",
    meaning="multiplies the vectors by the gradient, conjugated for the one that is conjugated",
)
def vdot(a: Array, b: Array) -> Array:
    return np.conjugate(a) @ b


vdot.vjps(a="conj(g) * b", b="g * a")


@elementwise(
    "aten.angle",
    "y = angle(imag(x), real(x))",
    meaning="sends the gradient across the number's direction, divided by its modulus; none of it "
    "to a real number",
)
def angle(x: Array) -> Array:
    if not is_complex(x):
        # NaN stays NaN; an infinity does not become one.
        return np.where(np.less(x, 0), np.pi, 0 * np.minimum(np.maximum(x, -1), 1))
    return np.arctan2(np.imag(x), np.real(x))


@angle.vjp("x", "1j * g * over(over(x, abs(x)), abs(x)) if is_complex(x) else 0 * g")
def _(g: Array, x: Array) -> Array:
    if not is_complex(x):
        return np.zeros_like(g)
    size = np.absolute(x)
    return 1j * (g * over(over(x, size), size))


@elementwise(
    "aten.sgn",
    "y = sign(x)",
    meaning="sends the part of the gradient across the number's direction, divided by its modulus; "
    "to a real number 0",
)
def sgn(x: Array) -> Array:
    if is_complex(x):
        return over(x, np.absolute(x))
    return sign_of(x)


@sgn.vjp("x", "over(g - sign(x) * real(conj(sign(x)) * g), abs(x)) if is_complex(x) else 0 * g")
def _(g: Array, x: Array) -> Array:
    if not is_complex(x):
        return np.zeros_like(g)
    size = np.absolute(x)
    direction = over(x, size)
    return over(g, size) - over(direction * np.real(np.conjugate(direction) * g), size)
