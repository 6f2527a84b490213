"""Is this array a label image of the right shape? Numbers put in order, or a reason why not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected

from cellwatch.core.arrays import Int32
from cellwatch.core.flows import bounding_boxes
from cellwatch.core.labels import fill_holes
from cellwatch.errors import RejectedCorrection

BLACK_AND_WHITE = "its only values are black and white"  # a note, on which labels are refused
WHITE = (255, 65535)
SPECK = 9  # px; a smaller piece is a slip of the brush
COLOURS = (3, 4)
BINARY_PARTS = 4  # so many pieces of one number, specks too: no single ROI
SCATTERED = 3  # specks for each ROI, of most ROIs: intensities, not labels
FEW_SPECKS = 100  # that a person's brush may leave


def checked_shape(declared: Sequence[int], shape: tuple[int, int]) -> None:
    """Refuse an array whose declared shape is not the expected one, before it is decoded.

    Raises
    ------
    RejectedCorrection
    """
    declared = [int(n) for n in declared]
    without = [n for n in declared if n != 1]
    if without == [n for n in shape if n != 1] or declared == list(shape):
        return
    size = " x ".join(str(n) for n in declared)
    if len(without) == 3 and (without[-1] in COLOURS or without[0] in COLOURS):
        raise RejectedCorrection(
            f"it is a colour picture ({size})",
            "save the label image itself, one number for each ROI, not a picture of it",
        )
    if len(without) > 2:
        raise RejectedCorrection(
            f"it has shape {size}, and one plane of {shape[0]} x {shape[1]} is expected",
            "save each plane in a file of its own: NAME__p000_t000_z05_masks.tif",
        )
    raise RejectedCorrection(
        f"it has shape {size}, its image (or the crop that its name says) has "
        f"{shape[0]} x {shape[1]}",
        "save it at the size of the image; a crop is named after its place: NAME__y0x512h512w512",
    )


def instances(array: NDArray[np.generic], shape: tuple[int, int]) -> tuple[Int32, list[str]]:
    """Return a label image with labels 1..n, and what was put right.

    Parameters
    ----------
    array : of the expected shape, or with further axes of length one
    shape : (int, int), px

    Raises
    ------
    RejectedCorrection
        When it holds floats, negative numbers, or the intensities of an image.
    """
    checked_shape(array.shape, shape)
    if array.dtype.kind not in "biu":
        raise RejectedCorrection(
            f"it holds {array.dtype}, and label images hold whole numbers",
            "save it as 16-bit or 32-bit integers",
        )
    labels = array.reshape(shape)
    if labels.size and labels.dtype.kind == "i" and labels.min() < 0:
        raise RejectedCorrection(
            f"it holds negative labels (down to {labels.min()})", "give the background 0"
        )
    values, numbers = np.unique(
        np.append(labels.ravel(), np.zeros(1, labels.dtype)), return_inverse=True
    )
    renumbered = np.ascontiguousarray(numbers[:-1].reshape(shape), np.int32)
    notes = []
    if len(values) == 2 and (array.dtype.kind == "b" or int(values[1]) in WHITE):
        notes.append(BLACK_AND_WHITE)
    elif len(values) > 1 and int(values[-1]) != len(values) - 1:
        notes.append(f"{len(values) - 1} labels up to {values[-1]} were renumbered without gaps")
    return renumbered, notes + _oddities(renumbered)


def refuse_binary(labels: Int32, least: int = 2, *, is_two_toned: bool = False) -> None:
    """Refuse ROIs that all have one number: a mask that is black and white.

    Parameters
    ----------
    labels : (Y, X) int32
    least : int
        So many pieces larger than a speck are no single ROI.
    is_two_toned : bool
        Whether the file held black and white alone, so that touching cells are one piece.

    Raises
    ------
    RejectedCorrection
    """
    if labels.max(initial=0) != 1:
        return
    pieces, n_pieces = connected(labels > 0)
    n_cells = int((np.bincount(pieces.ravel())[1:] >= SPECK).sum())
    if n_cells >= least or (n_pieces >= BINARY_PARTS and least <= 2):
        raise RejectedCorrection(
            f"it is black and white: {n_pieces} pieces, all of one number",
            "give every ROI a number of its own (in Fiji: Process > Binary > Connected "
            "Components; in napari: a Labels layer)",
        )
    if is_two_toned:
        raise RejectedCorrection(
            "it is black and white, in which cells that touch cannot be told apart",
            "give every ROI a number of its own (in napari: a Labels layer; in Fiji, where cells "
            "touch: Process > Binary > Watershed, then Connected Components); if it is a single "
            "one, the number 1",
        )


def _oddities(labels: Int32) -> list[str]:
    """Count what a person may want to look at: holes, and ROIs of several pieces.

    Raises
    ------
    RejectedCorrection
        When most numbers are scattered over many specks.
    """
    notes = []
    in_pieces = specks = 0
    for number, (y0, y1, x0, x1) in enumerate(bounding_boxes(labels), start=1):
        window = labels[y0:y1, x0:x1] == number
        pieces, n_pieces = connected(window, np.ones((3, 3)))
        if n_pieces > 1:
            in_pieces += 1
            specks += int((np.bincount(pieces.ravel())[1:] < SPECK).sum())
    n_rois = int(labels.max(initial=0))
    if 2 * in_pieces > n_rois and specks > max(FEW_SPECKS, SCATTERED * n_rois):
        raise RejectedCorrection(
            f"it is not a label image: {in_pieces} of its {n_rois} numbers are scattered over "
            f"{specks} specks, as the intensities of a picture are",
            "save the labels (one number for each ROI), not the image",
        )
    if in_pieces:
        notes.append(f"ROIs in several pieces: {in_pieces}, specks among the pieces: {specks}")
    holes = int((fill_holes(labels) != labels).sum())
    if holes:
        notes.append(f"{holes} px of holes inside ROIs")
    return notes
