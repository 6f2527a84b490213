"""Public sets of annotated images: where they are, what they allow, and how they become pairs.

Nothing is fetched unless a person asks. A file's sha256 is recorded when it first comes, and
another one is refused ever after.
"""

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import label

from cellwatch.errors import BadTrainingData, UsageError
from cellwatch.storage.datasets.convert import MadePair, pairs_from_coco, write_masks
from cellwatch.zoo.published import check_pin, fetch, pin

LARGEST_MEMBER = 1 << 30  # bytes of one file in an archive, unpacked
OnBytes = Callable[[int, int], None]
Convert = Callable[[Sequence[Path], Path], list[MadePair]]


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One public set.

    Attributes
    ----------
    about, licence, cite : str
    files : tuple of str
        Addresses, in the order that `convert` takes them in.
    convert : callable
        Makes a folder of pairs of the files.
    how : str
        How a person gets the files, where nobody may fetch them without an account; "": they can
        be fetched.
    """

    about: str
    licence: str
    cite: str
    files: tuple[str, ...]
    convert: Convert
    how: str = ""


def fetch_set(
    name: str,
    out: Path,
    downloads: Path,
    brought: Sequence[Path] = (),
    *,
    mirror: str = "",
    on_bytes: OnBytes = lambda _done, _total: None,
) -> list[MadePair]:
    """Fetch a public set, or take its files as they were brought, and write it as pairs.

    Parameters
    ----------
    name : str
        In `SETS`.
    out : Path
        A folder for the pairs; empty, or not there yet.
    downloads : Path
        Where files come, are kept until they are converted, and are pinned.
    brought : sequence of Path
        The set's files, in its order; none: they are fetched.
    mirror : str
        An address to use instead of that of each file's folder; "": the set's own.
    on_bytes : callable
        Told how many bytes came, and of how many.

    Raises
    ------
    UsageError
        When there is no such set, or the files do not fit it.
    DownloadError
        When a file cannot be fetched, or is another one than came first.
    BadTrainingData
        When a file is not what the set should hold.
    """
    listed = set_named(name)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; name a new folder")
    if not brought and listed.how:
        raise UsageError(f"'{name}' cannot be fetched without an account: {listed.how}")
    if brought and len(brought) != len(listed.files):
        wanted = ", ".join(PurePosixPath(file).name for file in listed.files)
        raise UsageError(f"'{name}' is made of {wanted}; give --from-file for each, in this order")
    if missing := [path for path in brought if not path.is_file()]:
        raise UsageError(f"there is no file {missing[0]}")
    paths = list(brought) or [
        fetch(PurePosixPath(file).name, downloads / name, mirror or _folder_of(file), on_bytes)
        for file in listed.files
    ]
    for file, path in zip(listed.files, paths, strict=True):
        check_pin(PurePosixPath(file).name, path, downloads / name)
    made = listed.convert(paths, out)
    for file, path in zip(listed.files, paths, strict=True):
        pin(PurePosixPath(file).name, path, downloads / name)
        if not brought:
            path.unlink()
    return made


def set_named(name: str) -> PublicSet:
    """Return a public set.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in SETS:
        raise UsageError(f"there is no public set '{name}'; there are {', '.join(SETS)}")
    return SETS[name]


def _folder_of(address: str) -> str:
    return address.rpartition("/")[0]


def masks_in_files(files: Sequence[Path], out: Path) -> list[MadePair]:
    """Make pairs of an archive with ID/images/ID.png and ID/masks/*.png, one mask for each ROI."""
    made = []
    with _archive(files[0]) as archive:
        found: dict[str, dict[str, list[str]]] = {}
        for member in _members(archive, (".png", ".tif", ".tiff")):
            parts = PurePosixPath(member).parts
            if len(parts) >= 3 and parts[-2] in ("images", "masks"):
                kinds = found.setdefault(parts[-3], {"images": [], "masks": []})
                kinds[parts[-2]].append(member)
        for name, kinds in sorted(found.items()):
            if len(kinds["images"]) != 1 or not kinds["masks"]:
                raise BadTrainingData(f"{files[0]}: '{name}' is not an image with its masks")
            image = _pixels(archive, kinds["images"][0])
            labels = np.zeros(image.shape[:2], np.int32)
            for number, member in enumerate(sorted(kinds["masks"]), start=1):
                mask = _pixels(archive, member)
                mask = mask if mask.ndim == 2 else mask[..., 0]
                if mask.shape != labels.shape:
                    raise BadTrainingData(f"{files[0]}: {member} is not as large as its image")
                labels[(mask > 0) & (labels == 0)] = number
            made.append(_write(out, name, image, labels))
    return made


def images_and_masks(files: Sequence[Path], out: Path) -> list[MadePair]:
    """Make pairs of two archives, of images and of masks whose touching ROIs differ in value."""
    made = []
    with _archive(files[0]) as images, _archive(files[1]) as masks:
        of = {PurePosixPath(m).stem: m for m in _members(masks, (".png", ".tif"))}
        for member in sorted(_members(images, (".png", ".tif"))):
            name = PurePosixPath(member).stem
            if name not in of:
                continue  # not annotated
            mask = _pixels(masks, of[name])
            values = mask if mask.ndim == 2 else mask[..., 0]
            made.append(_write(out, name, _pixels(images, member), _apart(values)))
    if not made:
        raise BadTrainingData(f"{files[0]} and {files[1]} have no names in common")
    return made


