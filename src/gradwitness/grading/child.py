"""What runs in a process of its own: somebody's function, under limits, its result into a file.

Its arguments: SUBMISSION.py FUNCTION DATA.npz OUT.npz SECONDS MEBIBYTES (DATA.npz may be empty).
Nothing of the witness is imported before the limits stand, and nothing of its results is here.
"""

from __future__ import annotations

import importlib.util
import resource
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_LARGEST_FILE = 2**28  # bytes that it may write to one file


def limit(seconds: float, mebibytes: float) -> None:
    """Limit this process for good: a limit that was lowered cannot be raised again."""
    whole = max(1, round(seconds))
    space = int(mebibytes * 2**20)
    for kind, most in (
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def gradients(path: Path, function: str, data: str) -> dict[str, Any]:
    """Import a file, call its function and return what that returns, as arrays."""
    import numpy as np

    spec = importlib.util.spec_from_file_location("submission", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    # Its neighbours can be imported, as if it were run.
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    called = getattr(module, function, None)
    if not callable(called):
        raise SystemExit(f"{path.name} has no function {function}()")
    if data:
        with np.load(data, allow_pickle=False) as held:
            result = called(dict(held))
    else:
        result = called()
    if not isinstance(result, dict):
        raise SystemExit(
            f"{function}() returned a value of type {type(result).__name__}; "
            "expected a dict of arrays by the parameters' names"
        )
    arrays = {}
    for name, given in result.items():
        array = np.asarray(given.detach() if hasattr(given, "detach") else given)
        if array.dtype.kind not in "fiub":
            raise SystemExit(f"{function}()[{name!r}] is not an array of real numbers")
        arrays[str(name)] = array if array.dtype.kind == "f" else array.astype(np.float64)
    return arrays


def show(
    path: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error from the submission's first line on: what called it is not its author's."""
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def main(words: list[str]) -> None:
    """Run a submission; its own errors end the process as they would anywhere."""
    path, function, data, out, seconds, mebibytes = words
    limit(float(seconds), float(mebibytes))
    sys.excepthook = partial(show, path)
    arrays = gradients(Path(path), function, data)
    import numpy as np

    # Names may hold what a keyword or an archive's member may not.
    held = {f"array{place}": array for place, array in enumerate(arrays.values())}
    names = np.array(list(arrays), dtype=np.str_)
    with Path(out).open("wb") as file:
        np.savez(file, names=names, **held)


if __name__ == "__main__":
    main(sys.argv[1:])
