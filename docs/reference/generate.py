"""Write cli.md and configuration.md from the code: python docs/reference/generate.py.

`tests/test_docs.py` holds both pages equal to what this writes.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import typer

from cellwatch.cli.main import app_for
from cellwatch.cli.station import example_config

HERE = Path(__file__).parent
CLI_HEAD = """# Commands

Written by `docs/reference/generate.py` from the code. Every command also takes `--help`.

A command that needs a station takes `--config FILE`, else `$CELLWATCH_CONFIG`, else
`./config.yaml`. Results go to stdout, messages to stderr; `--json` prints JSON with times in UTC.

"""
CONFIG_HEAD = """# Configuration

Written by `docs/reference/generate.py` from `config.example.yaml`, which `cellwatch init` copies
into a new station. Every key is shown with its default; `watch`, `output` and `state` are required.
Relative folders are relative to the file. `cellwatch config check` reports all mistakes at once,
each with its line, column and remedy. Lengths are written `30 px` or `18 um`, times `2 s`, `90 min`
or `4 h`, sizes `500 MB`.

"""


def cli_page() -> str:
    """Return the reference of all commands as Markdown."""
    root = typer.main.get_command(app_for())
    parts = (part for path, one in walked(root, "cellwatch") for part in told(path, one))
    return CLI_HEAD + "\n".join(parts)


def walked(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Give every command below a group, with the words that call it."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from walked(child, f"{path} {name}")


def told(path: str, command: click.Command) -> Iterator[str]:
    """Give the lines of one command: its usage, what it does, its arguments and options."""
    with click.Context(command, info_name=path) as context:
        pieces = " ".join(command.collect_usage_pieces(context))
    yield f"## {path}\n"
    yield f"`{path} {pieces}`\n"
    yield (command.help or "").strip() + "\n"
    rows = [row for row in map(described, command.params) if row]
    if rows:
        yield "| option | meaning | default |\n|---|---|---|"
        yield from rows
        yield ""


def described(parameter: click.Parameter) -> str:
    """Return the row of an argument or option; "": `--help` itself."""
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return ""
    is_option = parameter.param_type_name == "option"
    spelled = ", ".join((*parameter.opts, *parameter.secondary_opts))
    names = spelled if is_option else (parameter.metavar or parameter.name.upper())
    default = "" if parameter.required else shown(parameter.default)
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| `{names}` | {text} | {default} |"


def shown(default: object) -> str:
    """Return a default as it is typed; "": there is none."""
    if default in (None, False, "", (), []) or callable(default):
        return ""
    if isinstance(default, (list, tuple)):
        return "`" + " ".join(map(str, default)) + "`"
    return f"`{default}`"


def config_page() -> str:
    """Return the reference of the configuration as Markdown."""
    return f"{CONFIG_HEAD}```yaml\n{example_config()}```\n"


if __name__ == "__main__":
    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
    (HERE / "configuration.md").write_text(config_page(), encoding="utf-8")