def coco_and_images(files: Sequence[Path], out: Path) -> list[MadePair]:
    """Make pairs of an archive of images and the COCO file that names some of them."""
    with tempfile.TemporaryDirectory(prefix="cellwatch-") as scratch, _archive(files[0]) as archive:
        for member in _members(archive, (".png", ".tif", ".tiff", ".jpg")):
            # The last part of a name alone: nothing leads out of the folder.
            Path(scratch, PurePosixPath(member).name).write_bytes(archive.read(member))
        return pairs_from_coco(files[1], Path(scratch), out)


def arrays_of_tissue(files: Sequence[Path], out: Path) -> list[MadePair]:
    """Make pairs of TissueNet's arrays: X of (nucleus, membrane), y of (whole cell, nucleus)."""
    made = []
    try:
        with np.load(files[0], allow_pickle=False) as held:
            pixels, truth = held["X"], held["y"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadTrainingData(f"{files[0]} holds no arrays X and y: {error}") from error
    if pixels.ndim != 4 or pixels.shape[-1] != 2 or truth.shape[:3] != pixels.shape[:3]:
        raise BadTrainingData(f"{files[0]}: X {pixels.shape} and y {truth.shape} do not fit")
    for number, (image, labels) in enumerate(zip(pixels, truth, strict=True)):
        planes = np.stack([image[..., 1], image[..., 0]]).astype(np.float32)  # cell, nucleus
        made.append(_write(out, f"{number:05d}", planes, labels[..., 0].astype(np.int32)))
    return made


def _apart(values: NDArray[Any]) -> NDArray[np.int32]:
    labels, count = np.zeros(values.shape, np.int32), 0
    for value in np.unique(values[values != 0]):
        pieces, n = label(values == value)
        labels[pieces > 0] = pieces[pieces > 0] + count
        count += n
    return labels


def _write(out: Path, name: str, image: NDArray[Any], labels: NDArray[np.int32]) -> MadePair:
    out.mkdir(parents=True, exist_ok=True)
    numbers, flat = np.unique(labels, return_inverse=True)
    renumbered = flat.reshape(labels.shape).astype(np.int32)
    if 0 not in numbers:
        renumbered += 1
    is_colour = image.ndim == 3 and image.shape[-1] in (3, 4)
    if (
        is_colour
        and (image[..., 0] == image[..., 1]).all()
        and (image[..., 1] == image[..., 2]).all()
    ):
        image, is_colour = image[..., 0], False  # grey, written as colours
    if is_colour:
        image = image[..., :3]
    kind = "rgb" if is_colour else "minisblack"
    are_channels = image.ndim == 3 and not is_colour
    tifffile.imwrite(
        out / f"{name}_img.tif",
        image,
        photometric=kind,
        compression="zlib",
        ome=are_channels or None,
        metadata={"axes": "CYX"} if are_channels else None,
    )
    write_masks(out / f"{name}_masks.tif", renumbered)
    return MadePair(name, int(renumbered.max(initial=0)))


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadTrainingData(f"{path} is not a ZIP archive: {error}") from error


def _members(archive: zipfile.ZipFile, suffixes: tuple[str, ...]) -> Iterator[str]:
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        is_aside = "__MACOSX" in path.parts or path.name.startswith(".")
        if info.is_dir() or is_aside or path.suffix.lower() not in suffixes:
            continue
        if info.file_size > LARGEST_MEMBER:
            raise BadTrainingData(f"{archive.filename}: {info.filename} is larger than 1 GiB")
        yield info.filename


def _pixels(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    data = BytesIO(archive.read(member))
    try:
        if member.lower().endswith((".tif", ".tiff")):
            return np.asarray(tifffile.imread(data))
        return np.asarray(Pillow.open(data))
    except Exception as error:
        # A damaged file may make its reader raise anything.
        raise BadTrainingData(f"{archive.filename}: {member} cannot be read: {error}") from error


_BBBC = "https://data.broadinstitute.org/bbbc"
_LIVECELL = "https://livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021"
SETS: Mapping[str, PublicSet] = MappingProxyType(
    {
        "bbbc038": PublicSet(
            "nuclei of many laboratories, fluorescence and stained tissue (Data Science Bowl 2018)",
            "CC0",
            "Caicedo et al. 2019, Nat Methods 16:1247",
            (f"{_BBBC}/BBBC038/stage1_train.zip",),
            masks_in_files,
        ),
        "bbbc039": PublicSet(
            "U2OS nuclei of a chemical screen, fluorescence",
            "CC0",
            "Ljosa et al. 2012, Nat Methods 9:637; Caicedo et al. 2019, Cytometry A 95:952",
            (f"{_BBBC}/BBBC039/images.zip", f"{_BBBC}/BBBC039/masks.zip"),
            images_and_masks,
        ),
        "livecell": PublicSet(
            "eight cell lines in phase contrast, its training images",
            "CC BY-NC 4.0 (not for commerce, and so are networks trained on it)",
            "Edlund et al. 2021, Nat Methods 18:1038",
            (
                f"{_LIVECELL}/images.zip",
                f"{_LIVECELL}/annotations/LIVECell/livecell_coco_train.json",
            ),
            coco_and_images,
        ),
        "tissuenet": PublicSet(
            "whole cells in tissue, membrane and nucleus channels",
            "TissueNet's own, not for commerce",
            "Greenwald et al. 2022, Nat Biotechnol 40:555",
            ("tissuenet_train.npz",),
            arrays_of_tissue,
            how="register at datasets.deepcell.org, fetch it there, then --from-file "
            "tissuenet_v1.1_train.npz",
        ),
    }
)
