"""Small files of every kind that the readers take, to begin from when making bad ones."""

from __future__ import annotations

import io
import json
import struct

import numpy as np

TEXT = {
    "torch": """Hidden_layer 1 weight gradient:
tensor([[-0.3118, -0.5326],
        [ 0.2926, -1.1000]], grad_fn=<MulBackward0>)
Hidden_layer 1 bias gradient: tensor([1.0000e-05, 0.0000e+00], device='cuda:0', dtype=torch.float64)
fc.weight = Parameter containing:
tensor([[1., 2.],
        [3., 4.]], requires_grad=True)
x: tensor([], size=(0, 3))
y: tensor(0.5000)
big: tensor([[ 0.1,  0.2,  0.3,  ...,  0.1,  0.2,  0.3],
        [ 0.1,  0.2,  0.3,  ...,  0.1,  0.2,  0.3],
        ...,
        [ 0.1,  0.2,  0.3,  ...,  0.1,  0.2,  0.3]])
""",
    "numpy": """W1 [[ 0.1         0.12345678]
 [-0.          1.        ]]
b1: array([1.e-05, nan, -inf], dtype=float32)
{'a.b': array([0.5]), 'c': 0.25}
W torch.Size([1, 2]) [[0.5 0.25]]
""",
    "rows": """# Layer 1
1.5e-01 2.5e-01
3.5e-01 4.5e-01

bias: 0.1, 0.2
loss = 0.125
""",
    "libtorch": """1e-05 *
 2.0  3.0
 4.0  5.0
[ CPUFloatType{2,2} ]
w:
Columns 1 to 2 1 2
 3 4

Columns 3 to 3
 5
 6
[ CPUFloatType{2,3} ]
(1,.,.) =
 1 2
(2,.,.) =
 3 4
[ CPUDoubleType{2,1,2} ]
""",
    "runs": "Epoch 1\na: [1.0, 2.0]\nb: 0.5\nEpoch 2\na: [1.5, 2.5]\nb: 0.75\n",
    "own": "# gradwitness-gradients: 1\n# side: torch\ntensor a float32 2 2\n0.1 0.2\n0.3 0.4\n",
    "deep": "a: " + "[" * 40 + "1" + "]" * 40,
    "cut": "a: [[1, 2], [3",
}


def npz() -> bytes:
    """Return an .npz with two arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.arange(6.0).reshape(2, 3), b=np.array([1, 2], np.float32))
    return stream.getvalue()


def safetensors() -> bytes:
    """Return a .safetensors file with one tensor of bfloat16 and one of float32."""
    header = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "BF16", "shape": [1], "data_offsets": [8, 10]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + np.array([1, 2], "<f4").tobytes() + b"\x80\x3f"


JSON = '{"fc": {"weight": [[0.1, 2e-3], [NaN, -0.0]], "bias": [1, 2]}, "loss": 0.25}'

FLAX = """{"params": {"Conv_0": {"kernel": [[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], "bias": null},
 "Dense_0": {"kernel": [[1, 2], [3, 4]], "bias": [0.5, -1e-3]},
 "Dense_1": {"kernel": [[1], [2]], "bias": [3]}}}"""
LISTS = """{"runs": [{"layers": [{"w": [[1, 2], [3, 4]], "b\\u00e4": []}, {"w": [-Infinity]}]}, {}],
 "n": "x"}"""

SEEDS: dict[str, bytes] = {
    **{f"{name}.txt": text.encode() for name, text in TEXT.items()},
    "wide.txt": b"\xff\xfe" + TEXT["runs"].encode("utf-16-le"),
    "arrays.npz": npz(),
    "tensors.safetensors": safetensors(),
    "nested.json": JSON.encode(),
    "flax.json": FLAX.encode(),
    "lists.json": LISTS.encode(),
}
