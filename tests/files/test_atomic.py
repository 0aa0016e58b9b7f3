from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradwitness._errors import InputError
from gradwitness.files.atomic import write_atomically, writing_atomically

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

OLD, NEW = b"the old content", b"the new, longer content"


def refusal(path: Path) -> str:
    """Return why a file cannot be written, without the path of its folder."""
    with pytest.raises(InputError) as error:
        write_atomically(path, NEW)
    return str(error.value).replace(f"{path.parent}/", "")


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"\x00\r\n\xff")
    assert (tmp_path / "file").read_bytes() == b"\x00\r\n\xff"
    assert names(tmp_path) == {"file"}


def test_text_is_utf8_and_keeps_its_line_ends(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "∂y\n\r\n")
    assert (tmp_path / "file").read_bytes() == b"\xe2\x88\x82y\n\r\n"


def test_a_path_given_as_text_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


def test_an_older_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with writing_atomically(path) as file:
        file.write(NEW)
        file.flush()
        assert path.read_bytes() == OLD
        # In the same folder, or the last step would not be one step.
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == NEW
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_a_failing_block_leaves_no_trace(
    tmp_path: Path, there: bool, failure: type[BaseException]
) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(OLD)

    def fail() -> None:
        with writing_atomically(path) as file:
            file.write(NEW)
            raise failure

    with pytest.raises(failure):
        fail()
    assert names(tmp_path) == ({"file"} if there else set())
    assert not there or path.read_bytes() == OLD


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, snapshot: SnapshotAssertion
) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    assert refusal(path) == snapshot
    assert path.read_bytes() == OLD
    assert names(tmp_path) == {"file"}


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    synced, replaced = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append(f"fsync {os.fstat(descriptor).st_size}")
        synced(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append("replace")
        return replaced(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "file", NEW)
    assert order == [f"fsync {len(NEW)}", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_open_gives(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_an_older_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(0o640)
    write_atomically(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_bytes(OLD)
    link.symlink_to(target)
    write_atomically(link, NEW)
    assert link.is_symlink()
    assert target.read_bytes() == NEW
    assert names(tmp_path / "folder") == {"target"}


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(path, NEW)
    assert os.read(reader, 1000) == NEW
    os.close(reader)
    assert path.is_fifo()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="no regular file, and nothing reads from it; give the"):
        write_atomically(path, NEW)
    assert names(tmp_path) == {"pipe"}


def test_a_folder_in_place_of_the_file(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    (tmp_path / "taken").mkdir()
    assert refusal(tmp_path / "taken") == snapshot
    assert names(tmp_path) == {"taken"}


def test_a_parent_that_is_missing(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    assert refusal(tmp_path / "absent" / "file").replace(str(tmp_path), "") == snapshot
    assert names(tmp_path) == set()


def test_a_parent_that_is_a_file(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    (tmp_path / "plain").write_bytes(OLD)
    assert refusal(tmp_path / "plain" / "file").replace(str(tmp_path), "") == snapshot


def test_a_folder_that_refuses_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    # Permissions do not stop root, so the refusal is planted where the system would give it.
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(tmp_path / "file") == snapshot


def test_a_write_protected_file_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(path) == snapshot
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("name", ["null\0byte", "x" * 300])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(tmp_path / name, NEW)
    assert names(tmp_path) == set()
