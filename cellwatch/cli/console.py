"""How commands speak: data on stdout, talk on stderr, progress only on a terminal."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cellwatch.storage.ledger.path_text import printable

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file; else $CELLWATCH_CONFIG, else ./config.yaml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


def complain(message: str) -> None:
    """Say on stderr what went wrong, in red on a terminal."""
    from rich.console import Console  # here, so that `status` starts without it

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(_plain_lines(message), style="red", markup=False)


def tell(message: str) -> None:
    """Say something to the person, on stderr."""
    from rich.console import Console

    told = _plain_lines(message)
    Console(stderr=True, soft_wrap=True, highlight=False).print(told, markup=False)


def _plain_lines(message: str) -> str:
    return "\n".join(printable(line) for line in message.split("\n"))


def local_time(moment: str | None) -> str:
    """Return a moment of the ledger, UTC in ISO 8601, as people read it: local, to the second."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def print_json(data: Any) -> None:  # Any: JSON
    """Print data for programs, in UTF-8 whatever the locale, undecodable names escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=True, default=_plain)
    sys.stdout.write(text + "\n")


def _plain(value: object) -> object:
    # Records are objects with the names of their fields.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: boxed on a terminal, plain columns elsewhere."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(c), *(len(r[i]) for r in rows), 0) for i, c in enumerate(columns)]
        for line in [columns, *rows]:
            cells = (cell.ljust(w) for cell, w in zip(line, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escaped(cell) for cell in row))
    Console().print(table)


def escaped(text: str) -> str:
    """Return text that rich prints unchanged."""
    return text.replace("[", r"\[")


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal; give the function that advances it by one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def byte_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much of a file has come; give the function that takes the bytes there and in all."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def start_logging(*, is_verbose: bool = False) -> None:
    """Log to stderr, with the priorities that the journal understands when it listens."""
    handler = logging.StreamHandler()
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter())
    else:
        handler.setFormatter(_PlainFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if is_verbose else logging.INFO, handlers=[handler])


class _PlainFormatter(logging.Formatter):
    # A file's name may hold a new line, or what a terminal takes for an order.
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)


class _JournalFormatter(_PlainFormatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n  ")
        return f"<{PRIORITIES.get(record.levelno, 6)}>{text}"
