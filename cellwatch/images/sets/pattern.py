"""Sets by the names of their files: what a pattern of the configuration says, or Micro-Manager's.

The named groups `c` (or `channel`), `z` and `t` (or `time`) of a pattern say which plane a file
holds, `well` and `field` where on a plate it was taken; files that differ in `c`, `z` and `t` alone
are one image. The set is called after the first of its files.
"""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cellwatch.images import tiff
from cellwatch.images.sets.planes import LACKS_CHANNEL, ImageSet, Plane, SetImage

# Of the environment: the patterns of the configuration by folder, for child processes as well.
VARIABLE = "CELLWATCH_FILE_PATTERNS"
CHANNEL, DEPTH, TIME = ("c", "channel"), ("z",), ("t", "time")
FRESH_NS = 3_000_000_000  # of a folder's time, which some file systems keep in steps of two seconds
AWAITED_S = 60.0  # a channel of which only other images say that it will come
METADATA = "metadata.txt"  # of Micro-Manager, beside its files
# Micro-Manager's files of single planes, as versions 2 and 1.4 name them.
MICROMANAGER = (
    r"img_channel(?P<c>\d{3})_position\d{3}_time(?P<t>\d{9})_z(?P<z>\d{3})\.tif",
    r"img_(?P<t>\d{9})_(?P<c>.*)_(?P<z>\d{3})\.tif",
)


@dataclass(frozen=True, slots=True)
class Named:
    """What the name of a file says.

    Attributes
    ----------
    image : str
        Equal for the files of one image.
    place : (str, str, str)
        Time point, z and channel, as they are written; "": not named.
    well : str
    field : int or None
    """

    image: str
    place: tuple[str, str, str]
    well: str = ""
    field: int | None = None


def declare(patterns: Mapping[Path, str]) -> None:
    """Let files below these folders belong together by their names, also for child processes."""
    said = {str(folder.absolute()): pattern for folder, pattern in patterns.items() if pattern}
    if said:
        os.environ[VARIABLE] = json.dumps(said)
    else:
        os.environ.pop(VARIABLE, None)


def named(path: Path) -> Named | None:
    """Return what a file's name says of its set; None: no pattern fits it."""
    for root, pattern in _patterns(os.environ.get(VARIABLE, "")):
        if path.is_relative_to(root):
            text = path.relative_to(root).as_posix() if "/" in pattern.pattern else path.name
            return _taken_apart(text, pattern)
    for text in MICROMANAGER:
        if found := _taken_apart(path.name, re.compile(text)):
            return found
    return None


def index_of(path: Path) -> Path | None:
    """Return the first file of the set that a file belongs to by its name; None: to none."""
    mine = named(path)
    if mine is None:
        return None
    try:
        files = _files_of(path, mine)
    except OSError:
        return None
    return files[0][0] if files else path


def read(index: Path) -> ImageSet:
    """Return the set whose first file this is.

    Raises
    ------
    ValueError
        When its name fits no pattern.
    """
    mine = named(index)
    if mine is None:
        raise ValueError("its name fits no pattern")
    files = _files_of(index, mine)
    said = _micromanager(index)
    names = _channels(files, said)
    numbers = {name: n for n, name in enumerate(names)}
    times, depths = (_numbers({each.place[axis] for _, each in files}) for axis in (0, 1))
    planes = {}
    for file, each in files:
        t, z, c = each.place
        planes[times[t], depths[z], numbers[c]] = Plane(file)
    shown = said.names if len(said.names) == len(names) else names
    side = said.pixel_size_um or _pixel_size(index)
    image = SetImage(
        "",
        planes,
        dict(enumerate(shown)),
        (side, side),
        lacks=_lacks(index, files, said),
        well=mine.well,
        field=mine.field,
    )
    return ImageSet("file-series", (image,))


@lru_cache(maxsize=4)
def _patterns(said: str) -> tuple[tuple[Path, "re.Pattern[str]"], ...]:
    found = json.loads(said) if said else {}
    return tuple((Path(root), re.compile(pattern)) for root, pattern in found.items())


def _taken_apart(text: str, pattern: "re.Pattern[str]") -> Named | None:
    match = pattern.fullmatch(text)
    if match is None:
        return None
    groups = {name: value or "" for name, value in match.groupdict().items()}
    spans = sorted(match.span(name) for name in groups if name in (*CHANNEL, *DEPTH, *TIME))
    image, at = "", 0
    for start, end in (span for span in spans if span[0] >= 0):
        image, at = f"{image}{text[at:start]}*", max(at, end)
    place = tuple(
        next((groups[name] for name in names if name in groups), "")
        for names in (TIME, DEPTH, CHANNEL)
    )
    field = re.search(r"\d+", groups.get("field", ""))
    well = groups.get("well", "").upper()
    return Named(
        f"{image}{text[at:]}",
        (place[0], place[1], place[2]),
        well,
        int(field[0]) if field else None,
    )


def _files_of(path: Path, mine: Named) -> tuple[tuple[Path, Named], ...]:
    # Those of one image, in their order.
    return _folder(path.parent).get(mine.image, ())


