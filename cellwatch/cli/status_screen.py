"""What `status` prints, as lines: a section for each subject, so that it can be made to fit."""

import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cellwatch.cli.console import counted, local_time
from cellwatch.cli.status_training import clock, learning_lines, spelled
from cellwatch.records import AcquisitionState, DaemonState
from cellwatch.storage.ledger.locking import DAEMON
from cellwatch.storage.ledger.path_text import printable
from cellwatch.storage.reports import pace

RUNS = (DaemonState.RUNNING, DaemonState.DEGRADED)
SCAN_LATE_S = 60.0  # after the time at which a folder was to be looked into
ALWAYS = (AcquisitionState.QUEUED, AcquisitionState.RUNNING, AcquisitionState.DONE)
CLOCK_FROM_S = 600.0  # an end that is farther away is told as a time of day as well

Facts = dict[str, Any]  # Any: JSON


def sections(facts: Facts, now: datetime) -> list[list[str]]:
    """Return the lines, the most important subject first."""
    is_running = facts["state"] in RUNS
    folders = [_folder(each, now) for each in facts["folders"]] if is_running else []
    running = [
        f"segmenting {printable(row['path'])} for {_since(row['started_at'], now)}"
        for row in (facts["running"] if is_running else [])
    ]
    troubles = [
        f"{row['state']} {printable(row['path'])}: {printable(row['reason'] or '')}"
        for row in (*facts["waiting"], *facts["failures"])
    ]
    doubt = [text for text in (doubt_of(facts["doubts"]), unread_of(facts["unread"])) if text]
    learning = learning_lines(facts["learning"], now, is_running=bool(facts["holder"]))
    parts = [
        _daemon(facts, now), [_counts(facts)], _pace(facts, now), _alarms(facts), _pauses(facts),
        _plates(facts), "\n".join(doubt).splitlines(), folders, running, troubles, learning,
    ]  # fmt: skip
    return [part for part in parts if part]


def fitted(parts: Sequence[Sequence[str]], width: int, height: int) -> list[str]:
    """Return as many lines as a window shows; the longest sections are shortened, and say so.

    Parameters
    ----------
    parts : sequence of sections
    width, height : int, characters

    Examples
    --------
    >>> fitted([["running"], ["watching a", "watching b", "watching c"]], 20, 3)
    ['running', 'watching a', '… and 2 more lines']
    """
    wrapped = [[row for line in part for row in _wrapped(line, width)] for part in parts]
    shown = [len(part) for part in wrapped]
    while sum(shown) > max(height, len(shown)):
        longest = max(range(len(shown)), key=shown.__getitem__)
        shown[longest] -= 1
    lines = []
    for part, n in zip(wrapped, shown, strict=True):
        lines += part[: n if n == len(part) else n - 1]
        if n < len(part):
            lines.append(f"… and {len(part) - n + 1} more lines")
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)


def _folder(folder: Facts, now: datetime) -> str:
    reason = f": {folder['reason']}" if folder["reason"] else f", {folder['files']} files"
    if folder["due_at"] and _age(folder["due_at"], now) > SCAN_LATE_S:
        since = _since(folder["scanned_at"], now)
        reason += f" (not looked into for {since}: does the disk answer?)"
    return f"{folder['state']} {printable(folder['path'])}{printable(reason)}"


def _counts(facts: Facts) -> str:
    shown = {state: n for state, n in facts["counts"].items() if n or state in ALWAYS}
    return "  ".join(f"{state} {n}" for state, n in shown.items())


def _alarms(facts: Facts) -> list[str]:
    return [
        printable(
            f"ALARM since {local_time(alarm['raised_at'])}: {alarm['watch']}/{alarm['experiment']}"
            f", {alarm['target']}: {alarm['told']}"
        )
        for alarm in facts["alarms"]
    ]


def _pauses(facts: Facts) -> list[str]:
    lines = []
    for pause in facts["pauses"]:
        what = f"images in '{pause['watch']}' are" if pause["watch"] else "all is"
        since = local_time(pause["since"])
        lines.append(f"{what} paused by {pause['by']} since {since} (cellwatch resume)")
    return lines


