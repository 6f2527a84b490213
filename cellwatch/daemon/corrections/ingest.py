"""A dropped file becomes a kept correction: read, checked, compared with the prediction."""

import errno
import resource
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.core.arrays import Bool, Float32, Int32
from cellwatch.core.channels import choose_channels, take_channels
from cellwatch.core.image import percentiles
from cellwatch.core.labels import relabel
from cellwatch.core.matching import edits, hits, match
from cellwatch.core.parameters import Normalisation
from cellwatch.daemon.corrections.doubts import FEW_ROIS, doubt_of, doubts_of
from cellwatch.daemon.corrections.match_result import TAKE_NEW, overwritten
from cellwatch.errors import (
    BadTrainingData,
    CellwatchError,
    RejectedCorrection,
    UnreadableImage,
)
from cellwatch.files.digests import file_state
from cellwatch.files.members import file_of
from cellwatch.images import (
    OpenImage,
    Planes,
    open_image,
    pixels_digest,
    plane_digest,
    planes_of,
)
from cellwatch.images.identity import content_sha256
from cellwatch.images.structure import why_file_not_whole
from cellwatch.records import CorrectionAsked, CorrectionRead, Crop
from cellwatch.storage.corrections.export import read_tiff
from cellwatch.storage.corrections.formats.planes import PlaneWanted
from cellwatch.storage.corrections.formats.reading import ReadLabels, read_labels, refuse_large
from cellwatch.storage.corrections.kept import KeptCorrection, keep_original, read_kept, write_kept
from cellwatch.storage.masks.store import read_plane, read_provenance

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def read_correction(asked: CorrectionAsked) -> CorrectionRead:
    """Read a dropped file and keep what training needs; what is wrong with it comes back as text.

    Parameters
    ----------
    asked : CorrectionAsked

    Returns
    -------
    CorrectionRead
        With a reason when it is rejected; nothing is kept then but the original.
    """
    found = _read_dropped(asked)
    if found.is_blocked:  # the next try keeps it in a folder of its own
        shutil.rmtree(asked.keep, ignore_errors=True)
    return found


def _read_dropped(asked: CorrectionAsked) -> CorrectionRead:
    if not Path(asked.path).exists():
        return CorrectionRead(
            reason="the file was removed before it was read",
            remedy="drop it again",
            is_blocked=True,
        )
    try:
        refuse_large(Path(asked.path))
        if reason := why_file_not_whole(Path(asked.path)):
            raise RejectedCorrection(f"the file is not whole: {reason}", "save it again")  # noqa: TRY301
        sha256 = keep_original(Path(asked.path), Path(asked.keep))
        return replace(_read(asked), sha256=sha256)
    except RejectedCorrection as error:
        return CorrectionRead(reason=error.reason, remedy=error.remedy)
    except OSError as error:
        return _not_ours(asked, error)
    except MemoryError:
        return CorrectionRead(
            reason="it needs more memory than a correction may take",
            remedy="save a crop, or a compressed label TIFF",
        )
    except CellwatchError as error:
        return CorrectionRead(
            reason=f"its image or prediction cannot be read now: {error}",
            remedy="put the image and its mask store back; cellwatch tries again every minute",
            is_blocked=True,
        )


def _not_ours(asked: CorrectionAsked, error: OSError) -> CorrectionRead:
    # What the operating system refuses: only a file without read permission needs the person.
    if isinstance(error, PermissionError) and error.filename == asked.path:
        return CorrectionRead(
            reason="cellwatch may not read the file (permission denied)",
            remedy="make it readable for all (chmod a+r) and drop it again",
        )
    if error.errno in NO_ROOM or not Path(asked.path).exists():
        return CorrectionRead(
            reason=f"it cannot be copied into the station now: {error.strerror}",
            remedy="nothing to do: cellwatch tries again every minute",
            is_blocked=True,
        )
    return CorrectionRead(reason=f"it cannot be read: {error}", remedy="save it again")


def _predicted(asked: CorrectionAsked) -> Int32:
    plane_at = (asked.plane.position, asked.plane.t, asked.plane.z)
    try:
        return read_plane(Path(asked.store), asked.target, plane_at)
    except IndexError as error:
        raise RejectedCorrection(
            f"the image has {error}, and the name says {plane_at}",
            "count from 0: NAME__p000_t000_z05_masks.tif",
        ) from error


