"""What cellwatch says to people: every error, answer and log line, read from the code.

`python -m tests.messages` writes `data/messages.txt` again, so that a change of wording is seen as
one, whatever else a commit changes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CODE = HERE.parent / "cellwatch"
SNAPSHOT = HERE / "data/messages.txt"
SAID_BY = {
    "tell", "complain", "echo", "fail", "info", "warning", "error", "exception", "Answer",
    "Outcome", "CorrectionRead", "Unmatched", "Unlikely",
}  # fmt: skip
ERRORS = ("Error", "Refused", "Image", "Data", "Model", "Missing", "Memory", "Unanswered", "Locked")
LINES_OF = ("cli/status_screen.py", "cli/status_training.py")  # whose texts are all said
SHORTEST = 12  # letters of what is a message and no word


def messages() -> str:
    """Return all messages, by module and in the order of the code."""
    parts = []
    for path in sorted(CODE.rglob("*.py")):
        tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(CODE).as_posix()
        found = sorted({*_said_in(tree), *(_texts_in(tree) if name in LINES_OF else ())})
        if lines := [f"  {text}" for _, text in found]:
            parts.append("\n".join([name, *lines]))
    return "\n".join(parts) + "\n"


def _said_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_said(node.func):
            for given in [*node.args, *(word.value for word in node.keywords)]:
                text = " ".join(_text(given).split())
                if len(text) > SHORTEST and " " in text:
                    yield node.lineno, text


def _texts_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = " ".join(_text(node).split())
            if len(text) > SHORTEST and " " in text:
                yield node.lineno, text


def _is_said(called: ast.expr) -> bool:
    name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
    return name in SAID_BY or (name[:1].isupper() and name.endswith(ERRORS))


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""


if __name__ == "__main__":
    SNAPSHOT.write_text(messages(), encoding="utf-8")
