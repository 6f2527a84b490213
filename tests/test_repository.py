"""What the repository promises beside the code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines()]


def test_the_project_speaks_of_itself_alone():
    for path in tracked():
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".txt", ".service", ".json"}:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/(work|root|home)/\w", text), path


def test_the_unit_is_one_that_systemd_accepts():
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = ROOT / "systemd" / "cellwatch@.service"

    verified = subprocess.run([tool, "verify", unit], capture_output=True, text=True, check=False)

    assert verified.returncode == 0, verified.stderr
    assert "cellwatch@" not in verified.stderr


RETIRED = (
    "anew", "speaks of", "speak of", "tells of", "tell of", "told of", "fares", "is well",
    "is failed", "made not", "no such as", "stand no more", "stands no more", "goes on",
    "go on with",
)  # fmt: skip


def test_retired_words_are_in_no_code_and_no_documentation():
    """The house's English, CONTRIBUTING.md: what has to be read twice was retired."""
    words = re.compile(rf"\b({'|'.join(RETIRED)})\b")
    kinds = {".py", ".md", ".yaml", ".service", ".sh"}
    for path in tracked():
        if path.suffix in kinds and "tests" not in path.relative_to(ROOT).parts:
            found = words.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)}: '{found.group()}'"
