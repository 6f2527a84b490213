"""The documentation agrees with the code: commands, links, reference pages, tables, decisions."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tifffile
import typer

from cellwatch.cli.main import app_for

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOT_OURS = ("sudo", "python3", "pip", ".venv/bin/p", ".", "cd", "export", "cp", "#")


def loaded(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines if line for part in line.split(" && ")]


def is_ours(line: str) -> bool:
    return line.startswith(("cellwatch ", ".venv/bin/cellwatch "))


@pytest.mark.timeout(60)
def test_every_command_in_the_documentation_is_one_that_the_program_takes():
    root = typer.main.get_command(app_for())
    lines = [line for page in PAGES for line in shell_lines(page) if is_ours(line)]

    assert len(lines) > 40
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        words = [word for word in words if word not in ("...", "…")]
        parse(root, words, line)


def parse(command, words: list[str], line: str) -> None:
    """Parse the words as the program would, without running anything."""
    context = click.Context(command, info_name="cellwatch")
    while getattr(command, "commands", None):
        assert words, line
        assert words[0] in command.commands, line
        command, words = command.commands[words[0]], words[1:]
        context = click.Context(command, parent=context, info_name=line)
    command.parse_args(context, list(words))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_line_of_a_shell_block_is_known(page):
    unknown = [line for line in shell_lines(page) if not is_ours(line)]

    for line in unknown:
        assert line.startswith(NOT_OURS), f"{line}: run it by hand, then name its program here"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)

    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_reference_is_what_the_code_says():
    generate = loaded("docs/reference/generate.py")

    for name, page in (
        ("cli.md", generate.cli_page()),
        ("configuration.md", generate.config_page()),
    ):
        written = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
        assert written == page, f"{name}: run python docs/reference/generate.py"


def test_the_tables_of_scores_are_those_of_the_bench():
    filled = loaded("bench/zoo_scores.py").filled

    for page in (ROOT / "README.md", ROOT / "docs/explanation/built-in-models.md"):
        text = page.read_text(encoding="utf-8")
        assert "<!-- begin:" in text
        assert filled(text) == text, f"{page.name}: run python bench/zoo_scores.py --pages"


def test_the_figures_of_speed_are_those_of_the_bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    text = (ROOT / "docs/explanation/benchmarks.md").read_text(encoding="utf-8")

    assert loaded("bench/speed.py").filled(text) == text


def test_the_scores_are_of_the_models_that_are_shipped():
    from cellwatch.zoo.classifiers import find_either

    scores = json.loads((ROOT / "bench/zoo_scores.json").read_text(encoding="utf-8"))
    for name, rows in scores.items():
        assert find_either(name).card.sha256 == rows["sha256"], f"score '{name}' again"


def test_decisions_are_numbered_complete_and_listed():
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")

    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for number, page in enumerate(pages, start=1):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Rejected"], page
        assert f"]({page.name})" in index


def test_the_readme_is_a_front_door():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 200
    for page in (ROOT / "docs").rglob("*.md"):
        if "decisions" not in page.parts:
            assert str(page.relative_to(ROOT)) in text, f"{page} is not linked"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_readmes_way_from_an_image_to_an_answered_correction_runs(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## A first station")[1].split("## How good it is")[0]
    lines = [
        line.split("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    station = tmp_path / "STATION"
    environment["CELLWATCH_CONFIG"] = str(station / "config.yaml")
    image = station / "images/day1/burst_0000.tif"

    def run(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode in (0, 3 if "status" in line else 0), f"{line}: {done.stderr}"
        return done.stdout + done.stderr

    for line in lines:
        if line.startswith(("export", "cp")) or " try " in line:
            continue  # the environment is set above; two more are below, `try` has its own test
        if " run " in line:
            run(f"cellwatch simulate burst --to {image.parent} --n 1 --size 128")
            line += " --once"
        run(line.replace("IMAGE", str(image)))
        if "checkout" in line:
            (mask,) = (tmp_path / "checkout").glob("*/*_masks.tif")
            labels = tifffile.imread(mask)
            labels[labels == labels.max()] = 0  # a person removes a cell
            tifffile.imwrite(mask, labels)
            run(f"cp {mask} STATION/corrections/")
            run("cellwatch run --once")

    (answer,) = (station / "corrections").glob("*.accepted.json")
    assert json.loads(answer.read_text())["rois"] >= 0