def _lift_limit() -> None:
    # The dropped file has been decoded; the image is one that the worker has read before.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _read(asked: CorrectionAsked) -> CorrectionRead:
    whole = _predicted(asked)
    crop = asked.crop or Crop(0, 0, whole.shape[0], whole.shape[1])
    if crop.y + crop.height > whole.shape[0] or crop.x + crop.width > whole.shape[1]:
        raise RejectedCorrection(
            f"the crop reaches to row {crop.y + crop.height} and column {crop.x + crop.width}, "
            f"the image has {whole.shape[0]} x {whole.shape[1]} px",
            "leave the name as it was handed out",
        )
    found = _labels(asked, (crop.height, crop.width))
    if asked.kind == "region":
        return _keep_region(asked, found)
    predicted = relabel(np.ascontiguousarray(whole[crop.window], np.int32))
    checked = _checked(asked, (crop.height, crop.width))
    labels, before = (_within(array, checked) for array in (found.labels, predicted))
    _refuse_emptiness(asked, labels)
    _lift_limit()
    with _image(asked) as image:
        plane, limits, key = _plane(image, asked)
    kept = KeptCorrection(
        labels=found.labels,
        predicted=predicted,
        plane=plane[(slice(None), *crop.window)],
        limits=limits,
        checked=checked,
        is_empty=asked.is_empty,
    )
    was_found, false_positives = hits(labels, before)
    given, notes = _given(asked, checked, before)
    done = edits(given, labels)
    if doubt := doubt_of(asked, found.labels, kept, was_found):
        return replace(doubt, format=found.format)
    write_kept(Path(asked.keep), kept)
    notes = (*found.notes, *notes, *doubts_of(asked, labels, before, was_found, done))
    try:
        agreement = _agreement(asked, found.labels, checked)
    except BadTrainingData as error:  # somebody else's file is at fault
        agreement, notes = None, (*notes, f"the other look cannot be compared: {error}")
    if agreement == 0 and labels.max(initial=0) >= FEW_ROIS:
        notes = (*notes, "it has nothing in common with the other look: is it of another image?")
    if checked is not None:
        share = checked.mean()
        notes = (*notes, f"only the checked region is used ({share:.0%} of the plane)")
    return CorrectionRead(
        format=found.format,
        content_key=key,
        is_in_region=checked is not None,
        rois=int(labels.max(initial=0)),
        predicted=int(before.max(initial=0)),
        added=done.added,
        removed=done.removed,
        changed=done.changed,
        true_positives=int(was_found.sum()),
        false_positives=false_positives,
        false_negatives=int(was_found.size - was_found.sum()),
        agreement=agreement,
        notes=notes,
    )


def _image(asked: CorrectionAsked) -> OpenImage:
    # What was segmented, not what is being written over it: labels are kept with their own pixels.
    path = Path(asked.image)
    before = file_state(file_of(path))
    is_known = before == (asked.image_size, asked.image_mtime_ns)
    if not is_known and asked.image_sha256 and content_sha256(path) != asked.image_sha256:
        raise UnreadableImage(path, "the file is being rewritten and is not segmented yet")
    with ExitStack() as stack:
        image = stack.enter_context(open_image(path, asked.axes))
        if file_state(file_of(path)) != before:
            raise UnreadableImage(path, "the file was changed while it was read")
        at = (asked.plane.position, asked.plane.t, asked.plane.z)
        if asked.plane_sha256 and plane_digest(image.plane(*at)) != asked.plane_sha256:
            raise RejectedCorrection(overwritten(asked.image), TAKE_NEW)
        stack.pop_all()
    return image


def _given(
    asked: CorrectionAsked, checked: Bool | None, before: Int32
) -> tuple[Int32, tuple[str, ...]]:
    # What the person began from: in a session that is not the prediction in the mask store.
    if not asked.handed_out:
        return before, ()
    if not Path(asked.handed_out).exists():
        gone = f"{asked.handed_out} is gone: edits are against the mask store, not what was given"
        return before, (gone,)
    labels = read_tiff(Path(asked.handed_out))
    note = "added, removed and changed are against the labels that the session handed out"
    return _within(relabel(np.ascontiguousarray(labels)), checked), (note,)


