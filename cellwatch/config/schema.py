"""The keys of the configuration, their types and defaults.

Defaults of segmentation live with the segmentation (`core.parameters`), those of watching with the
watching (`watching.settle`); here they are only given names.
"""

import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cellwatch.config.locate import MODELS
from cellwatch.core.parameters import (
    Diameter,
    MinSize,
    Normalisation,
    SegmentationParams,
    checked_pixel_size,
)
from cellwatch.errors import CalibrationError, ParameterError
from cellwatch.files.mounts import is_network
from cellwatch.records import ChannelChoice
from cellwatch.watching.names import ALWAYS_EXCLUDED, is_plain_name
from cellwatch.watching.settle import NETWORK_SETTLE_S, SETTLE_S

CORE = SegmentationParams()  # the defaults of segmentation

_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|sec|seconds?|m|min|minutes?|h|hours?)?\s*$")
_PLANE = re.compile(r"[ptz]\d+(_[ptz]\d+)*")
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]?B)?\s*$")
_BYTES = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SECONDS = {None: 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _diameter(value: Any) -> Diameter:  # Any: what YAML gave
    return value if isinstance(value, Diameter) else _said(Diameter.parse, value)


def _min_size(value: Any) -> MinSize:  # Any: what YAML gave
    return value if isinstance(value, MinSize) else _said(MinSize.parse, value)


def _normalisation(value: Any) -> Normalisation:  # Any: what YAML gave
    if isinstance(value, Normalisation):
        return value
    if value in ("image", "acquisition"):
        return Normalisation(over=value)
    if isinstance(value, dict) and set(value) <= {"over", "low", "high"}:
        chosen: Normalisation = _said(lambda v: Normalisation(**v), value)
        return chosen
    raise ValueError("write image, acquisition, or {low: 1, high: 99}")


def _devices(value: Any) -> tuple[str, ...]:  # Any: what YAML gave
    named = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not named or not all(re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(one)) for one in named):
        raise ValueError("input should be auto, cpu, cuda, or a list such as [cuda:0, cuda:1]")
    return tuple(map(str, named))


def _pixel_size(value: Any) -> float | None:  # Any: what YAML gave
    if value is None:
        return None
    text = re.sub(r"\s*(um|µm|μm)$", "", str(value).strip())
    try:
        return checked_pixel_size(float(text), "pixel_size")
    except (ValueError, CalibrationError) as error:
        raise ValueError(f"'{value}' is not a pixel size; write 0.65 um") from error


def _seconds(value: Any) -> float:  # Any: what YAML gave
    match = _DURATION.match(str(value))
    if not match:
        raise ValueError(f"'{value}' is not a time; write 2 s or 5 min")
    unit = match[2] if match[2] in (None, "ms") else match[2][0]
    return float(match[1]) * _SECONDS[unit]


def _bytes(value: Any) -> float:  # Any: what YAML gave
    match = _SIZE.match(str(value))
    if not match:
        raise ValueError(f"'{value}' is not a size; write 500 MB or 2 GB")
    return float(match[1]) * _BYTES[(match[2] or "").upper()]


def _existing(value: Any) -> str:  # Any: what YAML gave
    text = str(value).strip()
    if text in ("process", "ignore"):
        return text
    if text.startswith("since:"):
        try:
            datetime.fromisoformat(text[6:].strip()).replace(tzinfo=UTC)
        except ValueError as error:
            raise ValueError(
                f"'{text[6:].strip()}' is not a date; write since:2026-11-30"
            ) from error
        return f"since:{text[6:].strip()}"
    raise ValueError("write process, ignore, or since:2026-11-30")


def _name(value: Any) -> str:  # Any: what YAML gave
    if not isinstance(value, str) or not is_plain_name(value):
        raise ValueError("a name has letters, digits, '-', '_' and '.', and starts with no dot")
    return value


def _axes(value: Any) -> str:  # Any: what YAML gave
    text = str(value).upper()
    if text and (set(text) - set("PTZCYXS") or len(set(text)) != len(text) or "YX" not in text):
        raise ValueError("axes are letters of PTZCYXS, each once, with Y before X, as in ZCYX")
    return text


def _said(parse: Any, value: Any) -> Any:  # Any: one of the parsers above
    try:
        return parse(value)
    except ParameterError as error:
        raise ValueError(str(error).split(": ", 1)[-1]) from error
    except TypeError as error:
        raise ValueError(f"{value} is not understood") from error


