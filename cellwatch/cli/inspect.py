"""The command that shows what image files contain."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cellwatch.cli.console import JsonOption, print_json, print_table, tell
from cellwatch.cli.inputs import find_images
from cellwatch.errors import EXIT_FAILED, UnreadableImage
from cellwatch.records import ImageInfo

AxesOption = Annotated[
    str, typer.Option(help="Axes such as ZCYX, for files that do not name theirs.")
]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(inspect)


def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    as_json: JsonOption = False,
    axes: AxesOption = "",
    recursive: Annotated[bool, typer.Option(help="Include sub-folders.")] = False,
) -> None:
    """Show what files contain, without reading pixels. Exit code 1 if one is incomplete."""
    infos = [inspected(path, axes) for path in find_images(paths, is_recursive=recursive)]
    if as_json:
        print_json([_facts(info) for info in infos])
    else:
        columns = ["path", "format", "axes", "shape", "dtype", "µm/px", "channels", "whole"]
        print_table("", columns, [_row(info) for info in infos])
        for info in infos:
            for note in info.notes:
                tell(f"{info.path}: {note}")
    if not all(info.whole for info in infos):
        raise typer.Exit(EXIT_FAILED)


def inspected(path: Path, axes: str = "") -> ImageInfo:
    """Describe a file and judge whether it is whole."""
    from cellwatch.images import describe
    from cellwatch.images.whole import why_not_whole

    reason = why_not_whole(path)
    try:
        info = describe(path, axes)
    except UnreadableImage as error:
        return ImageInfo(str(path), whole=False, reason=reason or error.reason)
    return replace(info, whole=not reason, reason=reason)


def _facts(info: ImageInfo) -> dict[str, Any]:  # Any: JSON
    facts = asdict(info)
    del facts["lacks"]  # its note says so
    for key in ("notes", "well", "field"):
        if not facts[key]:
            del facts[key]
    return facts


def _row(info: ImageInfo) -> list[str]:
    pixel = f"{info.pixel_size_um:g}" if info.pixel_size_um else ""
    return [
        info.path,
        info.format,
        info.axes,
        "×".join(str(n) for n in info.shape),
        info.dtype,
        pixel,
        ", ".join(name for name in info.channels if name),
        "yes" if info.whole else f"no: {info.reason}",
    ]
