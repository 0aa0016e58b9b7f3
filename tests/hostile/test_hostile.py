"""Whatever a file holds: exit code 2, one clear line, little memory and time, nothing run."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gradwitness as gw
from capture.handmade import tape
from experiment.invoke import cli
from gradwitness._printable import one_line
from hostile import files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, makes pipes")

CONTENTS = {
    name: content
    for family in (
        files.archives, files.safetensors, files.torch_files, files.jsons, files.texts, files.tasks
    )
    for name, content in family()
}  # fmt: skip
# What these name is at fault.
OF_OTHERS = (
    "null path.toml", "tape is a pipe.toml", "data that is pickled.toml", "data that grows.toml"
)  # fmt: skip
MEMORY = 64 * 2**20  # bytes
SECONDS = 20
LAYERS = "linear:0 relu linear:2"
# By ending: what reads such a file.
CLAIMS = (
    "diff good.json FILE --save out.txt",
    "diff FILE good.json --json",
    "check ok.npz --claims FILE --save out.html",
    "laws FILE --weights good.json --layers LAYERS",
    "laws good.json --weights FILE --layers LAYERS",
)
READERS = {
    ".npz": ("run --weights FILE --out out", "check FILE --save out.svg", "graph FILE -o out.svg"),
    ".toml": ("grade FILE good.json --save out.json",),
    ".py": ("check FILE:step --save out.json", "grade task.toml FILE"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("hostile")
    for name, content in CONTENTS.items():
        (made / name).write_bytes(content)
    (made / "good.json").write_text('{"w": [1.0, 2.0], "b": [3.0]}')
    (made / "task.toml").write_text('tape = "ok.npz"')
    gw.save_tape(tape(), made / "ok.npz")
    files.make_things(made)
    before = Path.cwd()
    os.chdir(made)
    alarms = (signal.SIGALRM, signal.SIGPROF)
    before_it = [signal.signal(alarm, signal.default_int_handler) for alarm in alarms]
    yield made
    for alarm, handler in zip(alarms, before_it, strict=True):
        signal.signal(alarm, handler)
    os.chdir(before)


def resident(kind: str) -> int:
    """Return memory in bytes: VmRSS now, VmHWM the most since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024


def tries() -> list[tuple[str, str]]:
    """Return files and what reads them: each claim by one command in turn, others by all."""
    names = [*CONTENTS, *files.things()]
    found = []
    for number, name in enumerate(names):
        ending = Path(name).suffix
        if ending not in (".toml", ".py"):
            found.append((name, CLAIMS[number % len(CLAIMS)]))
        found += [(name, words) for words in READERS.get(ending, ())]
    return found


def ascii_id(tried: str) -> str:
    return ascii(tried[:60])