def _target_name(value: Any) -> str:  # Any: what YAML gave
    name = _name(value)
    if "." in name or name.startswith("_") or "__" in name or _PLANE.fullmatch(name):
        raise ValueError(
            f"'{name}' cannot be told from other parts of a correction's name; a target has "
            "letters, digits, '-' and single '_', and is not a plane as t1 or z05"
        )
    return name


Name = Annotated[str, BeforeValidator(_name)]
TargetName = Annotated[str, BeforeValidator(_target_name)]


def _number(value: Any) -> Any:  # Any: what YAML gave
    if isinstance(value, bool):
        raise ValueError("write a number, not yes or no")  # noqa: TRY004  pydantic collects these
    return value


def _channel(value: Any) -> Any:  # Any: what YAML gave
    if isinstance(value, bool) or value == "" or (isinstance(value, int) and value < 0):
        raise ValueError("write a channel's name, or its index from 0")
    return value


def _patterns(value: Any) -> Any:  # Any: what YAML gave
    if isinstance(value, str):
        raise ValueError(f'write a list, as in ["{value}"]')  # noqa: TRY004  pydantic collects these
    return value


def _folder(value: Any) -> Any:  # Any: what YAML gave
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("write the path of a folder")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Threshold = Annotated[float, BeforeValidator(_number), Field(ge=0)]
ChannelName = Annotated[str | int | None, BeforeValidator(_channel)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Devices = Annotated[tuple[str, ...], BeforeValidator(_devices)]
FolderPath = Annotated[Path, BeforeValidator(_folder)]


def _group(value: Any) -> str:  # Any: what YAML gave
    return _name(value) if value else ""


def _experiment(value: Any) -> str:  # Any: what YAML gave
    text = str(value)
    if text == "folder":
        return text
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"'{text}' is not a pattern: {error}") from error
    if groups != 1:
        raise ValueError("write folder, or a regular expression with one group: ^(.*?)_well")
    return text


def _clock(value: Any) -> str:  # Any: what YAML gave; 02:00 without quotes comes as minutes
    if value is None or value == "never":
        return "never"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        value = f"{value // 60:02d}:{value % 60:02d}"
    try:
        return time.fromisoformat(str(value)).strftime("%H:%M")
    except ValueError as error:
        raise ValueError(f"'{value}' is not a time of day; write \"02:00\", or never") from error


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
    diameter: Annotated[Diameter, BeforeValidator(_diameter)] = Diameter()
    normalise: Annotated[Normalisation, BeforeValidator(_normalisation)] = Normalisation()
    min_contrast: Threshold = CORE.min_contrast
    min_size: Annotated[MinSize, BeforeValidator(_min_size)] = MinSize()
    flow_threshold: Threshold = CORE.flow_threshold
    cellprob_threshold: Number = CORE.cellprob_threshold
    stitch_threshold: Annotated[float, Field(ge=0, le=1)] = CORE.stitch_threshold
    group: Annotated[str, BeforeValidator(_group)] = ""

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


def _settle(value: Any) -> float | None:  # Any: what YAML gave
    return None if value is None else _seconds(value)


class WatchDefaults(Segmenting):
    """Keys that every watched folder may set."""

    include: Patterns = ("**",)
    exclude: Patterns = ()
    existing: Annotated[str, BeforeValidator(_existing)] = "process"
    axes: Annotated[str, BeforeValidator(_axes)] = ""
    pixel_size: Annotated[float | None, BeforeValidator(_pixel_size)] = None
    settle: Annotated[float | None, BeforeValidator(_settle)] = None
    experiment: Annotated[str, BeforeValidator(_experiment)] = "folder"
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
    also: tuple[Literal["tif", "csv", "parquet"], ...] = ("tif", "csv")
    reserve: Annotated[float, BeforeValidator(_bytes)] = 500e6


class Folder(Section):
    """A folder with a role."""

    folder: FolderPath


class Retrain(Section):
    """When and how groups learn from corrections."""

    at: Annotated[str, BeforeValidator(_clock)] = "02:00"
    min_new_rois: Annotated[int, Field(ge=1)] = 50
    schedule: Literal["online", "offline"] = "online"
    budget: Annotated[float, BeforeValidator(_seconds)] = 4 * 3600.0
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

    @property
    def zoo(self) -> Path:
        """Return the folder of the station's own models."""
        return self.state.folder / MODELS
