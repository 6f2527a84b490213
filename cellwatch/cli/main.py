"""The command line: the one place where a CellwatchError becomes a message and an exit code."""

import os
import sqlite3
import sys
from typing import Annotated

import typer

from cellwatch import __version__
from cellwatch.cli import (
    corrections,
    dataset,
    demo,
    images,
    learn,
    loop,
    models,
    review,
    scores,
    session,
    station,
    trying,
    zoo,
)
from cellwatch.cli.talk import complain
from cellwatch.errors import CellwatchError

# Read when torch is loaded; the reasons stand beside the worker's environment.
BEFORE_TORCH = {"OMP_WAIT_POLICY": "PASSIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}

app = typer.Typer(
    name="cellwatch",
    help="Watch a microscope's folders, segment every new image with Cellpose.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Watch a microscope's folders and segment every new image with a Cellpose network."""
    if version:
        typer.echo(f"cellwatch {__version__}")
        raise typer.Exit


station.register(app)
images.register(app)
learn.register(app)
scores.register(app)
demo.register(app)
models.register(app)
dataset.register(app)
trying.register(app)
zoo.register(app)
review.register(app)
corrections.register(app)
session.register(app)
loop.register(app, models.models_app)


def main() -> None:
    """Run the command line and end with its exit code."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)
    try:
        app()
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
