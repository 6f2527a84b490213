"""The part of an image that a correction is of: there, segmented, and still what it was."""

import sqlite3

from cellwatch.config.schema import Config
from cellwatch.daemon.corrections.match_result import Matched, Unmatched, cut_short
from cellwatch.files.stems import name_key
from cellwatch.records import Acquisition, Checkout, PlaneIndex
from cellwatch.storage.corrections.names import CorrectionName
from cellwatch.storage.ledger import lookup
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.places import extent


def part_of(
    db: sqlite3.Connection, config: Config, row: Acquisition, name: CorrectionName
) -> Matched | Unmatched:
    """Return the part of an image that a name says, or why it cannot be corrected (now)."""
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


def may_hold(db: sqlite3.Connection, row: Acquisition, checkout: Checkout) -> bool:
    """Say whether what lies there now may still have the plane that was handed out.

    A time-lapse that has grown has it: the reader looks.
    """
    given = lookup.acquisition(db, checkout.acquisition_id)
    if not (checkout.plane_sha256 and given.shape and row.shape):
        return False
    before, now = extent(given.axes or "", given.shape), extent(row.axes or "", row.shape)
    return all(before[axis] == now[axis] for axis in "CYXS")
