"""The command that shows the station's status."""

import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.console import ConfigOption, JsonOption, counted, local_time, print_json
from cellwatch.cli.status_training import learning_facts, show_learning
from cellwatch.config.locate import find_config, state_folder
from cellwatch.errors import EXIT_NOT_RUNNING
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage.ledger.locking import DAEMON, holder
from cellwatch.storage.ledger.path_text import printable
from cellwatch.storage.reports import alarms, doubts, plates, station
from cellwatch.storage.reports.pauses import pauses

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

PLATES = 5  # of yesterday and today
REFRESH_S = 2.0
RUNS = (DaemonState.RUNNING, DaemonState.DEGRADED)
SCAN_LATE_S = 60.0  # after the time at which a folder was to be looked into
CLEAR = "\x1b[2J\x1b[H"  # the screen, and home


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every 2 s.")] = False,
) -> None:
    """Show the station's status. Exit code 3 if the daemon does not run."""
    place = find_config(config)
    state = state_folder(place)
    while True:
        facts = station_status(state, datetime.now(UTC), place)
        if watch and not as_json:
            typer.echo(CLEAR, nl=False)
        if as_json:
            print_json(facts)
        else:
            _show_status(facts)
        if not watch:
            break
        sys.stdout.flush()
        time.sleep(REFRESH_S)
    if facts["state"] in (DaemonState.STOPPED, DaemonState.DEAD):
        raise typer.Exit(EXIT_NOT_RUNNING)


def station_status(
    state_path: Path, now: datetime, config: Path | None = None
) -> dict[str, Any]:  # Any: JSON
    """Read what there is to say about a station; works whether or not the daemon runs."""
    ledger = state_path / station.LEDGER
    if not ledger.is_file():
        nothing = dict.fromkeys(AcquisitionState, 0)
        return {
            "state": DaemonState.STOPPED,
            "counts": nothing,
            "daemon": {},
            "folders": [],
            "running": [],
            "waiting": [],
            "failures": [],
            "speed": {},
            "learning": {},
            "holder": {},
            "is_config_newer": False,
            "doubts": {},
            "unread": [],
            "pauses": [],
            "plates": [],
            "alarms": [],
            "reload_error": "",
            "ledger_mended": "",
        }
    with station.reader(ledger) as db:
        daemon = station.daemon(db)
        held = holder(state_path)
        state = station.daemon_state(daemon, now, is_locked=bool(held))
        return {
            "state": state,
            "counts": station.counts(db),
            "daemon": asdict(daemon) if daemon else {},
            "folders": _plain(station.folders(db)),
            "running": _plain(station.in_flight(db)),
            "waiting": _plain(station.waiting(db)),
            "failures": _plain(station.recent_failures(db, now)),
            "speed": asdict(station.speed(db)),
            "learning": learning_facts(db),
            "holder": held,
            "is_config_newer": _is_newer(config, held, daemon),
            "doubts": doubts.doubts(db) if station.has_loop(db) else {},
            "unread": _plain(station.unread(db)),
            "pauses": _plain(pauses(db)),
            "plates": _plain(_plates(db, now)),
            "alarms": _plain(alarms.active(db)),
            "reload_error": station.told(db, station.RELOAD_ERROR),
            "ledger_mended": station.told(db, station.LEDGER_MENDED),
        }


def _plates(db: "sqlite3.Connection", now: datetime) -> "list[plates.PlateSummary]":
    yesterday = (now - timedelta(days=1)).isoformat()
    return plates.plates(db, since=yesterday)[:PLATES] if plates.has_plates(db) else []


def _plain(rows: "Sequence[DataclassInstance]") -> list[dict[str, Any]]:  # Any: JSON
    return [asdict(row) for row in rows]


def _is_newer(
    config: Path | None,
    held: dict[str, Any],  # Any: JSON
    daemon: station.DaemonFacts | None,
) -> bool:
    # Only the daemon keeps what it has read; a command reads the file each time.
    is_daemon = held.get("who") == DAEMON and "since" in held
    if config is None or not is_daemon or not config.exists():
        return False
    # It may have read the file again since it took the lock.
    began = daemon.started_at if daemon else None
    since = max(held["since"], began or "", key=_moment)
    return config.stat().st_mtime > _moment(since)


def _age(moment: str | None) -> float:
    # In s; 0 where it never was.
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() if moment else 0.0


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _show_status(facts: dict[str, Any]) -> None:  # Any: JSON
    _show_daemon(facts)
    shown = {s: n for s, n in facts["counts"].items() if n or s in ("queued", "running", "done")}
    typer.echo("  ".join(f"{state} {n}" for state, n in shown.items()))
    _show_speed(facts)
    for pause in facts["pauses"]:
        what = f"images in '{pause['watch']}' are" if pause["watch"] else "all is"
        since = local_time(pause["since"])
        typer.echo(f"{what} paused by {pause['by']} since {since} (cellwatch resume)")
    for alarm in facts["alarms"]:
        of = f"{alarm['watch']}/{alarm['experiment']}"
        since = local_time(alarm["raised_at"])
        typer.echo(printable(f"ALARM since {since}: {of}, {alarm['target']}: {alarm['told']}"))
    for plate in facts["plates"]:
        bad = f", {plate['bad']} bad" if plate["bad"] else ""
        wells = counted(plate["wells"], "well")
        typer.echo(
            f"plate {printable(plate['plate'])}: {plate['done']} of "
            f"{counted(plate['fields'], 'field')} in {wells} done{bad}, "
            f"{plate['rois']} ROIs (cellwatch plates)"
        )
    if doubt := doubt_of(facts["doubts"]):
        typer.echo(doubt)
    if unread := unread_of(facts["unread"]):
        typer.echo(unread)
    for folder in facts["folders"] if facts["state"] in RUNS else []:
        reason = f": {folder['reason']}" if folder["reason"] else f", {folder['files']} files"
        if _age(folder["due_at"]) > SCAN_LATE_S:
            reason += (
                f" (not looked into for {_since(folder['scanned_at'])}: does the disk answer?)"
            )
        typer.echo(f"{folder['state']} {printable(folder['path'])}{printable(reason)}")
    for row in facts["running"] if facts["state"] in RUNS else []:
        typer.echo(f"segmenting {printable(row['path'])} for {_since(row['started_at'])}")
    for row in [*facts["waiting"], *facts["failures"]]:
        typer.echo(f"{row['state']} {printable(row['path'])}: {printable(row['reason'] or '')}")
    show_learning(facts["learning"], is_running=bool(facts["holder"]))


