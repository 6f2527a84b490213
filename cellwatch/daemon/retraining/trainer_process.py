"""The trainer's process: started, paused, told to leave, and closed."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, cast

from cellwatch.compute.executor import ENVIRONMENT
from cellwatch.compute.pipe import send
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.run_folder import FAILURE, JOB
from cellwatch.files.atomic import write_json
from cellwatch.records import TrainJob

logger = logging.getLogger(__name__)


def start_trainer(nights: Nights, job: TrainJob) -> None:
    """Write a job into its run folder and start the trainer's process."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JOB, job.to_json())
    (folder / FAILURE).unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "cellwatch.daemon.retraining.trainer",
        str(folder),
        str(os.getpid()),
    ]
    nights.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    nights.is_paused = False


def pace(nights: Nights, process: "subprocess.Popen[bytes]", *, is_paused: bool) -> None:
    """Pause a trainer, or let it continue, when that has changed."""
    if is_paused == nights.is_paused:
        return
    nights.is_paused = is_paused
    pause(process, nights.config.device[0], is_paused=is_paused)


def pause(process: "subprocess.Popen[bytes]", device: str, *, is_paused: bool) -> None:
    """Pause a trainer, or let it continue; `device` as the configuration has it."""
    # Both ways at once: which one works depends on the device, which this process cannot ask.
    if not device.startswith("cuda"):
        process.send_signal(signal.SIGSTOP if is_paused else signal.SIGCONT)
    say(process, "pause" if is_paused else "resume")


def say(process: "subprocess.Popen[bytes]", word: str) -> None:
    """Send a trainer a word; one that has ended already is left alone."""
    try:
        send(cast("BinaryIO", process.stdin), {"do": word})
    except OSError:
        logger.debug("the trainer ended before it was told to %s", word)


def close_pipe(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipe to a trainer that has ended."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            logger.debug("the trainer's pipe was closed already")
