"""Commands on image files, without a station: segment and inspect."""

import gc
import os
import traceback
from contextlib import closing, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellwatch.cli.console import JsonOption, complain, print_json, print_table, progress, tell
from cellwatch.cli.inputs import find_images
from cellwatch.config.locate import MODELS, NAME, VARIABLE, state_folder
from cellwatch.core.parameters import Diameter, MinSize, SegmentationParams
from cellwatch.errors import (
    EXIT_FAILED,
    CellwatchError,
    ConfigError,
    UnreadableImage,
    UsageError,
)
from cellwatch.files.members import file_of
from cellwatch.files.stems import masks_name
from cellwatch.records import ChannelChoice, ImageInfo, Job, TargetJob
from cellwatch.storage.masks.paths import SUPERSEDED

if TYPE_CHECKING:
    from cellwatch.compute.models import Chooser, Model


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model id, model folder, Cellpose checkpoint, or auto: by the style of each image.",
    ),
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device that computes.")]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Precision of the network; auto: bfloat16 where the device supports it."),
]
AxesOption = Annotated[
    str, typer.Option(help="Axes such as ZCYX, for files that do not name theirs.")
]
ChannelsOption = Annotated[
    str, typer.Option(help="CELL[,NUCLEUS]: channel names (globs allowed) or indices from 0.")
]


def station_zoo(given: Path | None) -> Path | None:
    """Return the zoo of the station that somebody works with, unless another one is named.

    $CELLWATCH_ZOO names another one too. The station is that of $CELLWATCH_CONFIG, else of
    ./config.yaml, should that be one.
    """
    if given is not None or os.environ.get("CELLWATCH_ZOO"):
        return given
    if named := os.environ.get(VARIABLE):
        return state_folder(Path(named)) / MODELS if Path(named).is_file() else None
    with suppress(ConfigError):
        return state_folder(Path(NAME)) / MODELS
    return None


ZooOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of further models; else $CELLWATCH_ZOO, else the station's "
        "($CELLWATCH_CONFIG, ./config.yaml), else your own.",
        callback=station_zoo,
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(segment)
    app.command()(inspect)


def segment(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    model: ModelOption = "auto",
    diameter: Annotated[
        str, typer.Option("--diameter", "-d", help="auto, model, 30 px or 18 um.")
    ] = "auto",
    channels: ChannelsOption = "",
    min_size: Annotated[str, typer.Option(help="Drop smaller ROIs; 15 px or 20 um2.")] = "15 px",
    flow_threshold: Annotated[
        float, typer.Option(min=0, help="Drop ROIs with a larger flow error; 0: keep all.")
    ] = 0.4,
    cellprob_threshold: Annotated[
        float, typer.Option(help="Pixels above this logit belong to an ROI.")
    ] = 0.0,
    file_format: Annotated[
        Literal["tif", "zarr"], typer.Option("--format", help="What to write.")
    ] = "tif",
    recursive: Annotated[bool, typer.Option(help="Include sub-folders.")] = False,
    mirror: Annotated[
        Path | None, typer.Option(help="Repeat the folder structure below this folder in --out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing masks.")] = False,
    axes: AxesOption = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    zoo: ZooOption = None,
) -> None:
    """Segment images and write NAME_masks.tif for each. One that fails does not stop the others."""
    params = SegmentationParams(
        diameter=Diameter.parse(diameter),
        min_size=MinSize.parse(min_size),
        flow_threshold=flow_threshold,
        cellprob_threshold=cellprob_threshold,
    )
    choice = parse_channels(channels)
    images = find_images(paths, is_recursive=recursive)
    places = _places(images, out, mirror, file_format)
    if not overwrite and (there := [p for p in places if p.exists()]):
        raise UsageError(f"{there[0]} exists ({len(there)} in all); say --overwrite to replace")
    ready, params = (
        load_for(model, zoo, device),
        replace(params, precision=resolved(device, precision)),
    )
    failed = 0
    with progress("segmenting", len(images)) as advance:
        for image, place in zip(images, places, strict=True):
            try:
                tell(_segment_one(image, place, ready, params, choice, axes))
            except Exception as error:  # noqa: BLE001  told as what it is, and the next is done
                told = str(error) if isinstance(error, CellwatchError) else _bug(error)
                complain(told if str(image) in told else f"{image}: {told}")
                failed += 1
            _give_memory_back()
            advance()
    if failed:
        complain(f"{failed} of {len(images)} images failed")
        raise typer.Exit(EXIT_FAILED)


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


