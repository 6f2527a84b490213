"""The command that says how a station fares."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cellwatch.cli.learningstatus import learning_facts, show_learning
from cellwatch.cli.talk import ConfigOption, JsonOption, print_json
from cellwatch.config.locate import find_config, state_folder
from cellwatch.errors import EXIT_NOT_RUNNING
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage import reading
from cellwatch.storage.locking import DAEMON, holder

REFRESH_S = 2.0
CLEAR = "\x1b[2J\x1b[H"  # the screen, and home


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every 2 s.")] = False,
) -> None:
    """Say how the station fares. Exit code 3 when the daemon does not run."""
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
    ledger = state_path / reading.LEDGER
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
        }
    with reading.reader(ledger) as db:
        daemon = reading.daemon(db)
        held = holder(state_path)
        state = reading.daemon_state(daemon, now, is_locked=bool(held))
        return {
            "state": state,
            "counts": reading.counts(db),
            "daemon": daemon,
            "folders": reading.folders(db),
            "running": reading.in_flight(db),
            "waiting": reading.waiting(db),
            "failures": reading.recent_failures(db),
            "speed": reading.speed(db),
            "learning": learning_facts(db),
            "holder": held,
            "is_config_newer": _is_newer(config, held),
        }


def _is_newer(config: Path | None, held: dict[str, Any]) -> bool:  # Any: JSON
    # Only the daemon keeps what it has read; a command reads the file anew.
    is_daemon = held.get("who") == DAEMON and "since" in held
    if config is None or not is_daemon or not config.exists():
        return False
    since = datetime.fromisoformat(held["since"]).timestamp()
    return config.stat().st_mtime > since


def _show_status(facts: dict[str, Any]) -> None:  # Any: JSON
    daemon = facts["daemon"]
    who = f" (pid {daemon['pid']} on {daemon['host']})" if facts["state"] == "running" else ""
    typer.echo(f"{facts['state']}{who}")
    if facts["is_config_newer"]:
        typer.echo("the configuration was changed since: it takes effect when the daemon restarts")
    if (held := facts["holder"]) and held.get("who", DAEMON) != DAEMON:
        typer.echo(f"{held['who']} (pid {held['pid']} on {held['host']}) works on it")
    shown = {s: n for s, n in facts["counts"].items() if n or s in ("queued", "running", "done")}
    typer.echo("  ".join(f"{state} {n}" for state, n in shown.items()))
    speed = facts["speed"]
    if speed.get("acquisitions"):
        typer.echo(
            f"{speed['seconds']:.1f} s an acquisition, {speed['rois'] or 0} ROIs in the "
            f"last {speed['acquisitions']}"
        )
    for folder in facts["folders"] if facts["state"] == DaemonState.RUNNING else []:
        reason = f": {folder['reason']}" if folder["reason"] else f", {folder['files']} files"
        typer.echo(f"{folder['state']} {folder['path']}{reason}")
    for row in facts["running"]:
        typer.echo(f"segmenting {row['path']}")
    for row in [*facts["waiting"], *facts["failures"]]:
        typer.echo(f"{row['state']} {row['path']}: {row['reason']}")
    show_learning(facts["learning"], is_running=bool(facts["holder"]))
