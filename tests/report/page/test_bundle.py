"""The committed script and style sheet are what their sources give."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WEB = ROOT / "web"
PAGE = ROOT / "src" / "gradwitness" / "report" / "page"
BUILT = ("page.js", "page.css", "page.licences.txt")


@pytest.mark.skipif(
    shutil.which("npm") is None, reason="no npm: the page's script is built with it"
)
def test_the_bundle_is_what_the_build_gives(tmp_path: Path) -> None:
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules"))
    npm = str(shutil.which("npm"))
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False)  # noqa: S603
    if installed.returncode:
        pytest.skip(f"npm cannot install what builds the script: {installed.stderr[-200:]!r}")
    words = [str(shutil.which("node")), "build.mjs", str(tmp_path / "built")]
    subprocess.run(words, cwd=copy, check=True)  # noqa: S603
    for name in BUILT:
        assert (tmp_path / "built" / name).read_bytes() == (PAGE / name).read_bytes(), (
            f"{name} is not what web/ builds: run npm ci && npm run build there"
        )


def test_nothing_in_the_bundle_ends_its_element() -> None:
    script, style = ((PAGE / name).read_text("utf-8").lower() for name in BUILT[:2])
    assert "</script" not in script
    assert "<!--" not in script
    assert "</style" not in style


def test_the_licence_of_every_library_is_kept() -> None:
    licences = (PAGE / "page.licences.txt").read_text("utf-8")
    for library in ("d3-selection", "d3-zoom", "flatbush", "htm", "preact", "uplot"):
        assert f"{library} " in licences
