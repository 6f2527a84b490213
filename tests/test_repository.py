"""What the repository promises beside the code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
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


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_command_in_the_readme_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    commands = set(re.findall(r"^cellwatch ([a-z]+(?: (?:check|list|show))?)", blocks, re.M))

    assert {"init", "run", "status", "segment", "train"} <= commands
    for command in commands:
        words = [sys.executable, "-m", "cellwatch", *command.split(), "--help"]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0, command


def test_decisions_are_numbered_and_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Decisions")[1].split("## Changes")[0]
    entries = re.split(r"\n(?=\d+\. )", section.strip())

    assert [int(entry.split(".")[0]) for entry in entries] == list(range(1, len(entries) + 1))
    assert all(len(entry.splitlines()) <= 5 for entry in entries)


def test_the_readme_has_the_scores_of_the_cards():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    for path in sorted((ROOT / "cellwatch/zoo/builtin").glob("*/card.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        assert card["scores"], path
        for score in card["scores"].values():
            for rule in ("truth", "model"):
                told = f"{score[rule]['0.5']:.3f} / {score[rule]['0.75']:.3f}"
                assert told in text, f"{card['id']}, {rule}: {told}"