@pytest.mark.parametrize(("name", "command"), tries(), ids=ascii_id)
def test_what_no_file_may_do(name: str, command: str, folder: Path) -> None:
    words = {"FILE": name, "FILE:step": f"{name}:step", "LAYERS": LAYERS}
    before = sorted(folder.iterdir())
    Path("/proc/self/clear_refs").write_text("5")
    resting = resident("VmRSS")
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # a pipe would be waited for without end
    try:
        result = cli(*(words.get(word, word) for word in command.split()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert result.code == 2
    assert resident("VmHWM") - resting < MEMORY
    # Nothing was run, nothing half written.
    assert sorted(folder.iterdir()) == before
    said = result.err
    if "Usage: " not in said:  # which is typer's
        assert said.startswith("gradwitness: ")
        assert said.count("\n") == 1
    assert len(said) < 1000
    assert not re.search("bug in gradwitness|Traceback|allow_pickle|weights_only|\x1b", said)
    # What and where: the file is named, or the one that it names, or its option.
    if len(name) < 100 and name not in OF_OTHERS:
        shown = one_line(name.encode(errors="backslashreplace").decode())
        assert shown in said or "weights" in said
    if "--json" in command:
        record = json.loads(result.out)
        assert (record["schema"], record["exit_code"]) == ("gradwitness-error", 2)
    else:
        assert result.out == ""


READABLE = [
    ("overflow.json", b'{"w": [1e400, -1e400], "b": [1.0]}'),
    ("not numbers.json", b'{"w": [NaN, 1.0], "b": [3.0]}'),
    ("bom.json", b'\xef\xbb\xbf{"w": [1.0, 2.0], "b": [3.0]}'),
    ("utf16.txt", "w = [1.0, 2.0]\nb = [3.0]\n".encode("utf-16")),
    ("carriage returns.txt", b"w = [1.0, 2.0]\r\nb = [nan]\r\n"),
    ("lone surrogate.json", b'{"\\ud800": [1.0, 2.0], "b": [3.0]}'),
    ("escapes.json", b'{"\\u001b]0;x\\u0007\\u001b[2J": [1.0, 2.0], "b": [3.0]}'),
    ("null in a name.json", b'{"\\u0000": [1.0, 2.0], "b": [3.0]}'),
    ("long name.json", b'{"' + b"w" * files.LONG + b'": [1.0, 2.0], "b": [3.0]}'),
    ("another's names.npz", files.zipped(("../../w.npy", files.npy(files.GOOD["w"])))),
    ("absolute.npz", files.zipped(("/etc/w.npy", files.npy(files.GOOD["w"])))),
    ("mixed dtypes.npz", files.saved(w=np.ones(2, np.float16), b=np.ones(1, np.int8))),
    ("infinite.npz", files.saved(w=np.array([np.inf, np.nan]), b=np.array([-np.inf]))),
    ("other order.npz", files.saved(w=np.array([1.0, 2.0], ">f8"), b=np.ones((0, 3)))),
]


@pytest.mark.parametrize(("name", "content"), READABLE, ids=[name for name, _ in READABLE])
def test_what_is_only_strange_is_judged(name: str, content: bytes, folder: Path) -> None:
    try:
        (folder / name).write_bytes(content)
        before = sorted(folder.iterdir())
        shown, told = cli("diff", "good.json", name), cli("diff", "good.json", name, "--json")
        assert sorted(folder.iterdir()) == before
    finally:
        (folder / name).unlink()
    assert shown.code == told.code == json.loads(told.out)["exit_code"] != 2
    assert not re.search("[\x00\x1b\x07]", shown.out + shown.err + told.out)
    json.loads(told.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize(
    "name", ["bomb.npz", "pickle.pt", "pipe.json", "deep lists.json", "w\0.npz"]
)
def test_what_is_handed_in_to_be_graded(name: str, folder: Path) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    resting = resident("VmRSS")
    result = cli("grade", "task.toml", name, "--json")
    record = json.loads(result.out)
    # A bad answer is no error of the teacher's; what is no file is.
    assert result.code == record["exit_code"] == (2 if "pipe" in name or "\0" in name else 1)
    assert record["findings"] or record["error"]
    assert not (folder / files.CANARY).exists()
    assert resident("VmHWM") - resting < MEMORY


def forged(folder: Path, *changes: tuple[str, Any]) -> Path:
    """Write a recording with parts of it replaced."""
    path = folder / "forged.npz"
    with zipfile.ZipFile(folder / "ok.npz") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with np.load(folder / "ok.npz") as held:
        data = json.loads(held["tape"].tobytes())
    for where, item in changes:
        files.forge(data, where, item)
    raw = np.frombuffer(json.dumps(data).encode(), np.uint8)
    path.write_bytes(files.zipped(*(entries | {"tape.npy": files.npy(raw)}).items()))
    return path


@pytest.mark.parametrize("change", files.FORGED, ids=lambda change: ascii_id(str(change)))
def test_a_recording_that_contradicts_itself(change: tuple[str, Any], folder: Path) -> None:
    result = cli("check", forged(folder, change), "--json")
    assert result.code == 2
    error = json.loads(result.out)["error"]
    assert error["kind"] == "FileFormatError"
    assert re.search(
        r"is not a readable recording: \w+.*Record and save it again", error["message"]
    )


@pytest.mark.parametrize("changes", files.ODD, ids=lambda changes: ascii_id(str(changes)))
def test_a_recording_of_what_never_was(changes: list[tuple[str, Any]], folder: Path) -> None:
    path = forged(folder, *changes)
    Path("/proc/self/clear_refs").write_text("5")
    resting = resident("VmRSS")
    begun = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        told = cli("check", path, "--json", "--save", folder / "page.html")
        shown = cli("check", path, "--explain")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert time.process_time() - begun < SECONDS / 4
    assert resident("VmHWM") - resting < MEMORY
    assert (folder / "page.html").exists(), told.err[-1500:] + shown.err[-500:] + told.out[:600]
    page = (folder / "page.html").read_text()
    (folder / "page.html").unlink()
    assert shown.code == told.code == json.loads(told.out)["exit_code"] in (0, 1, 3)
    assert not re.search("[\x00\x1b\x07\u202e]|^::", shown.out + shown.err + page, re.MULTILINE)
    assert "<script>\\" not in page


def test_two_hundred_tries() -> None:
    assert len(tries()) > 200
    # The canary sings where it is let.
    assert all(word in files.pickled() for word in (b"mkdir", b"canary"))
