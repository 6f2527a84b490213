"""Flags that people raise and lower."""

from datetime import datetime

from sqlite_utils import Database

from cellwatch.errors import RequestRefused
from cellwatch.storage.ledger import flags, lookup
from cellwatch.storage.ledger.requests import Answer, Request


def flag(db: Database, request: Request, now: datetime) -> Answer:
    """Raise a flag on an image, also on one that is not known yet.

    Raises
    ------
    RequestRefused
        When the image has no such ROI.
    """
    said = request.arguments
    flag = flags.Flag(said["name"], said.get("why", ""), said.get("roi"), request.asked_by)
    _require_roi(db, flag)
    found = flags.raise_flag(db, flag, now) or []
    text = f"flagged {said['name']}"
    if len(found) > 1:
        paths = [lookup.acquisition(db, key).path for key in found]
        text += f": {len(found)} images of this name, {', '.join(paths)}"
    if not found:
        text += f"; it waits for the image, which is not known yet{_likely(db, flag.name)}"
    return Answer(True, text, {"found": found})


def unflag(db: Database, request: Request, now: datetime) -> Answer:
    """Take the flags off an image.

    Raises
    ------
    RequestRefused
        When it has none.
    """
    name = request.arguments["name"]
    taken = flags.lower_flag(db, name, f"unflagged by {request.asked_by}", now)
    if not taken:
        known = flags.acquisitions_named(db, name, is_every=True)
        raise RequestRefused(f"{name} has no flag{'' if known else _likely(db, name)}")
    return Answer(True, f"took {taken} flag{'s' if taken > 1 else ''} off {name}", {"flags": taken})


def _likely(db: Database, name: str) -> str:
    near = flags.resembling(db, name)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _require_roi(db: Database, flag: flags.Flag) -> None:
    found = flags.acquisitions_named(db, flag.name) if flag.roi else []
    most = lookup.most_rois(db, found)
    if flag.roi and most is not None and flag.roi > most:
        raise RequestRefused(f"{flag.name} has {most} ROIs; there is no ROI {flag.roi}")
