"""The keys of the configuration, their types and defaults.

Defaults of segmentation live with the segmentation (`core.parameters`), those of watching with the
watching (`watching.settle`); here they are only given names.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cellwatch.config.locate import MODELS
from cellwatch.config.values import (
    ChannelName,
    Devices,
    FolderPath,
    Name,
    Number,
    Patterns,
    TargetName,
    Threshold,
    as_axes,
    as_bytes,
    as_clock,
    as_diameter,
    as_existing,
    as_experiment,
    as_files,
    as_group,
    as_interval,
    as_min_size,
    as_normalisation,
    as_pixel_size,
    as_seconds,
    as_settle,
)
from cellwatch.core.parameters import Diameter, MinSize, Normalisation, SegmentationParams
from cellwatch.files.mounts import is_network
from cellwatch.records import ChannelChoice
from cellwatch.watching.names import ALWAYS_EXCLUDED
from cellwatch.watching.settle import NETWORK_SETTLE_S, SETTLE_S

AlsoWritten = Literal["tif", "csv", "parquet", "rois", "geojson", "overlay"]
CORE = SegmentationParams()  # the defaults of segmentation


class Section(BaseModel):
    """A mapping of known keys; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Channels(Section):
    """Which channels the network is fed, by name (globs allowed) or by index from 0."""

    cell: ChannelName = None
    nucleus: ChannelName = None


class Segmenting(Section):
    """How planes are segmented."""

    model: str = "auto"
    channels: Channels = Channels()
    diameter: Annotated[Diameter, BeforeValidator(as_diameter)] = Diameter()
    normalise: Annotated[Normalisation, BeforeValidator(as_normalisation)] = Normalisation()
    min_contrast: Threshold = CORE.min_contrast
    min_size: Annotated[MinSize, BeforeValidator(as_min_size)] = MinSize()
    flow_threshold: Threshold = CORE.flow_threshold
    cellprob_threshold: Number = CORE.cellprob_threshold
    stitch_threshold: Annotated[float, Field(ge=0, le=1)] = CORE.stitch_threshold
    group: Annotated[str, BeforeValidator(as_group)] = ""

    def params(self) -> SegmentationParams:
        """Return the parameters that the core takes."""
        return SegmentationParams(
            diameter=self.diameter,
            min_size=self.min_size,
            normalisation=self.normalise,
            min_contrast=self.min_contrast,
            flow_threshold=self.flow_threshold,
            cellprob_threshold=self.cellprob_threshold,
            stitch_threshold=self.stitch_threshold,
        )

    def choice(self) -> ChannelChoice:
        """Return the channels asked for."""
        return ChannelChoice(self.channels.cell, self.channels.nucleus)


class Target(Segmenting):
    """One thing to segment in an acquisition."""

    name: TargetName


class WatchDefaults(Segmenting):
    """Keys that every watched folder may set."""

    include: Patterns = ("**",)
    exclude: Patterns = ()
    existing: Annotated[str, BeforeValidator(as_existing)] = "process"
    axes: Annotated[str, BeforeValidator(as_axes)] = ""
    pixel_size: Annotated[float | None, BeforeValidator(as_pixel_size)] = None
    settle: Annotated[float | None, BeforeValidator(as_settle)] = None
    experiment: Annotated[str, BeforeValidator(as_experiment)] = "folder"
    files: Annotated[str, BeforeValidator(as_files)] = ""
    interrupted: Literal["leave", "process"] = "leave"
    polling: Literal["auto", "always", "never"] = "auto"
    priority: int = 0
    order: Literal["oldest", "newest"] = "oldest"
    segment: tuple[Target, ...] = ()


class Watch(WatchDefaults):
    """A folder that a microscope writes to."""

    folder: FolderPath
    name: Name = "watch"

    @property
    def settle_s(self) -> float:
        """Return for how long a file must not change, in s."""
        if self.settle is not None:
            return self.settle
        return NETWORK_SETTLE_S if is_network(self.folder) else SETTLE_S

    @property
    def is_polled(self) -> bool:
        """Say whether it is looked into from time to time alone: a share reports no changes."""
        if self.polling == "auto":
            return is_network(self.folder)
        return self.polling == "always"

    def targets(self) -> tuple[Target, ...]:
        """Return what is segmented: `segment`, or one target named `cells`.

        A target takes from the folder what it does not say itself.
        """
        said = {key: getattr(self, key) for key in Segmenting.model_fields}
        listed = self.segment or (Target(name="cells"),)
        return tuple(
            target.model_copy(
                update={k: v for k, v in said.items() if k not in target.model_fields_set}
            )
            for target in listed
        )

    def group_of(self, target: Target) -> str:
        """Return the group whose adapted model segments a target: its own unless it is told."""
        if target.group:
            return target.group
        return self.name if len(self.targets()) == 1 else f"{self.name}-{target.name}"

    def excluded(self) -> tuple[str, ...]:
        """Return all patterns of names that are never taken."""
        return (*ALWAYS_EXCLUDED, *self.exclude)


class Output(Section):
    """Where and how masks are written."""

    folder: FolderPath
    include_image: bool = True
    ome_zarr: Literal["0.5", "0.4"] = "0.5"
    preview: bool = True
    also: tuple[AlsoWritten, ...] = ("tif", "csv")
    reserve: Annotated[float, BeforeValidator(as_bytes)] = 500e6


class Folder(Section):
    """A folder with a role."""

    folder: FolderPath


class Retrain(Section):
    """When and how groups learn from corrections."""

    at: Annotated[str, BeforeValidator(as_clock)] = "02:00"
    min_new_rois: Annotated[int, Field(ge=1)] = 50
    schedule: Literal["online", "offline"] = "online"
    budget: Annotated[float, BeforeValidator(as_seconds)] = 4 * 3600.0
    pin: Literal["experiment", "acquisition", "none"] = "experiment"
    lead: str = ""
    replay: tuple[FolderPath, ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.2
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.5


class Config(Section):
    """Everything that `cellwatch run` is told."""

    watch: tuple[Watch, ...]
    output: Output
    state: Folder
    corrections: Folder | None = None
    flags: Folder | None = None
    defaults: WatchDefaults = WatchDefaults()
    retrain: Retrain = Retrain()
    device: Devices = ("auto",)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    paths: dict[str, FolderPath] = {}
    report: Annotated[float | None, BeforeValidator(as_interval)] = 300.0

    @property
    def name(self) -> str:
        """Return what the station is called: the folder that its state lies in."""
        return self.state.folder.absolute().parent.name or "station"

    @property
    def zoo(self) -> Path:
        """Return the folder of the station's own models."""
        return self.state.folder / MODELS
