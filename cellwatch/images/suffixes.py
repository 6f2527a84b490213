"""The names of image files, those that can be read and those that cannot; light to import."""

from importlib.util import find_spec

TIFFS = (".tif", ".tiff", ".btf", ".tf8", ".lsm")
ALWAYS = (*TIFFS, ".png")
# What is read when a library is there: its module, and the extra that brings it.
WITH_LIBRARY = {".nd2": ("nd2", "nd2"), ".czi": ("pylibCZIrw", "czi")}
SUFFIXES = (*ALWAYS, *(s for s, (module, _) in WITH_LIBRARY.items() if find_spec(module)))
# What microscopes and people write that is not read: it is counted, so that nobody waits in vain.
_NEVER = (
    ".lif", ".lof", ".xlef", ".oib", ".oif", ".oir", ".poir", ".vsi", ".ets",
    ".stk", ".zvi", ".ims", ".dv", ".r3d", ".sld", ".sldy", ".svs", ".ndpi", ".scn",
    ".mrxs", ".bif", ".qptiff", ".jpg", ".jpeg", ".jp2", ".gif", ".bmp", ".webp", ".h5", ".hdf5",
    ".mrc", ".nrrd", ".nii", ".dcm", ".c01", ".flex", ".liff", ".ipl", ".gel", ".nef", ".cr2",
    ".raw", ".dng", ".pic", ".avi", ".mp4",
)  # fmt: skip
LIKE_IMAGES = (*_NEVER, *(suffix for suffix in WITH_LIBRARY if suffix not in SUFFIXES))


def how_to_read(suffix: str) -> str:
    """Say what to install so that files of a suffix are read; "": nothing helps.

    Examples
    --------
    >>> how_to_read(".lif")
    ''
    """
    if suffix not in WITH_LIBRARY or suffix in SUFFIXES:
        return ""
    return f"pip install 'cellwatch[{WITH_LIBRARY[suffix][1]}]', then restart the daemon"