def _folder(folder: Path) -> Mapping[str, tuple[tuple[Path, Named], ...]]:
    # By image. The time of a folder that changed just now tells nothing: it is read again.
    mtime_ns = folder.stat().st_mtime_ns
    if time.time_ns() - mtime_ns < FRESH_NS:
        return _listed(folder)
    return _listed_once(folder, mtime_ns, os.environ.get(VARIABLE, ""))


@lru_cache(maxsize=4)
def _listed_once(
    folder: Path, mtime_ns: int, said: str
) -> Mapping[str, tuple[tuple[Path, Named], ...]]:
    del mtime_ns, said  # they tell that it is the same
    return _listed(folder)


def _listed(folder: Path) -> Mapping[str, tuple[tuple[Path, Named], ...]]:
    found: dict[str, list[tuple[Path, Named]]] = {}
    for name in os.listdir(folder):  # noqa: PTH208  faster than Path
        if each := named(folder / name):
            found.setdefault(each.image, []).append((folder / name, each))
    return {
        image: tuple(sorted(files, key=lambda pair: _order(pair[1].place)))
        for image, files in found.items()
    }


def _order(place: tuple[str, str, str]) -> tuple[tuple[int, str], ...]:
    return tuple((_number(text), text) for text in place)


def _number(text: str) -> int:
    match = re.fullmatch(r"[-+]?\d+", text)
    return int(text) if match else 0


def _numbers(texts: set[str]) -> dict[str, int]:
    # As they are written where these are different numbers, else by their order.
    written = {text: _number(text) for text in texts}
    if len(set(written.values())) == len(texts):
        return written
    return {text: n for n, text in enumerate(sorted(texts, key=lambda each: (_number(each), each)))}


@dataclass(frozen=True, slots=True)
class _Said:
    """What Micro-Manager's metadata say of a series: nothing where they are not there."""

    names: tuple[str, ...] = ()
    pixel_size_um: float = 0.0
    expected: int = 0  # planes of a position


def _micromanager(index: Path) -> _Said:
    # The file is written while the series is: it need not be valid JSON yet.
    is_theirs = any(_taken_apart(index.name, re.compile(text)) for text in MICROMANAGER)
    try:
        text = index.with_name(METADATA).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _Said()
    if not is_theirs:
        return _Said()
    names = re.search(r'"ChNames"\s*:\s*(\[[^\]]*\])', text)
    size = re.search(r'"PixelSize_?[uU]m"\s*:\s*"?([\d.]+)', text)
    meant = re.search(r'"IntendedDimensions"\s*:\s*(\{[^}]*\})', text)
    expected = 1
    for key, n in (json.loads(meant[1]) if meant else {}).items():
        expected *= int(n) if key in ("time", "z", "channel") else 1
    return _Said(
        tuple(json.loads(names[1])) if names else (),
        float(size[1]) if size else 0.0,
        expected if meant else 0,
    )


def _pixel_size(file: Path) -> float:
    if file.suffix.lower() not in (".tif", ".tiff"):
        return 0.0
    return tiff.describe(file).pixel_size_um or 0.0


def _channels(files: Sequence[tuple[Path, Named]], said: _Said) -> list[str]:
    # In the order of the pattern's alternatives, of Micro-Manager's list, or of the names.
    present = {each.place[2] for _, each in files}
    listed = [name for name in (*_alternatives(files[0][0]), *said.names) if name in present]
    rest = sorted(present - set(listed), key=lambda text: (_number(text), text))
    return [*dict.fromkeys(listed), *rest]


def _lacks(index: Path, files: Sequence[tuple[Path, Named]], said: _Said) -> str:
    # How many planes there will be is told by Micro-Manager alone; which channels, by the pattern
    # or by the other images of the folder.
    if len(files) < said.expected:
        return f"{said.expected - len(files)} of {said.expected} files are not there"
    present = {each.place[2] for _, each in files}
    meant = set(_alternatives(index))
    if not meant and _is_recent(files):
        others = _folder(index.parent).values()
        meant = {each.place[2] for image in others for _, each in image}
    if absent := sorted(meant - present):
        return f"{LACKS_CHANNEL} {', '.join(absent)} is there"
    return ""


def _is_recent(files: Sequence[tuple[Path, Named]]) -> bool:
    # The channels that other images have are awaited for a minute: an overview may have one alone.
    newest = max((file.stat().st_mtime for file, _ in files if file.exists()), default=0.0)
    return time.time() - newest < AWAITED_S


def _alternatives(path: Path) -> tuple[str, ...]:
    # DAPI and GFP of (?P<c>DAPI|GFP): all that it may be.
    for root, pattern in _patterns(os.environ.get(VARIABLE, "")):
        if path.is_relative_to(root):
            group = re.search(r"\(\?P<(?:c|channel)>([^()\[\]\\.*+?]+)\)", pattern.pattern)
            return tuple(group[1].split("|")) if group else ()
    return ()
