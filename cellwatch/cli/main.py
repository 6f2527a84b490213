"""The command line: the one place where a CellwatchError becomes a message and an exit code."""

import gc
import os
import sqlite3
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated

import typer

from cellwatch import __version__
from cellwatch.cli.console import complain
from cellwatch.errors import CellwatchError

COLLECTED_AFTER = 50_000  # new objects; loading torch makes a million, and none is garbage
# Read when torch is loaded; the worker's environment has the reasons.
BEFORE_TORCH = {"OMP_WAIT_POLICY": "PASSIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}

# Which modules of this package make which commands: one command loads its own alone, since
# `status` is to answer within a blink on a machine that is busy.
MODULES: Mapping[str, tuple[str, ...]] = {
    "station": ("init", "run", "status", "config"),
    "doctor": ("doctor",),
    "explain": ("explain",),
    "verify": ("verify",),
    "segment": ("segment",),
    "inspect": ("inspect",),
    "train": ("train",),
    "evaluate": ("evaluate", "compare"),
    "demo": ("simulate", "demo"),
    "models": ("models",),
    "dataset": ("dataset",),
    "try_models": ("try",),
    "zoo": ("zoo",),
    "review": ("flag", "unflag", "review", "checkout"),
    "corrections": ("corrections",),
    "session": ("session",),
    "retrain": ("retrain", "rerun"),
    "export": ("export",),
    "plates": ("plates",),
    "report": ("report",),
    "queue": ("pause", "resume", "bump", "skip", "requeue"),
    "effort": ("effort",),
    "measurements": ("measurements",),
    "methods": ("methods", "reproduce"),
}


def app_for(command: str = "") -> typer.Typer:
    """Return the command line with the commands of one module, or with all.

    Parameters
    ----------
    command : str
        What was typed first; where it is not a command, all are there to be listed.
    """
    app = typer.Typer(
        name="cellwatch",
        help="Watch a microscope's folders and segment every new image with a Cellpose network.",
        no_args_is_help=True,
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.callback()(options)
    owner = next((module for module, names in MODULES.items() if command in names), "")
    for module in [owner] if owner else MODULES:
        import_module(f"cellwatch.cli.{module}").register(app)
    return app


def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Watch a microscope's folders and segment every new image with a Cellpose network."""
    if version:
        typer.echo(f"cellwatch {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and end with its exit code."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(COLLECTED_AFTER)
    try:
        app_for(sys.argv[1] if len(sys.argv) > 1 else "")()
    except CellwatchError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as in `cellwatch status | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except sqlite3.OperationalError as error:
        # Locked for longer than a command waits, a full disk, or rights.
        complain(f"the ledger cannot be read or written now: {error}")
        sys.exit(1)
    except OSError as error:
        # The disk, its rights or its space: for a person to mend, so no traceback.
        complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(1)
    finally:
        gc.freeze()  # the end looks through nothing for garbage: with torch that took 0.4 s
