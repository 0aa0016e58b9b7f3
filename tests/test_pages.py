"""What the pages show is what the program prints, apart from the last digits of a machine."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gradwitness.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLAIMS = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")

# The lines of a report whose figures are the same on every machine.
COUNTS = ("steps ", "judged ")


def words(text: str) -> list[list[str]]:
    """Return the lines as words, with every figure but counts the same, without the time taken."""
    lines = [line for line in text.splitlines() if not line.startswith("step ")]
    number = r"(?<![\w#])-?\d[\d.]*(?:e[+-]\d+)?"
    return [
        (line if line.startswith(COUNTS) else re.sub(number, "0", line)).split()
        for line in lines
        if line.strip()
    ]


def printed_in(page: str, command: str) -> str:
    found = re.search(rf"```\n\$ {re.escape(command)}[^\n]*\n(.*?)```", page, re.DOTALL)
    assert found is not None, f"the page does not show {command}"
    return found[1]


def test_the_example_prints_what_the_readme_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        main(["check", "examples/swish.py:step"])
    assert end.value.code == 1
    shown = printed_in(README, "gradwitness check examples/swish.py:step")
    assert words(capsys.readouterr().out) == words(shown)


def test_the_claims_are_judged_as_the_page_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    line = "check examples/grade/network.py:step --claims examples/grade/by_hand.txt"
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 1
    shown = printed_in(CLAIMS, f"gradwitness {line}")
    assert shown.startswith("...\n")
    # The judgement of the program itself comes first.
    expected = words(shown.removeprefix("...\n"))
    assert words(capsys.readouterr().out)[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("command", "picture"),
    [
        ("check examples/swish.py:step --save", "docs/swish.svg"),
        ("graph --preset default -o", "docs/experiment.svg"),
    ],
)
def test_the_pictures_in_the_readme_are_what_its_commands_draw(
    command: str, picture: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert f"gradwitness {command} {picture}" in README
    assert f"]({picture})" in README
    with pytest.raises(SystemExit):
        main([*command.split(), str(tmp_path / "now.svg")])

    def texts(path: Path) -> list[list[str]]:
        return words("\n".join(e.text or "" for e in ET.parse(path).iter() if e.text))  # noqa: S314

    assert texts(tmp_path / "now.svg") == texts(ROOT / picture)
    assert (ROOT / picture).stat().st_size < 40_000


@pytest.mark.parametrize("name", re.findall(r"`([\w./]+\.(?:py|md|svg))`", README))
def test_files_that_the_readme_names_are_there(name: str) -> None:
    assert (ROOT / name).exists() or name == "graph.svg"
