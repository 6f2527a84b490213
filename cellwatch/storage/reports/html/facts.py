"""What the report shows, read from the ledger: numbers, names, reasons; pictures are linked."""

import sqlite3
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellwatch.storage.ledger.path_text import readable, text_path
from cellwatch.storage.previews.preview import preview_beside
from cellwatch.storage.reports import alarms, corrections, doubts, learning, pauses, plates, station
from cellwatch.storage.reports.effort import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

IMAGES = 10_000  # that are listed, newest first
DOUBTFUL = 60  # images to look at first
FAILURES = 200
PLATES = 12
EXPERIMENTS = 200

Facts = dict[str, Any]  # Any: JSON


def page_facts(db: sqlite3.Connection, output: Path, name: str, now: datetime) -> Facts:
    """Return what the report shows, as JSON.

    Parameters
    ----------
    db : sqlite3.Connection
    output : Path
        The folder in which the report will lie; links are relative to it.
    name : str
        What the station is called.
    now : datetime
    """
    daemon = station.daemon(db)
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "station": name,
        "written_at": now.isoformat(timespec="seconds"),
        "version": daemon.version if daemon else "",
        "state": daemon.state if daemon else "stopped",
        "trouble": (daemon.trouble or "") if daemon else "",
        "counts": station.counts(db),
        "today": _today(db, midnight),
        "hours": _hours(db, now),
        "folders": _named(station.folders(db)),
        "alarms": _named(alarms.active(db)),
        "pauses": [asdict(each) for each in pauses.pauses(db)],
        "doubts": doubts.doubts(db),
        "flagged": corrections.n_flagged(db),
        "review": _named(doubts.review_queue(db, DOUBTFUL)),
        "failures": _named(station.recent_failures(db, now, FAILURES)),
        "waiting": _named(station.waiting(db, FAILURES)),
        "unread": _named(station.unread(db)),
        "plates": _plates(db),
        "experiments": _experiments(db),
        "groups": _groups(db),
        **_images(db, output),
    }


def _named(rows: "Sequence[DataclassInstance]") -> list[Facts]:
    # Names as people read them, also those whose bytes are no UTF-8.
    texts = ("path", "experiment", "example", "reason")
    found = [asdict(row) for row in rows]
    return [
        {k: _name(v) if k in texts and isinstance(v, str) else v for k, v in row.items()}
        for row in found
    ]


def _today(db: sqlite3.Connection, midnight: datetime) -> Facts:
    sql = """
        SELECT count(DISTINCT a.id), coalesce(sum(t.rois), 0) FROM acquisitions a
        LEFT JOIN targets t ON t.acquisition_id = a.id AND t.state = 'done'
        WHERE a.state = 'done' AND a.superseded_by IS NULL AND a.finished_at >= ?
    """
    since = (midnight - midnight.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]
    moment = f"{since.isoformat(timespec='milliseconds')}+00:00"
    done, rois = db.execute(sql, [moment]).fetchone()
    sql = "SELECT count(*) FROM failures WHERE state_since >= ?"
    return {"done": done, "rois": rois, "bad": db.execute(sql, [moment]).fetchone()[0]}


def _hours(db: sqlite3.Connection, now: datetime) -> list[list[Any]]:  # Any: JSON
    # How many images were finished in each of the last 48 hours.
    since = (now - timedelta(hours=48)).isoformat(timespec="milliseconds")
    sql = """
        SELECT substr(finished_at, 1, 13), count(*) FROM acquisitions
        WHERE finished_at >= ? AND state = 'done' GROUP BY 1 ORDER BY 1
    """
    return [list(row) for row in db.execute(sql, [since])]


def _plates(db: sqlite3.Connection) -> list[Facts]:
    if not plates.has_plates(db):
        return []
    return [
        {
            **asdict(plate),
            "plate": readable(text_path(plate.plate)),
            "wells": [
                {**asdict(well), "place": plates.place_of(well.well)}
                for well in plates.wells(db, plate.watch, text_path(plate.plate))
            ],
        }
        for plate in plates.plates(db)[:PLATES]
    ]


