"""Commands that make folders of images and masks from other data."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.cli.console import JsonOption, byte_progress, print_json, print_table, tell
from cellwatch.errors import UsageError

if TYPE_CHECKING:
    from cellwatch.storage.datasets.convert import MadePair

dataset_app = typer.Typer(
    help="Convert or download annotated images, as NAME_img.tif and NAME_masks.tif.",
    no_args_is_help=True,
)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pairs.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of images and masks.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(dataset_app, name="dataset")


@dataset_app.command("coco")
def coco(
    annotations: Annotated[Path, typer.Argument(help="COCO annotation file (JSON).")],
    images: Annotated[Path, typer.Option(help="Folder of the images that the file names.")],
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Convert COCO polygons or run lengths to label images.

    As the paper did with LiveCell: overlapping pixels go to the ROI with the nearest centroid, and
    ROIs with more than 75 % of their pixels overlapping others are removed.
    """
    from cellwatch.storage.datasets.convert import pairs_from_coco

    _show(pairs_from_coco(annotations, images, out), out, as_json=as_json)


@dataset_app.command("stacks")
def stacks(folder: FolderArgument, out: OutOption, as_json: JsonOption = False) -> None:
    """Convert NAME_masks.tif with one plane per ROI to label images, by the rule of `coco`."""
    from cellwatch.storage.datasets.convert import pairs_from_stacks

    _show(pairs_from_stacks(folder, out), out, as_json=as_json)


@dataset_app.command("quarters")
def quarters(folder: FolderArgument, out: OutOption, as_json: JsonOption = False) -> None:
    """Split every image and its masks into four, as the paper did with TissueNet."""
    from cellwatch.storage.datasets.convert import quarters as split

    _show(split(folder, out), out, as_json=as_json)


@dataset_app.command("subsets")
def subsets(
    folder: FolderArgument,
    out: OutOption,
    sizes: Annotated[
        str, typer.Option(help="Numbers of images; 0.25 is a quarter of one.")
    ] = "0.25,0.5,1,2,4",
    seeds: Annotated[int, typer.Option(min=1, help="Number of subsets of each size.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Draw random subsets of a folder, for learning curves. Larger ones contain smaller ones."""
    from cellwatch.storage.datasets.convert import subsets as make

    try:
        numbers = [float(size) for size in sizes.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--sizes: '{sizes}' is not a list of numbers, as in 0.25,0.5,1,2"
        ) from error
    made = make(folder, out, numbers, seeds)
    rows = [{"images": size, "seed": seed, "rois": rois} for size, seed, rois in made]
    if as_json:
        print_json(rows)
        return
    print_table("", ["images", "seed", "ROIs"], [[f"{s:g}", str(n), str(r)] for s, n, r in made])
    tell(f"{len(made)} folders in {out}")


@dataset_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="Public set; without it: list them.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the pairs.")] = None,
    from_file: Annotated[
        list[Path] | None, typer.Option(help="File that was copied here by hand; repeatable.")
    ] = None,
    mirror: Annotated[str, typer.Option(help="Another server with the same files.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Download a public set of annotated images and write it as pairs to train on.

    Read its licence first: what it forbids may also bind networks trained on the set.
    """
    from cellwatch.storage.datasets.fetch import SETS, fetch_set, set_named
    from cellwatch.zoo.cards import user_zoo

    if not name:
        rows = [[key, known.about, known.licence] for key, known in SETS.items()]
        print_table("", ["set", "what", "licence"], rows)
        return
    known = set_named(name)
    if out is None:
        raise UsageError("--out is needed: a folder for the pairs")
    tell(f"{name}: {known.about}. Licence: {known.licence}. Please cite {known.cite}")
    with byte_progress(name) as on_bytes:
        made = fetch_set(
            name, out, user_zoo() / "datasets", from_file or [], mirror=mirror, on_bytes=on_bytes
        )
    _show(made, out, as_json=as_json)


def _show(made: "list[MadePair]", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(pair) for pair in made])
        return
    rows = [
        [p.name, *(str(n) for n in (p.rois, p.removed, p.lost, p.overlapping_pixels, p.crowds))]
        for p in made
    ]
    columns = ["image", "ROIs", "removed", "lost", "overlapping px", "crowds"]
    print_table("", columns, rows)
    tell(f"{len(made)} pairs with {sum(pair.rois for pair in made)} ROIs in {out}")
