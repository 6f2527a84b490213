"""What people may write for a value: each parser takes what YAML gave, or says what to write."""

import os
import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cellwatch.core.parameters import Diameter, MinSize, Normalisation, checked_pixel_size
from cellwatch.errors import CalibrationError, ParameterError
from cellwatch.watching.names import is_plain_name

PLANE_GROUPS = {"c", "channel", "z", "t", "time", "well", "field"}  # of file names, in a pattern

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|sec|seconds?|m|min|minutes?|h|hours?)?\s*$")
_PLANE = re.compile(r"[ptz]\d+(_[ptz]\d+)*")
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]?B)?\s*$")
_BYTES = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SECONDS = {None: 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def as_diameter(value: Any) -> Diameter:  # Any: what YAML gave
    """Return a diameter: auto, model, 30 px or 18 um."""
    return value if isinstance(value, Diameter) else _said(Diameter.parse, value)


def as_min_size(value: Any) -> MinSize:  # Any: what YAML gave
    """Return a smallest size: 15 px or 20 um2."""
    return value if isinstance(value, MinSize) else _said(MinSize.parse, value)


def as_normalisation(value: Any) -> Normalisation:  # Any: what YAML gave
    """Return a normalisation: image, acquisition, or percentiles."""
    if isinstance(value, Normalisation):
        return value
    if value in ("image", "acquisition"):
        return Normalisation(over=value)
    if isinstance(value, dict) and set(value) <= {"over", "low", "high"}:
        chosen: Normalisation = _said(lambda v: Normalisation(**v), value)
        return chosen
    raise ValueError("write image, acquisition, or {low: 1, high: 99}")


def as_devices(value: Any) -> tuple[str, ...]:  # Any: what YAML gave
    """Return devices: auto, cpu, cuda, or a list."""
    named = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not named or not all(re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(one)) for one in named):
        raise ValueError("input should be auto, cpu, cuda, or a list such as [cuda:0, cuda:1]")
    return tuple(map(str, named))


def as_pixel_size(value: Any) -> float | None:  # Any: what YAML gave
    """Return the side of a pixel in µm: 0.65 um."""
    if value is None:
        return None
    text = re.sub(r"\s*(um|µm|μm)$", "", str(value).strip())
    try:
        return checked_pixel_size(float(text), "pixel_size")
    except (ValueError, CalibrationError) as error:
        raise ValueError(f"'{value}' is not a pixel size; write 0.65 um") from error


def as_seconds(value: Any) -> float:  # Any: what YAML gave
    """Return a time in s: 2 s or 5 min."""
    match = _DURATION.match(str(value))
    if not match:
        raise ValueError(f"'{value}' is not a time; write 2 s or 5 min")
    unit = match[2] if match[2] in (None, "ms") else match[2][0]
    return float(match[1]) * _SECONDS[unit]


def as_bytes(value: Any) -> float:  # Any: what YAML gave
    """Return a size in bytes: 500 MB or 2 GB."""
    match = _SIZE.match(str(value))
    if not match:
        raise ValueError(f"'{value}' is not a size; write 500 MB or 2 GB")
    return float(match[1]) * _BYTES[(match[2] or "").upper()]


def as_existing(value: Any) -> str:  # Any: what YAML gave
    """Return what is done with files that are there: process, ignore, since:DATE."""
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


def as_axes(value: Any) -> str:  # Any: what YAML gave
    """Return axes: ZCYX."""
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
    if os.name == "posix" and _WINDOWS.match(str(value)):
        raise ValueError(
            f"'{value}' is a path of Windows; name the folder where this share is mounted here, "
            "and map the two in paths:"
        )
    return value


Number = Annotated[float, BeforeValidator(_number)]
Threshold = Annotated[float, BeforeValidator(_number), Field(ge=0)]
ChannelName = Annotated[str | int | None, BeforeValidator(_channel)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Devices = Annotated[tuple[str, ...], BeforeValidator(as_devices)]
FolderPath = Annotated[Path, BeforeValidator(_folder)]


def as_group(value: Any) -> str:  # Any: what YAML gave
    """Return the name of a group; "": none."""
    return _name(value) if value else ""


def as_experiment(value: Any) -> str:  # Any: what YAML gave
    """Return what makes an experiment: folder, or a pattern."""
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


def as_clock(value: Any) -> str:  # Any: what YAML gave; 02:00 without quotes comes as minutes
    """Return a time of day, or never."""
    if value is None or value == "never":
        return "never"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        value = f"{value // 60:02d}:{value % 60:02d}"
    try:
        return time.fromisoformat(str(value)).strftime("%H:%M")
    except ValueError as error:
        raise ValueError(f"'{value}' is not a time of day; write \"02:00\", or never") from error


def as_settle(value: Any) -> float | None:  # Any: what YAML gave
    """Return a settle time in s; None: by the file system."""
    return None if value is None else as_seconds(value)


def as_files(value: Any) -> str:  # Any: what YAML gave
    """Return a pattern of the names of files that belong together; "": none."""
    text = str(value or "")
    try:
        groups = set(re.compile(text).groupindex)
    except re.error as error:
        raise ValueError(f"'{text}' is not a pattern: {error}") from error
    if text and not groups & PLANE_GROUPS:
        raise ValueError(
            "name what tells the planes apart: (?P<c>...) for channels, (?P<z>...), (?P<t>...); or "
            "(?P<well>...) and (?P<field>...)"
        )
    if unknown := groups - PLANE_GROUPS:
        raise ValueError(
            f"group {', '.join(sorted(unknown))} is none of {', '.join(sorted(PLANE_GROUPS))}; "
            "write (?:...) for what has no name"
        )
    return text


def as_interval(value: Any) -> float | None:  # Any: what YAML gave
    """Return a time in s: 5 min; None: never."""
    return None if value in (None, "never") else as_seconds(value)