def _plates(facts: Facts) -> list[str]:
    lines = []
    for plate in facts["plates"]:
        bad = f", {plate['bad']} bad" if plate["bad"] else ""
        wells = counted(plate["wells"], "well")
        lines.append(
            f"plate {printable(plate['plate'])}: {plate['done']} of "
            f"{counted(plate['fields'], 'field')} in {wells} done{bad}, "
            f"{plate['rois']} ROIs (cellwatch plates)"
        )
    return lines


def _daemon(facts: Facts, now: datetime) -> list[str]:
    daemon, state = facts["daemon"], facts["state"]
    who = ""
    if state in RUNS:
        who = f" (pid {daemon['pid']} on {daemon['host']}){_how_long(daemon, now)}"
    if state == DaemonState.DEAD and daemon.get("heartbeat_at"):
        since = _since(daemon["heartbeat_at"], now)
        who = f" (no heartbeat for {since}; pid {daemon['pid']})"
    lines = [f"{state}{who}"]
    if daemon.get("trouble") and state in RUNS:
        lines.append(f"no image is segmented at the moment: {daemon['trouble']}")
    if facts["is_config_newer"]:
        lines.append(
            "the configuration was changed since: it takes effect when the daemon restarts, or "
            f"reads it again (kill -HUP {daemon['pid']})"
        )
    if facts["reload_error"]:
        lines.append(
            "the configuration was read again and is wrong; the one before is in force: "
            f"{facts['reload_error']}"
        )
    if facts["ledger_mended"]:
        lines.append(facts["ledger_mended"])
    if (held := facts["holder"]) and held.get("who", DAEMON) != DAEMON:
        lines.append(f"{held['who']} (pid {held['pid']} on {held['host']}) works on it")
    return lines


def _how_long(daemon: Facts, now: datetime) -> str:
    since = f" for {_since(daemon['started_at'], now)}" if daemon.get("started_at") else ""
    on = f" on {daemon['device']}" if daemon.get("device") else ""
    workers = len(daemon.get("workers") or ())
    return f"{since}{on}{f', {workers} workers' if workers > 1 else ''}"


def _pace(facts: Facts, now: datetime) -> list[str]:
    speed, to_do = facts["speed"], facts["to_do"]
    lines = []
    if speed.get("acquisitions"):
        n = speed["last_hour"]
        hour = f", {n}{' or more' if n >= pace.MANY else ''} done in the last hour" if n else ""
        lines.append(
            f"{speed['seconds']:.1f} s an acquisition, {speed['rois'] or 0} ROIs in the "
            f"last {speed['acquisitions']}{hour}"
        )
    if facts["models"]:
        listed = ", ".join(f"{model} ({n})" for model, n in facts["models"].items())
        lines.append(f"segmented with {listed}")
    if facts["left_s"] is not None and to_do > 1 and facts["state"] in RUNS:
        left = timedelta(seconds=facts["left_s"])
        is_far = facts["left_s"] > CLOCK_FROM_S
        end = f", done at about {clock(now + left, now)}" if is_far else ""
        lines.append(f"about {spelled(facts['left_s'])} for the {to_do} that wait{end}")
    if facts["state"] in RUNS and facts["disk"]:
        lines.append(facts["disk"])
    return lines


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
    """Say which files are of kinds that are not read, and what helps; "" when there are none.

    Examples
    --------
    >>> unread_of([{"suffix": ".zvi", "files": 3, "example": "/scope/a.zvi"}])
    '3 files of kinds that are not read: .zvi (3, as /scope/a.zvi)'
    """
    if not unread:
        return ""
    from cellwatch.images.suffixes import how_to_read

    n = sum(row["files"] for row in unread)
    kinds = ", ".join(
        f"{row['suffix']} ({row['files']}, as {printable(row['example'])})" for row in unread
    )
    what = "file of a kind" if n == 1 else "files of kinds"
    line = f"{n} {what} that {'is' if n == 1 else 'are'} not read: {kinds}"
    ways = {row["suffix"]: how_to_read(row["suffix"]) for row in unread}
    return "\n".join([line, *(f"  to read {kind}: {how}" for kind, how in ways.items() if how)])


def _since(moment: str, now: datetime) -> str:
    return spelled(_age(moment, now))


def _age(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds()
