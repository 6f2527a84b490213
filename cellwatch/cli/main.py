"""The command line: the one place where a CellwatchError becomes a message and an exit code."""

import os
import sys

import typer

from cellwatch.cli import demo, images, learn, station
from cellwatch.cli.talk import complain
from cellwatch.errors import CellwatchError

app = typer.Typer(
    name="cellwatch",
    help="Watch a microscope's folders, segment every new image, and learn from corrections.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
station.register(app)
images.register(app)
learn.register(app)
demo.register(app)


def main() -> None:
    """Run the command line and end with its exit code."""
    try:
        app()
    except CellwatchError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone, as in `cellwatch status | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