def _experiments(db: sqlite3.Connection) -> list[Facts]:
    open_ = doubts.NOT_CORRECTED if station.has_loop(db) else "1"
    sql = f"""
        SELECT a.watch, a.experiment, count(DISTINCT a.id) AS images,
               count(DISTINCT CASE WHEN a.state = 'done' THEN a.id END) AS done,
               coalesce(sum(CASE WHEN a.state = 'done' THEN t.rois END), 0) AS rois,
               avg(CASE WHEN a.state = 'done' THEN t.confidence END) AS confidence,
               count(DISTINCT CASE WHEN a.state = 'done' AND {open_} AND (
                     t.rois = 0 OR t.novelty > {doubts.NOVEL} OR t.confidence < {doubts.UNSURE})
                     THEN a.id END) AS doubtful,
               count(DISTINCT CASE WHEN a.id IN (SELECT id FROM failures) THEN a.id END) AS bad,
               group_concat(DISTINCT t.model_id) AS models, max(a.arrived_at) AS latest
        FROM acquisitions a LEFT JOIN targets t ON t.acquisition_id = a.id
        WHERE a.superseded_by IS NULL GROUP BY a.watch, a.experiment
        ORDER BY latest DESC LIMIT ?
    """
    cursor = db.execute(sql, [EXPERIMENTS])
    names = [column for column, *_ in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    return [{**each, "experiment": _name(each["experiment"])} for each in found]


def _groups(db: sqlite3.Connection) -> list[Facts]:
    if not station.has_loop(db):
        return []
    configured = learning.models_configured(db)
    found = []
    for facts in learning.group_facts(db, sorted({*learning.groups_known(db), *configured})):
        images, nights = learning.effort(db, facts.group), learning.nights(db, facts.group)
        found.append(
            {
                "group": facts.group,
                "model": facts.model or configured.get(facts.group, ""),
                "verdict": facts.verdict or "",
                "since": facts.since or "",
                "corrections": facts.corrections,
                "told": verdict(images, nights),
                "effort": [
                    {"at": i.received_at, "share": i.share, "ap50": i.ap50, "rois": i.rois,
                     "is_unseen": i.is_unseen, "path": _name(i.relative_path)}
                    for i in images
                ],
                "nights": [
                    {"date": n.local_date, "kind": n.kind, "model": n.model_id,
                     "verdict": n.verdict or n.state, "told": n.told,
                     "numbers": _numbers(n), "seconds": n.seconds}
                    for n in nights
                ],
            }
        )  # fmt: skip
    return found


def _numbers(night: learning.Night) -> Facts:
    numbers = night.numbers or {}
    kept = ("images", "rois", "candidate", "incumbent", "gain", "interval_95")
    return {key: numbers[key] for key in kept if key in numbers}


def _images(db: sqlite3.Connection, output: Path) -> Facts:
    # One short list for each image, texts that come again and again by their number.
    sql = """
        SELECT a.id, a.relative_path, a.experiment, a.state, coalesce(a.finished_at, a.state_since),
               a.store, a.watch, sum(t.rois), min(t.confidence), max(t.novelty),
               group_concat(DISTINCT t.model_id),
               EXISTS (SELECT 1 FROM flags f WHERE f.acquisition_id = a.id
                       AND f.lowered_at IS NULL),
               EXISTS (SELECT 1 FROM corrections c WHERE c.acquisition_id = a.id
                       AND c.state IN ('trainable', 'used'))
        FROM acquisitions a LEFT JOIN targets t ON t.acquisition_id = a.id AND t.state = 'done'
        WHERE a.superseded_by IS NULL GROUP BY a.id ORDER BY a.id DESC LIMIT ?
    """
    names: dict[str, int] = {}
    rows = []
    for row in db.execute(sql, [IMAGES]):
        key, path, experiment, state, at, store, watch, *numbers = row
        rois, confidence, novelty, model, is_flagged, is_corrected = numbers
        folder, _, file = _name(path).rpartition("/")
        rows.append(
            [
                key,
                _number(names, f"{watch}/{folder}" if folder else watch),
                file,
                _number(names, _name(experiment)),
                _number(names, state),
                at,
                rois,
                round(confidence, 3) if confidence is not None else None,
                round(novelty, 2) if novelty is not None else None,
                _number(names, model or ""),
                0 if is_corrected else _doubts(rois, confidence, novelty, state),
                is_flagged + 2 * is_corrected,
                _link(store, output) if state == "done" else "",
            ]
        )
    total = db.execute("SELECT count(*) FROM acquisitions WHERE superseded_by IS NULL").fetchone()
    return {"names": list(names), "images": rows, "n_images": total[0]}


def _doubts(rois: int | None, confidence: float | None, novelty: float | None, state: str) -> int:
    # 1: nothing found, 2: unlike the training images, 4: unsure.
    if state != "done":
        return 0
    is_unsure = confidence is not None and confidence < doubts.UNSURE
    found = [rois == 0, (novelty or 0) > doubts.NOVEL, is_unsure]
    return sum(2**bit for bit, is_so in enumerate(found) if is_so)


def _number(names: dict[str, int], text: str) -> int:
    return names.setdefault(text, len(names))


def _link(store: str | None, output: Path) -> str:
    if not store:
        return ""
    place = preview_beside(Path(store))
    return place.relative_to(output).as_posix() if place.is_relative_to(output) else ""


def _name(text: str) -> str:
    return readable(text_path(text))
