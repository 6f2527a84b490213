"""Which image is a correction of, whose name has no id? Its stem and its sub-folder say it."""

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
from cellwatch.files.stems import stem_key
from cellwatch.records import Acquisition, Checkout
from cellwatch.storage.corrections.names import CorrectionName, DroppedName
from cellwatch.storage.ledger import checkouts, lookup
from cellwatch.storage.ledger.path_text import path_text


def match_by_name(
    db: sqlite3.Connection, config: Config, relative: Path, name: DroppedName
) -> Matched | Unmatched | None:
    """Find the image by what the name may mean; None: no image is named so.

    `db`, `config`, `relative` and `name` are as `match_drop` takes them.
    """
    watched, elsewhere = subfolders.names_watched(config, relative.parent, name), None
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
        matched = part_of(db, config, found[0], said)
        matched = _with_checkout(db, found[0], matched, name)
        return replace(matched, note=note) if isinstance(matched, Matched) else matched
    return elsewhere


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
        if not (of_part and may_hold(db, row, checkout)):
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


def _acquisitions(db: sqlite3.Connection, config: Config, stem: str) -> list[Acquisition]:
    watched = {watch.name for watch in config.watch}
    return [row for row in lookup.with_stem(db, stem) if row.watch in watched]


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
