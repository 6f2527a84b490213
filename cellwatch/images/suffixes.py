"""The names of image files, those that can be read and those that cannot; light to import."""

from collections.abc import Sequence
from importlib.util import find_spec

TIFFS = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
ZARRS = (".zarr", ".zarr.zip", ".ozx")
LONG = (".zarr.zip",)
JPEGS = (".jpg", ".jpeg")
# What the names of files end in that list the files of a set.
INDICES = (
    "index.idx.xml", "index.xml", "measurementdata.mlf", ".htd", ".nd", "ndtiff.index",
    ".companion.ome",
)  # fmt: skip
LISTING = (*TIFFS, *JPEGS, ".png")  # files that may list a set beside being an image
ALWAYS = (*TIFFS, ".png", *JPEGS, *ZARRS, *INDICES)
# What is read when a library is there: its module, and the extra that brings it.
WITH_LIBRARY = {
    ".nd2": ("nd2", "nd2"),
    ".czi": ("pylibCZIrw", "czi"),
    ".lif": ("liffile", "lif"),
    ".oib": ("oiffile", "oib"),
    ".svs": ("slideio", "slides"),
    ".ndpi": ("slideio", "slides"),
    ".vsi": ("slideio", "slides"),
}
SUFFIXES = (*ALWAYS, *(s for s, (module, _) in WITH_LIBRARY.items() if find_spec(module)))
# What microscopes and people write that is not read: it is counted, so that nobody waits in vain.
_NEVER = (
    ".lof", ".xlef", ".oif", ".oir", ".poir", ".zvi", ".ims", ".dv", ".r3d", ".sld", ".sldy",
    ".scn", ".mrxs", ".bif", ".qptiff", ".jp2", ".gif", ".bmp", ".webp", ".h5", ".hdf5",
    ".mrc", ".nrrd", ".nii", ".dcm", ".c01", ".flex", ".liff", ".ipl", ".gel", ".nef", ".cr2",
    ".raw", ".dng", ".pic", ".avi", ".mp4",
)  # fmt: skip
LIKE_IMAGES = (*_NEVER, *(suffix for suffix in WITH_LIBRARY if suffix not in SUFFIXES))


def suffix_of(name: str) -> str:
    """Return the suffix by which a file's format is known, in lower case.

    Examples
    --------
    >>> suffix_of("a.ome.TIF"), suffix_of("plate.ome.zarr.zip"), suffix_of("notes")
    ('.tif', '.zarr.zip', '')
    """
    lower = name.lower().rpartition("/")[2]
    for ending in (*LONG, *INDICES):
        if lower.endswith(ending) and (ending.startswith(".") or lower == ending):
            return ending
    dot = lower.rfind(".")
    return lower[dot:] if dot > 0 else ""


def watched_suffixes(include: Sequence[str]) -> tuple[str, ...]:
    """Return which suffixes are taken from a watched folder.

    JPEGs only where a pattern names them: beside images they are previews.

    Examples
    --------
    >>> ".jpg" in watched_suffixes(["**"]), ".jpg" in watched_suffixes(["*.jpg", "*.tif"])
    (False, True)
    """
    named = tuple(s for s in JPEGS if any(p.lower().endswith(s) for p in include))
    return tuple(suffix for suffix in SUFFIXES if suffix not in JPEGS or suffix in named)


def unread_suffixes(include: Sequence[str]) -> tuple[str, ...]:
    """Return which suffixes of images are counted as not read in a watched folder."""
    taken = watched_suffixes(include)
    return (*LIKE_IMAGES, *(suffix for suffix in JPEGS if suffix not in taken))


def why_unread(suffix: str) -> str:
    """Say of a suffix that is not read what to do, or else what is read.

    Examples
    --------
    >>> why_unread(".zvi")[:27]
    "'.zvi' is none of .tif, .ti"
    """
    if how := how_to_read(suffix):
        return f"'{suffix}' files are not read; to read them: {how}"
    listed = ", ".join(each for each in SUFFIXES if each not in INDICES)
    return f"'{suffix}' is none of {listed}, nor a file that lists a set"


def how_to_read(suffix: str) -> str:
    """Say what to do so that files of a suffix are read; "": nothing helps.

    Examples
    --------
    >>> how_to_read(".jpg")
    "name them in include:, beside the others, as include: ['**', '*.jpg']"
    >>> how_to_read(".zvi")
    ''
    """
    if suffix in JPEGS:
        return f"name them in include:, beside the others, as include: ['**', '*{suffix}']"
    if suffix not in WITH_LIBRARY or suffix in SUFFIXES:
        return ""
    return f"pip install 'cellwatch[{WITH_LIBRARY[suffix][1]}]', then restart the daemon"
