"""Which names are images of a microscope."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# Never an acquisition: hidden and system files, files under way, and what segmenters write.
ALWAYS_EXCLUDED = (
    ".*",
    ".*/*",
    "*/.*",
    "*~",
    "*.tmp",
    "*.part",
    "*.partial",
    "*.crdownload",
    "thumbs.db",
    "desktop.ini",
    "@eadir/*",
    "*/@eadir/*",
    "$recycle.bin/*",
    "*_masks.*",
    "*_cp_masks.*",
    "*_cp_output.*",
    "*_flows.*",
    "*_seg.*",
    "*.zarr/*",
    "*/*.zarr/*",
)
PLAIN = re.compile(r"[\w-][\w.-]*", re.UNICODE)


def is_plain_name(name: str) -> bool:
    """Say whether a name can be a folder and a label image of that name."""
    return bool(PLAIN.fullmatch(name)) and len(name.encode()) <= 64


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files of a folder are taken.

    Attributes
    ----------
    include, exclude : sequence of str
        Patterns of paths below the folder.
    suffixes : sequence of str
        Of the formats that can be read, in lower case.
    """

    include: Sequence[str]
    exclude: Sequence[str]
    suffixes: Sequence[str]


def is_wanted(relative: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Say whether a path below the watched folder is one to take; case does not matter.

    Examples
    --------
    >>> is_wanted("day1/a.tif", ["**"], ALWAYS_EXCLUDED), is_wanted("._a.tif", ["**"], [".*"])
    (True, False)
    """
    path = relative.casefold()
    name = path.rpartition("/")[2]
    if any(_fits(path, name, pattern) for pattern in exclude):
        return False
    return any(_fits(path, name, pattern) for pattern in include)


def experiment_of(relative: str, rule: str, local_date: str) -> str:
    """Return the experiment that a file belongs to.

    Parameters
    ----------
    relative : str
        Path below the watched folder.
    rule : str
        `folder`: the first folder level; else a regular expression whose group is the experiment.
    local_date : str
        Of the arrival; files without an experiment are one for each day.

    Examples
    --------
    >>> experiment_of("exp1/a/b.tif", "folder", "2026-11-30")
    'exp1'
    >>> experiment_of("p7_well3.tif", "^(.*?)_well", "2026-11-30")
    'p7'
    >>> experiment_of("b.tif", "folder", "2026-11-30")
    '2026-11-30'
    """
    if rule == "folder":
        parts = PurePosixPath(relative).parts
        return parts[0] if len(parts) > 1 else local_date
    found = re.search(rule, relative)
    return found[1] if found and found[1] else local_date


def _fits(path: str, name: str, pattern: str) -> bool:
    pattern = pattern.casefold()
    return pattern == "**" or fnmatchcase(path if "/" in pattern else name, pattern)
