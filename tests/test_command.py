"""The process that runs the command line, and the one that watches it: their exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gradwitness_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs pass_fds")

# The command line is replaced by what a program may do to the process that runs it.
STAND_IN = """
import os, signal, sys, time
import gradwitness_command
# Who starts the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def command_line():
    print("begun", flush=True)
{does}
gradwitness_command._command_line = command_line
sys.exit(gradwitness_command.main())
"""
REAL = "import sys, gradwitness_command; sys.exit(gradwitness_command.main())"


def started(
    code: str,
    *words: object,
    before: tuple[str, ...] = (),
    by: str = "-c",
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    source = str(Path(gradwitness_command.__file__).parents[1])
    return subprocess.Popen(  # noqa: S603
        [*before, sys.executable, by, code, *map(str, words)],
        env=os.environ | {"PYTHONPATH": source},
        stdout=stdout,
        stderr=stderr,
    )


def standing_in(does: str, **streams: Any) -> subprocess.Popen[bytes]:
    lines = "".join(f"    {line}\n" for line in does.splitlines())
    return started(STAND_IN.format(does=lines), **streams)


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        ("return 0", 0, ""),
        ("return 1", 1, ""),
        ("return 3", 3, ""),
        ("os._exit(0)", 2, "the process exited with code 0, as by os._exit"),
        ("os._exit(1)", 2, "the process exited with code 1, as by os._exit"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 2, "the process was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "SIGKILL (out of memory?)"),
        # What is left of the process after its verdict changes nothing.
        ("import atexit; atexit.register(os._exit, 0); return 1", 1, ""),
        ("import atexit; atexit.register(os.abort); return 0", 0, ""),
        # A process that it started, and that outlives it, holds the pipe.
        ("if os.fork() == 0: time.sleep(3); os._exit(0)\nos._exit(3)", 2, "exited with code 3"),
    ],
)
def test_only_a_verdict_ends_with_the_code_of_one(does: str, code: int, said: str) -> None:
    process = standing_in(does)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.wait(60) == code
    assert process.stdout.readline() == b"begun\n"
    assert said in process.stderr.readline().decode()
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGINT, 128 + signal.SIGINT),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_ends_both(sent: int, code: int) -> None:
    process = standing_in("print(os.getpid(), flush=True)\ntime.sleep(60)")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"begun\n"
    watched = int(process.stdout.readline())
    process.send_signal(sent)
    assert process.wait(30) == code
    until = time.monotonic() + 10
    while Path(f"/proc/{watched}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{watched}").exists()
    process.stdout.close()
    process.stderr.close()


def test_who_presses_a_key_is_told_once_that_it_was_heard() -> None:
    terminal, stderr = pty.openpty()
    does = "signal.signal(signal.SIGINT, lambda *_: heard.append(print('heard', flush=True)))"
    process = standing_in(
        f"heard = []\n{does}\nprint('ready', flush=True)\n"
        "while len(heard) < 2: time.sleep(0.01)\nreturn 3",
        stderr=stderr,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"begun\n", b"ready\n"]
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"heard\n"
    assert process.wait(30) == 3
    os.close(stderr)
    said = os.read(terminal, 1000).decode().split()
    assert " ".join(said) == ("gradwitness: interrupted, finishing (Ctrl-C again to leave at once)")
    os.close(terminal)
    process.stdout.close()


def test_a_program_that_leaves_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, torch\n"
        "def step():\n"
        "    torch.ones(1, requires_grad=True).sum().backward()\n"
        "    os._exit(0)\n"
    )
    process = started(REAL, "check", f"{tmp_path}/train.py:step")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"gradwitness: the process exited with code 0, as by os._exit")


def test_the_package_is_run_as_the_command_is(tmp_path: Path) -> None:
    path, other = tmp_path / "a.json", tmp_path / "b.json"
    path.write_text('{"w": [1.0, 2.0]}')
    other.write_text('{"w": [1.0, 3.0]}')
    process = started("gradwitness", "diff", path, other, "--json", by="-m")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)["verdict"], err) == (1, "DISAGREES", b"")
    # It is watched, as the command is: what ends without a word has no verdict.
    (tmp_path / "train.py").write_text("import os\ndef step():\n    os._exit(0)\n")
    process = started("gradwitness", "check", f"{tmp_path}/train.py:step", by="-m")
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert err.startswith(b"gradwitness: the process exited with code 0, as by os._exit")


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"w": [1.0, 2.0]}')
    words = ("diff", path, path)
    reading, writing = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full:
        processes = [
            started(REAL, *words, stdout=full),
            started(REAL, *words, "--json", stdout=full),
            started(REAL, *words, stdout=writing),
            started(REAL, *words, "--json", stdout=writing),
            started(REAL, *words, before=("sh", "-c", '"$@" >&-', "sh")),
        ]
    os.close(writing)
    ends = [process.communicate(timeout=120)[1].decode() for process in processes]
    # A reader that leaves early, like `head`, is told nothing: as of other tools, 128 + SIGPIPE.
    assert [process.returncode for process in processes] == [2, 2, 141, 141, 2]
    assert ends == [
        *["gradwitness: cannot use standard output: No space left on device\n"] * 2,
        *[""] * 2,
        "gradwitness: standard output is closed: the verdict cannot be shown\n",
    ]


NOISY = """
import atexit, ctypes, os, subprocess, sys, warnings
import torch

