"""What the watcher of a folder reported, with what was found out about the file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellwatch.config.schema import Watch
from cellwatch.daemon.inspector import Inspector
from cellwatch.files.members import WITH_MEMBERS
from cellwatch.images import sets
from cellwatch.images.aborted import is_noted
from cellwatch.images.suffixes import INDICES, LISTING, suffix_of, watched_suffixes
from cellwatch.records import ImageInfo
from cellwatch.watching.names import FileFilter, is_wanted
from cellwatch.watching.scanner import Lister
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import Event, Finished, Scanned, Unfinished


@dataclass(frozen=True, slots=True)
class Listed:
    """A finished file that may hold several images, each of which was reported before it.

    Attributes
    ----------
    sighting : Sighting
    is_apart : bool
        Whether its images have paths of their own.
    """

    sighting: Sighting
    is_apart: bool


@dataclass(frozen=True, slots=True)
class PartOf:
    """A finished file that belongs to a set, which another file lists.

    Attributes
    ----------
    sighting : Sighting
    index : Sighting
        Of the file that lists the set; of size 0 when it is not there.
    """

    sighting: Sighting
    index: Sighting


@dataclass(frozen=True, slots=True)
class FromWatcher:
    """What one folder's watcher reported, with what was found out about the file.

    Attributes
    ----------
    watch : Watch
    event : Event, Listed or PartOf
    fingerprint : str
        Of a finished file.
    info : ImageInfo or None
        Of a finished file; its `reason` says why it cannot be used. None: not looked at.
    unread : mapping of str to list of str, or None
        After a scan: files that look like images and are not read, by suffix. None: not looked for.
    """

    watch: Watch
    event: Event | Listed | PartOf
    fingerprint: str = ""
    info: ImageInfo | None = None
    unread: Mapping[str, Sequence[str]] | None = None


def looked_into(
    watched: Watch, event: Event, by: tuple[Inspector, Lister], taken: set[Path] | None = None
) -> Iterator[FromWatcher]:
    """Yield what a watcher reported, a finished file as the images in it; a scan yields nothing.

    Parameters
    ----------
    watched : Watch
    event : Event
    by : (Inspector, Lister)
        Who looks into files, and into the folder.
    taken : set of Path, or None
        Images of sets that are still incomplete, and were reported; those that are, are added.
    """
    if isinstance(event, Scanned):
        return
    if isinstance(event, Finished):
        yield from _finished(watched, event, by)
    elif isinstance(event, Unfinished):
        yield from _unfinished(watched, event, by, taken)
    else:
        yield FromWatcher(watched, event)


def _unfinished(
    watched: Watch, event: Unfinished, by: tuple[Inspector, Lister], taken: set[Path] | None
) -> Iterator[FromWatcher]:
    inspector, lister = by
    if suffix_of(event.sighting.path) in INDICES:
        # A list of a part, as each time point of a plate has: the whole list tells what there is.
        part = _part_of_set(watched, event.sighting, inspector, lister)
        if part is not None:
            yield FromWatcher(watched, part)
            return
    yield FromWatcher(watched, event)
    if event.is_given_up and watched.interrupted == "process":
        yield from _as_far_as_whole(watched, event.sighting, inspector)
    else:
        taken = set() if taken is None or event.is_given_up else taken
        yield from _complete_images(watched, event.sighting, inspector, taken)


def _finished(
    watched: Watch, event: Finished, by: tuple[Inspector, Lister]
) -> Iterator[FromWatcher]:
    inspector, lister = by
    file = watched.folder / event.sighting.path
    if (part := _part_of_set(watched, event.sighting, inspector, lister)) is not None:
        yield FromWatcher(watched, part)
        return
    images, reason = [file], ""
    if suffix_of(file.name) in WITH_MEMBERS:
        images, reason = inspector.images_in(file)
    if reason:
        yield FromWatcher(watched, event, "", ImageInfo(str(file), whole=False, reason=reason))
        return
    yield from _inspected(watched, event.sighting, images, inspector)
    if suffix_of(file.name) in WITH_MEMBERS:
        yield FromWatcher(watched, Listed(event.sighting, is_apart=images != [file]))


def _complete_images(
    watched: Watch, sighting: Sighting, inspector: Inspector, taken: set[Path]
) -> Iterator[FromWatcher]:
    # Of a set that some files are still missing of: the fields of a plate need not wait for it.
    file = watched.folder / sighting.path
    if suffix_of(file.name) in INDICES:
        images, _ = inspector.images_in(file)
        more = [image for image in images if image != file and image not in taken]
        taken.update(more)
        yield from _inspected(watched, sighting, more, inspector)


def _as_far_as_whole(
    watched: Watch, sighting: Sighting, inspector: Inspector
) -> Iterator[FromWatcher]:
    # Of a series that was aborted; what is not read with a note on that stays interrupted, as a
    # copy that was cut does.
    file = watched.folder / sighting.path
    images, _ = inspector.images_in(file, is_given_up=True)
    for report in _inspected(watched, sighting, images, inspector):
        info = report.info
        if info is not None and not info.reason and (images != [file] or is_noted(info)):
            yield report


def _inspected(
    watched: Watch, sighting: Sighting, images: Sequence[Path], inspector: Inspector
) -> Iterator[FromWatcher]:
    for image in images:
        name, info = inspector.inspect(image, watched.axes)
        seen = replace(sighting, path=image.relative_to(watched.folder).as_posix())
        yield FromWatcher(watched, Finished(seen), name, info)


def wanted_in(watched: Watch) -> FileFilter:
    """Return which files of a watched folder are taken."""
    return FileFilter(watched.include, watched.excluded(), watched_suffixes(watched.include))


def _part_of_set(
    watched: Watch, sighting: Sighting, inspector: Inspector, lister: Lister
) -> PartOf | None:
    # None also where the file that lists the set is not wanted.
    file = watched.folder / sighting.path
    index = sets.index_by_name(file)
    if index is None and suffix_of(file.name) in LISTING:
        index = inspector.index_of(file)
    if index is None or not index.is_relative_to(watched.folder):
        return None
    relative = index.relative_to(watched.folder).as_posix()
    if not is_wanted(relative, watched.include, watched.excluded()):
        return None
    seen = lister.look(watched.folder, relative, wanted_in(watched))
    if seen is None and lister.place_of(index) is not None:
        return None  # it is no file that is watched
    return PartOf(sighting, seen or Sighting(relative, 0, sighting.mtime_ns))