def _show_daemon(facts: dict[str, Any]) -> None:  # Any: JSON
    daemon, state = facts["daemon"], facts["state"]
    who = f" (pid {daemon['pid']} on {daemon['host']})" if state in RUNS else ""
    if state == DaemonState.DEAD and daemon.get("heartbeat_at"):
        who = f" (no heartbeat for {_since(daemon['heartbeat_at'])}; pid {daemon['pid']})"
    typer.echo(f"{state}{who}")
    if daemon.get("trouble") and state in RUNS:
        typer.echo(f"no image is segmented at the moment: {daemon['trouble']}")
    if facts["is_config_newer"]:
        typer.echo(
            "the configuration was changed since: it takes effect when the daemon restarts, or "
            f"reads it again (kill -HUP {daemon['pid']})"
        )
    if facts["reload_error"]:
        typer.echo(
            "the configuration was read again and is wrong; the one before is in force: "
            f"{facts['reload_error']}"
        )
    if facts["ledger_mended"]:
        typer.echo(facts["ledger_mended"])
    if (held := facts["holder"]) and held.get("who", DAEMON) != DAEMON:
        typer.echo(f"{held['who']} (pid {held['pid']} on {held['host']}) works on it")


def _show_speed(facts: dict[str, Any]) -> None:  # Any: JSON
    speed, queued = facts["speed"], facts["counts"].get("queued", 0)
    if not speed.get("acquisitions"):
        return
    left = ""
    if queued > 1:
        left = f"; about {_span(queued * speed['seconds'])} for the {queued} that wait"
    typer.echo(
        f"{speed['seconds']:.1f} s an acquisition, {speed['rois'] or 0} ROIs in the "
        f"last {speed['acquisitions']}{left}"
    )


def doubt_of(doubts: dict[str, Any]) -> str:  # Any: JSON
    """Say in one line which results are doubtful; "" when none is.

    Examples
    --------
    >>> doubt_of({"images": 8, "unlike": {"nuclei": 4}, "empty": 1, "unsure": 0})
    "doubtful: 4 of 8 images are unlike what 'nuclei' knows, 1 has no ROIs: cellwatch review"
    """
    if not doubts:
        return ""
    parts = []
    for model, n in doubts["unlike"].items():
        verb = "is" if n == 1 else "are"
        of = f"{n} of {doubts['images']} images"
        parts.append(f"{of} {verb} unlike what '{model}' knows")
    if n := doubts["empty"]:
        parts.append(f"{n} {'has' if n == 1 else 'have'} no ROIs")
    if n := doubts["unsure"]:
        parts.append(f"the model was unsure of {n}")
    if n := doubts.get("noted", 0):
        parts.append(f"{n} {'was' if n == 1 else 'were'} read with a note")
    lines = [f"doubtful: {', '.join(parts)}: cellwatch review"] if parts else []
    if n := doubts.get("outdated", 0):
        lines.append(
            f"{n} {'image was' if n == 1 else 'images were'} written to since: until done again, "
            "the masks in place are of what was there before"
        )
    changed = []
    if n := doubts.get("missing", 0):
        changed.append(f"{n} mask {'store is' if n == 1 else 'stores are'} gone")
    if n := doubts.get("edited", 0):
        changed.append(f"{n} {'was' if n == 1 else 'were'} edited")
    if changed:
        lines.append(
            f"{' and '.join(changed)} since they were written: cellwatch verify names them. They "
            "are made again by cellwatch rerun EXPERIMENT; what was drawn in them belongs into "
            "corrections/"
        )
    return "\n".join(lines)


def unread_of(unread: list[dict[str, Any]]) -> str:  # Any: JSON
    """Say in one line which files are of kinds that are not read; "" when there are none.

    Examples
    --------
    >>> unread_of([{"suffix": ".czi", "files": 3, "example": "/scope/a.czi"}])
    '3 files of kinds that are not read: .czi (3, as /scope/a.czi)'
    """
    if not unread:
        return ""
    n = sum(row["files"] for row in unread)
    kinds = ", ".join(
        f"{row['suffix']} ({row['files']}, as {printable(row['example'])})" for row in unread
    )
    what = "file of a kind" if n == 1 else "files of kinds"
    return f"{n} {what} that {'is' if n == 1 else 'are'} not read: {kinds}"


def _since(moment: str) -> str:
    return _span((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
