"""The command that segments image files, without a station."""

import gc
import math
import os
import traceback
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellwatch.cli.console import (
    complain,
    counted,
    progress,
    tell,
)
from cellwatch.cli.inputs import find_images
from cellwatch.cli.inspect import AxesOption
from cellwatch.config.locate import MODELS, NAME, VARIABLE, state_folder
from cellwatch.core.parameters import Diameter, MinSize, Normalisation, SegmentationParams
from cellwatch.errors import (
    EXIT_FAILED,
    CellwatchError,
    ConfigError,
    UnreadableImage,
    UsageError,
)
from cellwatch.files.members import file_of
from cellwatch.files.stems import masks_name
from cellwatch.records import ChannelChoice, Job, TargetJob
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
    """Add this command."""
    app.command()(segment)


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
    skip_existing: Annotated[
        bool, typer.Option(help="Leave images that have masks already: go on where it was stopped.")
    ] = False,
    axes: AxesOption = "",
    pixel_size: Annotated[
        float | None, typer.Option(min=1e-6, help="Side of a pixel in µm, where a file is silent.")
    ] = None,
    normalise: Annotated[
        str, typer.Option(help="image, acquisition, or percentiles such as 1,99.")
    ] = "image",
    stitch: Annotated[
        float, typer.Option(min=0, max=1, help="Join ROIs of z planes above this IoU; 0: do not.")
    ] = 0.0,
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
        normalisation=parse_normalisation(normalise),
        stitch_threshold=stitch,
    )
    choice = parse_channels(channels)
    images = find_images(paths, is_recursive=recursive)
    places = _places(images, out, mirror, file_format)
    images, places = _to_do(images, places, overwrite=overwrite, skip_existing=skip_existing)
    if not images:
        return
    ready = load_for(model, zoo, device)
    params = replace(params, precision=resolved(device, precision))
    how = _How(params, choice, axes, pixel_size)
    failed = _segment_all(images, places, ready, how)
    if failed:
        complain(f"{failed} of {len(images)} images failed")
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True, slots=True)
class _How:
    """What a person said of the images, and of how they are segmented."""

    params: SegmentationParams
    choice: ChannelChoice
    axes: str
    pixel_size_um: float | None


def _segment_all(
    images: list[Path], places: list[Path], ready: "Model | Chooser", how: _How
) -> int:
    # How many failed.
    failed = seen = 0
    try:
        with progress("segmenting", len(images)) as advance:
            for image, place in zip(images, places, strict=True):
                try:
                    tell(_segment_one(image, place, ready, how))
                except Exception as error:  # noqa: BLE001  told as what it is; the next is done
                    told = str(error) if isinstance(error, CellwatchError) else _bug(error)
                    complain(told if str(image) in told else f"{image}: {told}")
                    failed += 1
                seen += 1
                _give_memory_back()
                advance()
    except KeyboardInterrupt:
        tell(
            f"stopped: {seen - failed} of {counted(len(images), 'image')} segmented, {failed} "
            "failed; the same command with --skip-existing does the others"
        )
        raise
    return failed


def _to_do(
    images: list[Path], places: list[Path], *, overwrite: bool, skip_existing: bool
) -> tuple[list[Path], list[Path]]:
    there = [place for place in places if place.exists()]
    if not there or overwrite:
        return images, places
    if not skip_existing:
        raise UsageError(
            f"{there[0]} exists ({len(there)} in all); say --overwrite to replace, or "
            "--skip-existing to do the others"
        )
    pairs = [(i, p) for i, p in zip(images, places, strict=True) if not p.exists()]
    tell(f"{counted(len(there), 'image')} left out: their masks exist; {len(pairs)} to do")
    return [image for image, _ in pairs], [place for _, place in pairs]


def parse_channels(text: str) -> ChannelChoice:
    """Read CELL[,NUCLEUS]."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"--channels: '{text}' is not CELL or CELL,NUCLEUS")
    values = [int(part) if part.isdecimal() else part for part in parts]
    return ChannelChoice(*values)


def parse_normalisation(text: str) -> Normalisation:
    """Read image, acquisition, or LOW,HIGH."""
    if text in ("image", "acquisition"):
        return Normalisation(over=text)  # type: ignore[arg-type]  # one of the two
    low, comma, high = text.partition(",")
    try:
        return Normalisation(low=float(low), high=float(high) if comma else math.nan)
    except ValueError as error:
        told = f"--normalise: '{text}' is not image, acquisition, or percentiles such as 1,99"
        raise UsageError(told) from error


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


def _segment_one(path: Path, place: Path, model: "Model | Chooser", how: "_How") -> str:
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

        job = _store_job(path, place, model, how)
        result = perform(job, lambda _: model, superseded, datetime.now(UTC)).targets[0]
    else:
        info = describe(path, how.axes)
        require_memory(info, [how.params])
        size = how.pixel_size_um
        with closing(open_or_load(path, info, how.axes)) as image:
            target = segment_acquisition(
                image, model, how.params, how.choice, pixel_size_um=size, store=place
            )
        write_label_tiff(place, target.labels, superseded, size or info.pixel_size_um)
        result = target.result
    notes = "".join(f"\n  {note}" for note in result.notes)
    chosen = f", model {result.model_id} ({result.choice.cluster})" if result.choice else ""
    rois = replace(result, name="ROIs").counted
    return f"{path}: {rois}, diameter {result.diameter:.1f} px{chosen}{notes}"


def _store_job(path: Path, place: Path, model: "Model | Chooser", how: "_How") -> Job:
    from cellwatch.images.identity import fingerprint

    card, params = model.card, how.params.to_json()
    target = TargetJob("cells", card.id, "", card.sha256, how.choice, params)
    job = Job(0, str(path.absolute()), fingerprint(path), str(place), (target,))
    return replace(job, axes=how.axes, pixel_size_um=how.pixel_size_um)
