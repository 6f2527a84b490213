"""Hold the layers: a module imports what stands above it, and third parties live in their homes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cellwatch"
LAYERS = ["errors", "core", "records", "files", "images", "zoo", "watching", "config", "training"]
LAYERS += ["storage", "compute", "workflows", "daemon", "cli", "__main__"]
HOMES = {
    "numba": {"core"},
    "torch": {"core", "zoo", "training", "compute", "workflows", "daemon.retraining"},
    "zarr": {"images", "storage"},
    "sqlite_utils": {"storage"},
    "tifffile": {"images", "storage", "workflows"},
    "nd2": {"images"},
    "pylibCZIrw": {"images"},
    "PIL": {"images", "storage"},
    "watchdog": {"watching"},
    "yaml": {"config"},
    "pydantic": {"config"},
    "typer": {"cli"},
    "rich": {"cli"},
}
# The supervisor and the queue pass the open database on; they import its type alone.
TYPES_ONLY = {("daemon", "sqlite_utils")}
MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Return the modules that a file imports, and whether for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, id(node) in typing_only))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_above(path):
    own = layer_of(path)
    if own == "__init__":
        return
    for name, _ in imports_of(path):
        if name.startswith("cellwatch."):
            layer = name.split(".")[1]
            assert LAYERS.index(layer) <= LAYERS.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_third_parties_are_imported_only_at_home(path):
    own = layer_of(path)
    for name, is_type_only in imports_of(path):
        root = name.split(".")[0]
        if is_type_only or (own, root) in TYPES_ONLY:
            continue
        homes = HOMES.get(root, {own})
        inside = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert any(f"{inside}.".startswith(f"{home}.") for home in homes), (
            f"{inside} imports {root}"
        )


def test_a_module_has_one_subject():
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 350, f"{path.name} has {lines} lines"
        assert path.stem not in {"utils", "helpers", "common", "base"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_function_does_one_thing(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body else 0
        names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        taken = [one for one in names if one.arg not in {"self", "cls"}]
        assert lines <= 60, f"{node.name} has {lines} lines"
        is_command = layer_of(path) == "cli"  # typer takes the options of a command as parameters
        assert is_command or len(taken) <= 8, f"{node.name} has {len(taken)} parameters"


def test_sql_stands_in_storage_alone():
    statement = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE) [^a-z]*", re.MULTILINE)
    for path in MODULES:
        if layer_of(path) == "storage":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not statement.search(node.value), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"table", "rows_where"}, f"{path.name}:{node.lineno}"


# What the first reads is a file of JSON, what the second counts is no row, the third is written.
NO_ROWS = {"holder", "doubts", "facts_of_image"}


def test_rows_leave_the_ledger_as_frozen_records():
    ours = [p for p in MODULES if p.parent.name in {"ledger", "reports"}]
    for path in ours:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                given = ast.unparse(node.returns) if node.returns else ""
                assert "Any" not in given or node.name in NO_ROWS, f"{path.name}: {node.name}"
                assert "sqlite3.Row" not in given, f"{path.name}: {node.name}"
    said = [p.name for p in MODULES if "what SQLite holds" in p.read_text(encoding="utf-8")]
    assert set(said) == {"corrections.py", "rows.py"}  # columns to be written, and cells


LIGHT = [
    "cellwatch.config.parse",
    "cellwatch.storage.ledger.queue",
    "cellwatch.storage.ledger.database",
]
LIGHT += ["cellwatch.daemon.supervisor", "cellwatch.cli.main", "cellwatch.zoo.cards"]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_start_without_the_heavy_libraries(module):
    assert loaded_with(module, "torch numba zarr scipy") == "[]"


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("cellwatch.cli.main", "numpy sqlite_utils pydantic tifffile rich"),
        ("cellwatch.cli.status", "numpy sqlite_utils pydantic tifffile"),
    ],
)
def test_a_command_starts_without_what_only_some_of_them_need(module, names):
    assert loaded_with(module, names) == "[]"


def loaded_with(module, names):
    code = f"import sys, {module}; print([m for m in '{names}'.split() if m in sys.modules])"
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
