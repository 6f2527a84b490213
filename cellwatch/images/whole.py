"""Is this image whole, in all of its files? Answered without decoding pixels."""

from pathlib import Path

from cellwatch.files.members import file_of
from cellwatch.images.structure import why_file_not_whole
from cellwatch.images.suffixes import INDICES, LISTING, ZARRS, suffix_of


def why_not_whole(path: Path) -> str:
    """Say why an image is not complete.

    Parameters
    ----------
    path : Path
        An image's; of a format that is not known it is taken for whole.

    Returns
    -------
    str
        "" when the structure is complete; else a reason for people.
    """
    file = file_of(path)
    if suffix_of(file.name) in ZARRS:
        from cellwatch.images import ome_zarr  # zarr, which other files need not

        return ome_zarr.why_not_whole(file)
    if suffix_of(file.name) in INDICES:
        from cellwatch.images import sets

        return sets.why_not_whole(path)
    if reason := why_file_not_whole(file):
        return reason
    if suffix_of(file.name) in LISTING:
        return _why_set_not_whole(file)
    return _why_pixels_not_whole(file) if suffix_of(file.name) == ".vsi" else ""


def _why_set_not_whole(file: Path) -> str:
    # It may be one of several files. A part of another set is whole by itself: what lists it tells
    # whether the set is.
    from cellwatch.images import sets

    if not sets.may_be_of_set(file):
        return ""
    index = sets.index_of(file) if sets.index_by_name(file) is None else None
    if index == file:
        return sets.why_not_whole(file)
    if index is None or index.exists():
        return ""
    return f"it belongs to a set, and {index.name}, which lists its files, is not here"


def _why_pixels_not_whole(file: Path) -> str:
    # A VSI is an index: its pixels lie in files beside it.
    parts = sorted(file.with_name(f"_{file.stem}_").glob("*/*.ets"))
    if not parts:
        return f"the folder _{file.stem}_ with its pixels is not beside it"
    return next((reason for part in parts if (reason := why_file_not_whole(part))), "")