def _labels(asked: CorrectionAsked, shape: tuple[int, int]) -> ReadLabels:
    is_region = asked.kind == "region"
    wanted = None
    if not is_region:
        n_t, n_z = _lengths(asked)
        wanted = PlaneWanted(asked.plane.t, asked.plane.z, n_t, n_z)
    found = read_labels(Path(asked.path), shape, asked.target, is_region=is_region, plane=wanted)
    if not asked.is_mirrored:
        return found
    straight = np.ascontiguousarray(found.labels[::-1, ::-1])
    return ReadLabels(straight, found.format, (*found.notes, "it was handed out mirrored"))


def _lengths(asked: CorrectionAsked) -> tuple[int, int]:
    shape = read_provenance(Path(asked.store))["targets"][asked.target]["shape"]
    return int(shape[1]), int(shape[2])


def _keep_region(asked: CorrectionAsked, found: ReadLabels) -> CorrectionRead:
    if not found.labels.any():
        raise RejectedCorrection("the region is empty", "mark what you checked with 1, the rest 0")
    blank = np.zeros_like(found.labels)
    kept = KeptCorrection(
        found.labels, blank, blank[None].astype(np.float32), np.zeros((1, 2)), None, is_empty=False
    )
    write_kept(Path(asked.keep), kept)
    part = f"{(found.labels > 0).mean():.0%} of the plane was checked"
    return CorrectionRead(format=found.format, notes=(part,))


def _checked(asked: CorrectionAsked, shape: tuple[int, int]) -> Bool | None:
    if not asked.region:
        return None
    try:
        region = read_kept(Path(asked.region)).labels > 0
    except BadTrainingData as error:
        raise RejectedCorrection(
            f"its region, as it was kept, is damaged: {error}", "save the region again, then this"
        ) from error
    if region.shape != shape:
        raise RejectedCorrection(
            f"its region has {region.shape[0]} x {region.shape[1]} px, "
            f"it has {shape[0]} x {shape[1]}",
            "mark the region on the same plane or crop",
        )
    return region


def _within(labels: Int32, checked: Bool | None) -> Int32:
    return labels if checked is None else relabel(np.where(checked, labels, np.int32(0)))


def _agreement(asked: CorrectionAsked, labels: Int32, checked: Bool | None) -> float | None:
    # Where both looked: beyond that one of them says nothing.
    if not asked.other:
        return None
    other = read_kept(Path(asked.other))
    if other.labels.shape != labels.shape:
        return None
    parts = [part for part in (checked, other.checked) if part is not None]
    shared = np.logical_and.reduce(parts) if parts else None
    first, second = (_within(each, shared) for each in (other.labels, labels))
    return match(first, second, (0.5,))[0].average_precision


def _refuse_emptiness(asked: CorrectionAsked, labels: Int32) -> None:
    if asked.is_empty and labels.any():
        raise RejectedCorrection(
            "its name says that nothing is there, but it holds ROIs",
            "end the name in _masks, or clear the label image",
        )
    if not asked.is_empty and not labels.any():
        raise RejectedCorrection(
            "it holds no ROI",
            "if nothing is there, end the name in _empty (NAME_empty.tif) and drop it again",
        )


def _plane(image: Planes, asked: CorrectionAsked) -> tuple[Float32, np.ndarray, str]:
    names = image.info.channels or ("",) * image.shape[3]
    chosen = choose_channels(
        asked.channels.cell, asked.channels.nucleus, names, is_rgb=image.is_rgb
    )
    index = (asked.plane.position, asked.plane.t, asked.plane.z)
    plane = take_channels(image.plane(*index), chosen)
    # As the station segments: what is learned is to be of use there.
    rule = Normalisation(**asked.normalise)
    seen = plane
    if rule.over == "acquisition":
        seen = np.stack([take_channels(each, chosen) for each in planes_of(image)], axis=1)
    limits = np.array(percentiles(seen, rule), np.float64)
    return plane, limits, pixels_digest(image)
