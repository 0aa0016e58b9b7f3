"""Submitted programs: run apart, under limits, and whatever they do is their own affair."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

import gradwitness
from gradwitness import InputError
from gradwitness.grading.submission import HandedIn, take
from gradwitness.grading.task import Limits

QUICK = Limits(seconds=20.0, mebibytes=1024.0)


def handed_in(folder: Path, body: str, limits: Limits = QUICK) -> HandedIn:
    path = folder / "answer.py"
    path.write_text(body, encoding="utf-8")
    return take(path, limits)


def test_a_function_is_called_with_the_data_and_its_result_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(3.0))
    (tmp_path / "helper.py").write_text("FACTOR = 2\n", encoding="utf-8")
    body = """
import numpy as np
from helper import FACTOR  # a neighbour of the file

def grads(data):
    print("hello")
    return {"w": FACTOR * data["x"], "b/'c": np.float32(1.5), "n": [1, 2]}
"""
    limits = Limits(function="grads", data=tmp_path / "d.npz", seconds=20, mebibytes=1024)
    found = handed_in(tmp_path, body, limits)
    assert found.failure == ""
    assert found.printed == "hello"
    assert found.claims is not None
    (run,) = found.claims.runs
    assert {name: claim.array.tolist() for name, claim in run.items()} == {
        "w": [0.0, 2.0, 4.0],
        "b/'c": 1.5,
        "n": [1.0, 2.0],
    }
    assert run["b/'c"].dtype == "float32"


@pytest.mark.parametrize(
    ("body", "failure", "printed"),
    [
        ("def gradients(): return 1 / 0", r"gradients\(\) failed", "ZeroDivisionError"),
        ("x = ", r"gradients\(\) failed", "SyntaxError"),
        ("", "failed", "has no function gradients"),
        ("def gradients(): return 3", "failed", "returned a value of type int; expected"),
        ("def gradients(): return {'w': 'text'}", "failed", "is not an array of real numbers"),
        ("def gradients(): return {'w': [object()]}", "failed", "is not an array of real numbers"),
        ("import os\ndef gradients(): os._exit(0)", "before its function returned", ""),
        ("import sys\ndef gradients(): sys.exit(0)", "before its function returned", ""),
        (
            "import os, signal\ndef gradients(): os.kill(os.getpid(), signal.SIGSEGV)",
            "ended by SIGSEGV",
            "",
        ),
    ],
)
def test_a_program_that_fails(tmp_path: Path, body: str, failure: str, printed: str) -> None:
    found = handed_in(tmp_path, body)
    assert found.claims is None
    assert re.search(failure, found.failure)
    assert printed in found.printed


def test_an_error_is_shown_from_the_submission_s_own_line_on(tmp_path: Path) -> None:
    found = handed_in(tmp_path, "def gradients():\n    return help()\n\n\ndef help():\n    1 / 0\n")
    lines = found.printed.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    frames = [line for line in lines if line.startswith("  File")]
    assert [line.partition(",")[2] for line in frames] == [
        " line 2, in gradients",
        " line 6, in help",
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    # What never came to a line of it, of which there is one to show.
    found = handed_in(tmp_path, "x = (\n")
    assert found.printed.startswith(f'  File "{tmp_path / "answer.py"}", line 1\n')


def test_it_runs_beside_this_very_package(tmp_path: Path) -> None:
    """A clone that PYTHONPATH names has a child of its own, and so does what is installed."""
    body = """
import sys
def gradients():
    print(sys.argv[0], "gradwitness" in sys.modules)
    return {}
"""
    child = Path(gradwitness.__file__).parent / "grading" / "child.py"
    assert handed_in(tmp_path, body).printed == f"{child} False"


def test_time_is_limited_and_what_it_started_is_ended(tmp_path: Path) -> None:
    body = f"""
import subprocess, sys, time
def gradients():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
    time.sleep(60)
"""
    begun = time.monotonic()
    found = handed_in(tmp_path, body, Limits(seconds=3, mebibytes=1024))
    assert "within 3 seconds" in found.failure
    assert time.monotonic() - begun < 30
    assert has_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no list of processes")
def test_what_hides_in_a_session_of_its_own_is_ended(tmp_path: Path) -> None:
    body = f"""
import os, time
def gradients():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open({str(tmp_path / "made")!r}, "w").write(str(os.getpid()))
            os.rename({str(tmp_path / "made")!r}, {str(tmp_path / "pid")!r})
            time.sleep(60)
        os._exit(0)
    while not os.path.exists({str(tmp_path / "pid")!r}):
        time.sleep(0.01)
    return {{}}
"""
    assert handed_in(tmp_path, body).failure == ""
    assert has_ended(int((tmp_path / "pid").read_text()))


def has_ended(process: int) -> bool:
    """Wait for a process to end; once killed it waits for its new parent to take note."""
    for _ in range(100):
        stat = Path(f"/proc/{process}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "left",
    [
        "open(out, 'wb').write(b'PK garbage')",
        "open(out, 'wb').write(b'')",
        "np.savez(out, names=np.array(['w']))",
        "np.savez(out, names=np.array(['w']), array0=np.array(['text']))",
        "np.savez(out, names=np.array(['w']), array0=np.array([Thing], dtype=object))",
        "np.savez_compressed(out, names=['w'], **dict.fromkeys('abcdefgh', np.zeros(2**23)))",
    ],
)
def test_what_is_written_behind_the_function_s_back_is_no_error_of_the_grader(
    tmp_path: Path, left: str
) -> None:
    body = f"""
import os, sys, numpy as np
out = sys.argv[4]
class Thing: pass
def gradients():
    {left}
    os._exit(0)
"""
    found = handed_in(tmp_path, body, Limits(seconds=20, mebibytes=400))
    assert found.claims is None
    assert "did not return named arrays" in found.failure


def test_memory_is_limited(tmp_path: Path) -> None:
    body = "import numpy as np\ndef gradients(): return {'w': np.ones(2**30)}"
    found = handed_in(tmp_path, body)
    assert found.claims is None
    assert "MemoryError" in found.printed


def test_what_it_prints_is_cut(tmp_path: Path) -> None:
    body = "def gradients():\n    print('x' * 10**6)\n    raise ValueError('the end')"
    found = handed_in(tmp_path, body)
    assert found.printed.endswith("ValueError: the end")
    assert len(found.printed) <= 4096


def test_the_environment_of_the_grader_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    body = "import os\ndef gradients():\n    print(sorted(os.environ))\n    return {}"
    found = handed_in(tmp_path, body)
    assert found.claims is not None
    assert "SECRET_TOKEN" not in found.printed
    assert "PATH" in found.printed


def test_a_file_of_numbers_is_read_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "answer.npz", w=np.ones(2))
    found = take(tmp_path / "answer.npz", QUICK)
    assert found.claims is not None
    assert list(found.claims.runs[0]) == ["w"]
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    assert "broken.npz" in take(tmp_path / "broken.npz", QUICK).failure
    with pytest.raises(InputError, match=r"none\.npz: No such file .*\(expected a \.py file with"):
        take(tmp_path / "none.npz", QUICK)
    with pytest.raises(InputError, match=r"it is a folder, not a file \(expected"):
        take(tmp_path, QUICK)


def test_elsewhere_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answer.py").write_text("", encoding="utf-8")
    path = tmp_path / "answer.py"
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        with pytest.raises(InputError, match="memory can be limited"):
            take(path, QUICK)
