"""Whose correction is this? Name and folder of a dropped file lead to one acquisition, or none."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import subfolders
from cellwatch.daemon.corrections.match_result import (
    LISTED,
    TAKE_NEW,
    Matched,
    Unmatched,
    cut_short,
    overwritten,
)
from cellwatch.files.stems import name_key, stem_key
from cellwatch.records import Acquisition, Checkout, PlaneIndex
from cellwatch.storage.corrections.names import CorrectionName, DroppedName
from cellwatch.storage.ledger import checkouts, dropped_files, lookup
from cellwatch.storage.ledger.acquisitions import extent
from cellwatch.storage.ledger.annotations import handed_out_digests
from cellwatch.storage.ledger.path_text import path_text, text_path


def match_drop(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched:
    """Find what a dropped file is a correction of, and what was handed out for that part."""
    matched = _match_drop(db, config, relative, name)
    if isinstance(matched, Unmatched):
        return matched
    return replace(
        matched, given_sha256=handed_out_digests(db, matched.on(dropped_files.Drop("", 0, 0), ""))
    )


def _match_drop(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched:
    """Find what a dropped file is a correction of.

    What was taken out says so by its short id, wherever it lies; a name without one is matched by
    its stem and its folder. So is one whose id is not known, as after the loss of a ledger, and
    the answer says it.

    Parameters
    ----------
    db : sqlite3.Connection
        The ledger, for reading.
    config : Config
    relative : Path
        Of the file, below the corrections folder.
    name : DroppedName
    """
    if name.short_id and (checkout := checkouts.with_short_id(db, name.short_id)):
        return _as_handed_out(db, config, checkout, _drawn_by(db, config, relative, name, checkout))
    return (
        _by_name(db, config, relative, name)
        or _by_earlier_checkout(db, config, relative, name)
        or _by_name_without_id(db, config, relative, name)
        or _unknown(db, name)
    )


def _by_name(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched | None:
    watched, elsewhere = _watched(config, relative.parent, name), None
    for reading in name.readings:
        rows = _acquisitions(db, config, reading.stem)
        if not rows:
            continue
        here = [row for row in rows if subfolders.lies_in(row, relative.parent)]
        if not here and watched:
            here = [row for row in rows if subfolders.lies_below(row, relative.parent)]
            if not here:
                elsewhere = elsewhere or _not_in(watched, reading.stem, rows[0])
                continue
        found = here or rows
        note = ""
        if len(found) > 1:
            found = _handed_out(db, found, name, path_text(str(relative)))
            if len(found) != 1:
                return _ambiguous(reading.stem, here or rows)
            note = f"of {len(here or rows)} images of this name it is the one that was handed out"
        annotator = reading.annotator or ("" if here else subfolders.who(relative.parent, name))
        said = replace(_with_plane(db, found[0], reading, name), annotator=annotator)
        matched = _matched(db, config, found[0], said)
        matched = _with_checkout(db, found[0], matched, name)
        return replace(matched, note=note) if isinstance(matched, Matched) else matched
    return elsewhere


def _by_earlier_checkout(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched | None:
    # Taken out before there were ids: a second look, or one of several images of one name.
    watched = _watched(config, relative.parent, name)
    for reading in name.readings:
        checkout = checkouts.latest(db, reading.stem)
        if checkout is not None:
            by = reading.annotator or ("" if watched else subfolders.who(relative.parent, name))
            return _as_handed_out(db, config, checkout, by)
    return None


def _by_name_without_id(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched | None:
    if not name.short_id:
        return None
    found = _by_name(db, config, relative, replace(name, readings=name.without_id))
    if not isinstance(found, Matched):
        return found
    note = f"{_unknown_id(name)}, so it was matched by its name"
    return replace(found, note=f"{note}; {found.note}" if found.note else note)


def _unknown_id(name: DroppedName) -> str:
    return f"nothing was taken out of this station as ~{name.short_id}"


def _unknown(db: sqlite3.Connection, name: DroppedName) -> Unmatched:
    readings = [*name.readings, *name.without_id]
    stems = ", ".join(f"'{stem}'" for stem in dict.fromkeys(each.stem for each in readings))
    near = _alike(db, readings[-1].stem)
    no_checkout = f", and {_unknown_id(name)}" if name.short_id else ""
    return Unmatched(f"no image named {stems} is known yet{near}{no_checkout}", is_waiting=True)


def _drawn_by(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName, checkout: Checkout
) -> str:
    row = lookup.acquisition(db, checkout.acquisition_id)
    # The folder of a checkout, or one of images, whichever, names nobody.
    folder, by = relative.parent, subfolders.who(relative.parent, name)
    says_where = (
        _watched(config, folder, name)
        or subfolders.lies_in(row, folder)
        or f"~{checkout.short_id}" in by.lower()
        or (by and lookup.is_folder_of_images(db, by))
    )
    return name.annotator or ("" if says_where else by)


def _matched(
    db: sqlite3.Connection, config: Config, row: Acquisition, name: CorrectionName
) -> Matched | Unmatched:
    watched = next(w for w in config.watch if w.name == row.watch)
    names = [target.name for target in watched.targets()]
    if name.target and name.target not in names:
        return Unmatched(
            f"'{row.path}' has no target '{name.target}'{cut_short(name.target)}",
            f"its targets are {', '.join(names)}",
        )
    if not name.target and len(names) > 1:
        return Unmatched(
            f"'{row.path}' has the targets {', '.join(names)}, and the name says none",
            f"name it {name.stem}__{names[0]}_masks.tif",
        )
    target = next(t for t in watched.targets() if t.name == (name.target or names[0]))
    if lookup.target_state(db, row.id, target.name) != "done":
        why = f"its image is not segmented yet ({row.state}"
        return Unmatched(f"{why}{': ' + row.reason if row.reason else ''})", is_waiting=True)
    if name.plane is None and (row.planes or 1) > 1:
        return Unmatched(
            f"'{row.path}' has {row.planes} planes, and the name says none",
            f"name it {name.stem}__p000_t000_z00_masks.tif, counted from 0",
        )
    return Matched(
        acquisition_id=row.id,
        image=text_path(row.path),
        axes=watched.axes,
        store=row.store or "",
        target=target.name,
        group=watched.group_of(target),
        annotator=name_key(name.annotator),
        channels=target.choice(),
        normalise=target.normalise,
        plane=name.plane or PlaneIndex(),
        crop=name.crop,
        checkout_id=None,
        is_mirrored=False,
        content={
            "image_size": row.size,
            "image_mtime_ns": row.mtime_ns,
            "image_sha256": row.content_sha256 or "",
        },
    )


def _handed_out(
    db: sqlite3.Connection, rows: list[Acquisition], name: DroppedName, file: str
) -> list[Acquisition]:
    # Those that were taken out under just this name, when it was no other's yet. One that came back
    # as another file, and was taken, is done with: this file may mean its namesake.
    keys = checkouts.handed_out_as(db, [r.stem for r in name.readings], name.kind, file)
    return [row for row in rows if row.id in keys]


def _with_checkout(
    db: sqlite3.Connection, row: Acquisition, matched: Matched | Unmatched, name: DroppedName
) -> Matched | Unmatched:
    # The latest one of this very part, else of this plane; what was handed out of other planes says
    # nothing of this one.
    if isinstance(matched, Unmatched):
        return matched
    ours = (matched.target, matched.plane)
    of_plane = [each for each in _checkouts(db, row, name) if (each.target, each.plane) == ours]
    of_part = [each for each in of_plane if each.crop == matched.crop]
    checkout = next(iter(of_part or of_plane), None)
    if checkout is None:
        return matched
    if checkout.acquisition_id != matched.acquisition_id:
        if not (of_part and _may_hold(db, row, checkout)):
            return Unmatched(overwritten(row.path), TAKE_NEW)
        matched = replace(matched, plane_sha256=checkout.plane_sha256 or "")
    if of_part:
        return replace(matched, checkout_id=checkout.id, handed_out=checkout.handed_out or "")
    return matched


def _with_plane(
    db: sqlite3.Connection, row: Acquisition, reading: CorrectionName, name: DroppedName
) -> CorrectionName:
    # What was handed out as an image's only plane is that one still, when more have come.
    if reading.plane is not None or (row.planes or 1) == 1:
        return reading
    stem = path_text(stem_key(f"{name.readings[0].stem}.x"))
    known = [each for each in _checkouts(db, row, name) if each.stem == stem]
    return replace(reading, plane=known[0].plane) if known else reading


def _checkouts(db: sqlite3.Connection, row: Acquisition, name: DroppedName) -> list[Checkout]:
    # Under this name, of the file at this place, whatever lies there now: the latest first.
    stems = [reading.stem for reading in name.readings]
    return checkouts.of_file(db, stems, row.watch, row.relative_path)


def _may_hold(db: sqlite3.Connection, row: Acquisition, checkout: Checkout) -> bool:
    # A time-lapse that has grown still has the plane that was handed out: the reader looks.
    given = lookup.acquisition(db, checkout.acquisition_id)
    if not (checkout.plane_sha256 and given.shape and row.shape):
        return False
    before, now = extent(given.axes or "", given.shape), extent(row.axes or "", row.shape)
    return all(before[axis] == now[axis] for axis in "CYXS")


def _as_handed_out(
    db: sqlite3.Connection, config: Config, checkout: Checkout, annotator: str
) -> Matched | Unmatched:
    row = lookup.acquisition(db, checkout.acquisition_id)
    plane_sha256 = ""
    now = _now_at(db, config, row)
    if now is None and row.watch not in {watched.name for watched in config.watch}:
        return Unmatched(f"the folder of '{row.path}' is not watched any more", is_waiting=True)
    if now is None or now.id != row.id:
        if now is None or not _may_hold(db, now, checkout):
            return Unmatched(overwritten(row.path), TAKE_NEW)
        row, plane_sha256 = now, checkout.plane_sha256 or ""
    named = CorrectionName(
        "",
        checkout.plane,
        checkout.target,
        checkout.crop,
        annotator,
    )
    found = _matched(db, config, row, named)
    if isinstance(found, Unmatched):
        return found
    return replace(
        found,
        checkout_id=checkout.id,
        is_mirrored=checkout.is_mirrored,
        handed_out=checkout.handed_out or "",
        plane_sha256=plane_sha256,
    )


def _now_at(db: sqlite3.Connection, config: Config, row: Acquisition) -> Acquisition | None:
    # What lies where this image lay; its folder may be watched under another name by now.
    names = [watched.name for watched in config.watch]
    if row.watch in names:
        return row if row.superseded_by is None else lookup.current_at(db, row.watch, row.path)
    found = (lookup.current_at(db, name, row.path) for name in names)
    return next((now for now in found if now is not None), None)


def _acquisitions(db: sqlite3.Connection, config: Config, stem: str) -> list[Acquisition]:
    watched = {watch.name for watch in config.watch}
    return [row for row in lookup.with_stem(db, stem) if row.watch in watched]


def _alike(db: sqlite3.Connection, stem: str) -> str:
    near = lookup.stems_like(db, stem, LISTED)
    return f"; there are {', '.join(map(repr, near))}" if near else ""


def _watched(config: Config, folder: Path, name: DroppedName) -> str:
    # A sub-folder with the name of a watched folder says where the image lies, never who drew.
    key = name_key(subfolders.first(folder))
    if not key or not subfolders.who(folder, name):
        return ""
    return next((watch.name for watch in config.watch if name_key(watch.name) == key), "")


def _not_in(watched: str, stem: str, other: Acquisition) -> Unmatched:
    place = "/".join(subfolders.place_of(other))
    return Unmatched(
        f"no image named '{stem}' is known in {watched} yet; if it is of '{other.path}', put it "
        f"into corrections/{place}/",
        is_waiting=True,
    )


def _ambiguous(stem: str, rows: list[Acquisition]) -> Unmatched:
    listed = "\n  ".join(f"{row.watch}/{row.relative_path}" for row in rows[:LISTED])
    more = f"\n  and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
    if names := subfolders.telling_folders(rows):
        remedy = (
            "put the file into a sub-folder of corrections/ that is named as the folder of its "
            f"image: {' or '.join(names)}"
        )
    else:  # of one folder: no sub-folder tells them apart
        remedy = (
            f"take the one that you mean out (cellwatch checkout {rows[0].path}): it is handed "
            "out under a name that no other has; give your file that name"
        )
    return Unmatched(
        f"{len(rows)} images are named '{stem}':\n  {listed}{more}",
        remedy,
    )
