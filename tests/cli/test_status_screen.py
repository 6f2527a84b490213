"""What `status` prints fits the window, says how long things take, and is painted in place."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta

import pytest

from cellwatch.cli.status import station_status
from cellwatch.cli.status_screen import fitted, sections, unread_of
from cellwatch.records import AcquisitionState, DaemonState

NOW = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)


def hearing_interrupts():
    """Hear Ctrl-C also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def facts(tmp_path):
    """Return those of a station that never ran, as one that runs would have them."""
    daemon = {
        "pid": 7, "host": "scope-pc", "device": "cpu", "workers": [{}, {}],
        "started_at": (NOW - timedelta(hours=3)).isoformat(),
    }  # fmt: skip
    counts = dict.fromkeys(AcquisitionState, 0)
    return {
        **station_status(tmp_path, NOW),
        "state": DaemonState.RUNNING,
        "daemon": daemon,
        "counts": {**counts, "done": 60, "queued": 400},
        "speed": {"acquisitions": 60, "seconds": 30.0, "rois": 900, "last_hour": 48},
        "models": {"nuclei": 50, "general": 10},
        "to_do": 400,
        "left_s": 6000.0,
        "disk": "812.4 GB free for masks in /masks",
    }


def test_pace_models_and_the_end_of_the_backlog_are_told(facts):
    said = [line for part in sections(facts, NOW) for line in part]

    end = (NOW + timedelta(seconds=6000)).astimezone().strftime("%H:%M")
    assert said[0] == "running (pid 7 on scope-pc) for 3.0 h on cpu, 2 workers"
    assert "30.0 s an acquisition, 900 ROIs in the last 60, 48 done in the last hour" in said
    assert "segmented with nuclei (50), general (10)" in said
    assert any(
        re.fullmatch(rf"about 100 min for the 400 that wait, done at about (\w+ )?{end}", line)
        for line in said
    )
    assert "812.4 GB free for masks in /masks" in said


def test_a_low_window_shortens_what_is_longest_and_says_by_how_much(facts):
    folder = {"state": "watching", "files": 3, "reason": None, "due_at": None, "scanned_at": None}
    folders = [{**folder, "path": f"/scope/{n}"} for n in range(40)]
    parts = sections({**facts, "folders": folders}, NOW)

    lines = fitted(parts, 80, 20)

    assert len(lines) == 20
    assert lines[0].startswith("running")
    (cut,) = [line for line in lines if line.startswith("… and")]
    n_shown = sum("watching /scope" in line for line in lines)
    assert cut == f"… and {40 - n_shown} more lines"


def test_a_narrow_window_wraps_lines(facts):
    lines = fitted(sections(facts, NOW), 40, 100)

    assert max(map(len, lines)) <= 40
    assert "  " + "hour" in lines or any(line.startswith("  ") for line in lines)


def test_what_is_not_read_comes_with_what_helps():
    said = unread_of([{"suffix": ".jpg", "files": 2, "example": "/scope/a.jpg"}])

    assert said.splitlines()[1].startswith("  to read .jpg: name them in include:")


@pytest.mark.timeout(60)
def test_watched_status_is_painted_over_itself_and_fits_its_terminal(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "watch: [{folder: images}]\noutput: {folder: masks}\nstate: {folder: state}\n"
    )
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 50, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    words = [sys.executable, "-m", "cellwatch", "status", "--watch", "--config", str(config)]
    with subprocess.Popen(
        words, stdout=follower, env=environment, preexec_fn=hearing_interrupts
    ) as shown:
        seen, end = b"", time.monotonic() + 30
        while seen.count(b"\x1b[J") < 2 and time.monotonic() < end:
            seen += os.read(leader, 4096)
        shown.send_signal(signal.SIGINT)
        assert shown.wait(30) == 130
    os.close(leader)
    os.close(follower)

    assert seen.count(b"\x1b[2J") == 1  # cleared once, painted over from then on
    first, second = seen.split(b"\x1b[J")[:2]
    assert second.startswith(b"\x1b[H")
    for painted in (first, second):
        assert painted.count(b"\n") <= 5
    assert b"stopped" in second


def test_status_as_json_tells_what_waits_and_how_long(tmp_path):
    said = json.loads(json.dumps(station_status(tmp_path, NOW), default=str))

    assert (said["to_do"], said["left_s"], said["disk"]) == (0, None, "")