def parse_channels(text: str) -> ChannelChoice:
    """Read CELL[,NUCLEUS]."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"--channels: '{text}' is not CELL or CELL,NUCLEUS")
    values = [int(part) if part.isdecimal() else part for part in parts]
    return ChannelChoice(*values)


def load_for(model: str, zoo: Path | None, device: str) -> "Model | Chooser":
    """Load a model, or the classifier that chooses one, for this process to run."""
    from cellwatch.compute.device import choose_device, reuse_small_memory
    from cellwatch.compute.models import ready_either
    from cellwatch.zoo.classifiers import find_either

    reuse_small_memory()
    gc.freeze()  # what was imported stays: to look through it after each image took 0.1 s
    return ready_either(find_either(model, zoo), choose_device(device))


def resolved(device: str, precision: str) -> Literal["float32", "bfloat16"]:
    """Return in which precision a device computes, as `--precision` and the configuration say."""
    from cellwatch.compute.device import choose_device, precision_on

    return precision_on(choose_device(device), precision)  # type: ignore[arg-type]  # typer's choice


def _give_memory_back() -> None:
    from cellwatch.compute.device import give_memory_back

    give_memory_back()


def _bug(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return f"an unexpected error ({type(error).__name__} in {place}): {error}"


def _places(images: list[Path], out: Path, mirror: Path | None, file_format: str) -> list[Path]:
    places: dict[Path, Path] = {}
    for image in images:
        file = file_of(image)
        folder = out if file == image else out / image.parent.relative_to(file.parent)
        if mirror is not None:
            if not image.absolute().is_relative_to(mirror.absolute()):
                raise UsageError(f"{image} is not below {mirror} (--mirror)")
            folder = out / image.absolute().parent.relative_to(mirror.absolute())
        name = masks_name(image.name) if file_format == "tif" else f"{image.name}.zarr"
        place = folder / name
        if place in places:
            raise UsageError(
                f"{places[place]} and {image} would both become {place}; "
                "keep their folders apart with --mirror ROOT, or rename one"
            )
        places[place] = image
    return list(places)


def _segment_one(
    path: Path,
    place: Path,
    model: "Model | Chooser",
    params: SegmentationParams,
    choice: ChannelChoice,
    axes: str = "",
) -> str:
    from cellwatch.compute.acquisition import segment_acquisition
    from cellwatch.compute.memory import require_memory
    from cellwatch.compute.opening import open_or_load
    from cellwatch.images import describe
    from cellwatch.images.whole import why_not_whole
    from cellwatch.storage.masks.label_tiff import write_label_tiff

    if reason := why_not_whole(path):
        raise UnreadableImage(path, reason)
    superseded = place.parent / SUPERSEDED
    if place.suffix == ".zarr":
        from cellwatch.compute.pipeline import perform  # zarr, which a TIFF needs not

        job = replace(_store_job(path, place, model, params, choice), axes=axes)
        result = perform(job, lambda _: model, superseded, datetime.now(UTC)).targets[0]
    else:
        info = describe(path, axes)
        require_memory(info)
        with closing(open_or_load(path, info, axes)) as image:
            target = segment_acquisition(image, model, params, choice, scratch=place.parent)
        write_label_tiff(place, target.labels, superseded)
        result = target.result
    notes = "".join(f"\n  {note}" for note in result.notes)
    chosen = f", model {result.model_id} ({result.choice.cluster})" if result.choice else ""
    rois = replace(result, name="ROIs").counted
    return f"{path}: {rois}, diameter {result.diameter:.1f} px{chosen}{notes}"


def _store_job(
    path: Path,
    place: Path,
    model: "Model | Chooser",
    params: SegmentationParams,
    choice: ChannelChoice,
) -> Job:
    from cellwatch.images.identity import fingerprint

    target = TargetJob("cells", model.card.id, "", model.card.sha256, choice, params.to_json())
    return Job(0, str(path.absolute()), fingerprint(path), str(place), (target,))


def _facts(info: ImageInfo) -> dict[str, Any]:  # Any: JSON
    facts = asdict(info)
    del facts["lacks"]  # its note says so
    if not facts["notes"]:
        del facts["notes"]
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