def step():
    print("printed")
    os.write(1, b"written\\n")
    ctypes.CDLL(None).puts(b"by C")  # which C keeps until the process ends
    subprocess.run(["echo", "by a child"])
    sys.__stdout__.write("by another name\\n")
    warnings.warn("warned")
    atexit.register(print, "at exit")
    torch.ones(1, requires_grad=True).sum().backward()

def interrupted():
    step()
    raise KeyboardInterrupt

def raises():
    step()
    raise ValueError("its own")

def leaves():
    step()
    os._exit(0)

def dies():
    step()
    os.kill(os.getpid(), 15)

def closes():
    step()
    sys.stdout.close()

def ends():
    step()
    sys.exit(0)
"""


def test_with_json_standard_output_holds_one_record(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(NOISY)
    expected = {
        "step": (0, None),
        "raises": (2, "InputError"),
        "interrupted": (130, "KeyboardInterrupt"),
        "leaves": (2, "ProcessEnded"),
        "dies": (143, "SIGTERM"),
        "closes": (0, None),
        "ends": (2, "InputError"),
        "absent": (2, "InputError"),
    }
    # Seekable, as a file that the shell opens is: what is written there by another way would show.
    outs = {name: tmp_path / f"{name}.json" for name in expected}
    processes = {}
    for name, out in outs.items():
        with out.open("wb") as file:
            words = ("check", f"{tmp_path}/p.py:{name}", "--json")
            processes[name] = started(REAL, *words, stdout=file)
    for name, process in processes.items():
        said = process.communicate(timeout=120)[1].decode()
        record = json.loads(outs[name].read_text())
        error = record.get("error")
        assert (record["exit_code"], error and error["kind"]) == expected[name]
        assert process.returncode == record["exit_code"]
        assert isinstance(record["findings"], list)
        if name != "absent":
            assert {"printed", "written", "by a child"} <= set(said.splitlines())


def test_with_json_an_interrupt_while_packages_are_imported(tmp_path: Path) -> None:
    code = STAND_IN.format(does="    pass").replace(
        "gradwitness_command._command_line = command_line\n",
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'gradwitness.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n",
    )
    out, _ = started(code, "check", "p.py:step", "--json").communicate(timeout=60)
    record = json.loads(out)
    assert (record["exit_code"], record["error"]["kind"]) == (130, "KeyboardInterrupt")
