"""Whose correction is this? Name and folder of a dropped file lead to one acquisition, or none."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections import subfolders
from cellwatch.daemon.corrections.image_parts import may_hold, part_of
from cellwatch.daemon.corrections.match_result import (
    LISTED,
    TAKE_NEW,
    Matched,
    Unmatched,
    overwritten,
)
from cellwatch.daemon.corrections.name_matching import match_by_name
from cellwatch.records import Acquisition, Checkout
from cellwatch.storage.corrections.names import CorrectionName, DroppedName
from cellwatch.storage.ledger import checkouts, dropped_files, lookup
from cellwatch.storage.ledger.annotations import handed_out_digests


def match_drop(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched:
    """Find what a dropped file is a correction of, and what was handed out for that part.

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
    matched = _match_drop(db, config, relative, name)
    if isinstance(matched, Unmatched):
        return matched
    return replace(
        matched, given_sha256=handed_out_digests(db, matched.on(dropped_files.Drop("", 0, 0), ""))
    )


def _match_drop(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched:
    if name.short_id and (checkout := checkouts.with_short_id(db, name.short_id)):
        return _as_handed_out(db, config, checkout, _drawn_by(db, config, relative, name, checkout))
    return (
        match_by_name(db, config, relative, name)
        or _by_earlier_checkout(db, config, relative, name)
        or _by_name_without_id(db, config, relative, name)
        or _unknown(db, name)
    )


def _by_earlier_checkout(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched | None:
    # Taken out before there were ids: a second look, or one of several images of one name.
    watched = subfolders.names_watched(config, relative.parent, name)
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
    found = match_by_name(db, config, relative, replace(name, readings=name.without_id))
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
        subfolders.names_watched(config, folder, name)
        or subfolders.lies_in(row, folder)
        or f"~{checkout.short_id}" in by.lower()
        or (by and lookup.is_folder_of_images(db, by))
    )
    return name.annotator or ("" if says_where else by)


def _as_handed_out(
    db: sqlite3.Connection, config: Config, checkout: Checkout, annotator: str
) -> Matched | Unmatched:
    row = lookup.acquisition(db, checkout.acquisition_id)
    plane_sha256 = ""
    now = _now_at(db, config, row)
    if now is None and row.watch not in {watched.name for watched in config.watch}:
        return Unmatched(f"the folder of '{row.path}' is not watched any more", is_waiting=True)
    if now is None or now.id != row.id:
        if now is None or not may_hold(db, now, checkout):
            return Unmatched(overwritten(row.path), TAKE_NEW)
        row, plane_sha256 = now, checkout.plane_sha256 or ""
    named = CorrectionName(
        "",
        checkout.plane,
        checkout.target,
        checkout.crop,
        annotator,
    )
    found = part_of(db, config, row, named)
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


def _alike(db: sqlite3.Connection, stem: str) -> str:
    near = lookup.stems_like(db, stem, LISTED)
    return f"; there are {', '.join(map(repr, near))}" if near else ""
