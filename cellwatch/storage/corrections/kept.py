"""What is kept of a correction: the dropped bytes, and the arrays that training takes.

Each lies in a folder of its own below the state folder, named by the hash of the dropped bytes. So
training needs neither the dropped file nor the image: both may be moved away.
"""

import hashlib
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cellwatch.core.arrays import Bool, Float32, Int32
from cellwatch.errors import BadTrainingData
from cellwatch.files.atomic import flush
from cellwatch.files.publish import sync_tree

ARRAYS = "arrays.npz"
ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class KeptCorrection:
    """The arrays of a correction.

    Attributes
    ----------
    labels : (h, w) int32
        Of the plane or its crop.
    predicted : (h, w) int32
        What was there before.
    plane : (C, h, w) float32
        The channels of the image, as they came.
    limits : (C, 2) float64
        The intensities that become 0 and 1: of the whole plane, also for a crop.
    checked : (h, w) bool, or None
        The part that a person vouches for; None: all of it.
    is_empty : bool
        Whether a person confirmed that nothing is there.
    """

    labels: Int32
    predicted: Int32
    plane: Float32
    limits: np.ndarray
    checked: Bool | None
    is_empty: bool


def keep_original(source: Path, folder: Path) -> str:
    """Copy a dropped file or folder into its place; return the sha256 of its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{ORIGINAL}{source.suffix.lower()}"
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
    return content_digest(target)


def content_digest(path: Path) -> str:
    """Return a sha256 over a file, or over the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def write_kept(folder: Path, kept: KeptCorrection) -> None:
    """Write the arrays of a correction, whole or not at all, and force all that is kept to disk."""
    held = {
        "labels": kept.labels,
        "predicted": kept.predicted,
        "plane": kept.plane,
        "limits": np.asarray(kept.limits, np.float64),
        "is_empty": np.array(kept.is_empty),
    }
    if kept.checked is not None:
        held["checked"] = kept.checked
    aside = folder / f".{ARRAYS}.partial"
    with aside.open("wb") as file:
        np.savez_compressed(file, **held)  # type: ignore[arg-type]  # numpy's stubs want a bool too
    aside.replace(folder / ARRAYS)
    sync_tree(folder)
    flush(folder.parent)


def read_kept(folder: Path) -> KeptCorrection:
    """Read the arrays of a correction.

    Raises
    ------
    BadTrainingData
        When they are not there or damaged.
    """
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as held:
            return KeptCorrection(
                labels=held["labels"],
                predicted=held["predicted"],
                plane=held["plane"],
                limits=held["limits"],
                checked=held["checked"] if "checked" in held.files else None,
                is_empty=bool(held["is_empty"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zlib.error, BadZipFile) as error:
        raise BadTrainingData(f"{folder / ARRAYS} cannot be read: {error}") from error
