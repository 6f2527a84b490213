"""Annotate and train in turns, as the paper did it: the network of the last image helps the next.

A session hands images out one by one, each segmented by the latest network; every accepted
correction starts the `online` training at once. The daemon takes the corrections in as always; what
a session trains is used for its own next image alone, and only a gate can promote anything.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

from cellwatch.compute.executor import ENVIRONMENT
from cellwatch.compute.models import channels_for, ready_model
from cellwatch.config.schema import Config, Target, Watch
from cellwatch.core.arrays import Int32
from cellwatch.core.channels import take_channels
from cellwatch.core.segment import segment
from cellwatch.daemon.retraining.clock import Turns
from cellwatch.daemon.retraining.run_folder import CANDIDATE, FAILURE, JOB, LEFT, REPORT
from cellwatch.daemon.retraining.scheduler import AGAIN_AFTER_S, progress
from cellwatch.daemon.retraining.trainer_process import pause
from cellwatch.errors import RequestRefused, TrainingError
from cellwatch.images import open_image
from cellwatch.records import Acquisition, PlaneIndex, Side, TrainJob
from cellwatch.storage.ledger import lookup
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.reports.station import LEDGER, reader
from cellwatch.zoo.cards import find_model

LOOK_EVERY_S = 0.5
LEFT_BEHIND_S = 24 * 3600.0


def train_on_all(
    config: Config,
    job: TrainJob,
    number: int,
    now: datetime,
    on_stage: Callable[[str], None],
    wait: Callable[[float], None],
) -> Path:
    """Train on all corrections of a group so far; return the folder of the network.

    Parameters
    ----------
    config : Config
    job : TrainJob
        As the daemon put it together, which decides the sides.
    number : int
        Of the image in the session.
    now : datetime
    on_stage : callable
        Gets each stage as text.
    wait : callable
        Waits so many seconds.

    Raises
    ------
    RequestRefused
        When nothing was corrected.
    TrainingError
        When it came to nothing.
    """
    if not any(item.side == Side.TRAIN for item in job.items):
        raise RequestRefused(f"'{job.group}' has no correction to train on")
    began = now.strftime("%Y%m%dT%H%M%S")
    sessions = config.state.folder / "sessions"
    _sweep(sessions, now)
    folder = sessions / f"{job.group}-{began}-{number}"
    job = replace(job, folder=str(folder), model_id=f"{job.group}-session-{number}")
    folder.mkdir(parents=True)
    (folder / JOB).write_text(json.dumps(job.to_json()), encoding="utf-8")
    try:
        _train_to_the_end(config, folder, on_stage, wait)
    except BaseException:  # Ctrl-C too: nobody continues it
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder / "fit", ignore_errors=True)
    return folder / CANDIDATE


def _train_to_the_end(
    config: Config,
    folder: Path,
    on_stage: Callable[[str], None],
    wait: Callable[[float], None],
) -> None:
    while (code := _train(config, folder, on_stage, wait)) == LEFT:
        on_stage("the GPU has too little memory beside the worker; it continues in a minute")
        wait(AGAIN_AFTER_S)
    if not (folder / REPORT).exists():
        failure = folder / FAILURE
        died = f"the trainer died ({code})"
        reason = failure.read_text(encoding="utf-8") if failure.exists() else died
        raise TrainingError(f"the session's training failed: {reason}")


def _train(
    config: Config,
    folder: Path,
    on_stage: Callable[[str], None],
    wait: Callable[[float], None],
) -> int:
    # It gives way to images and to a night's training, as that does to images.
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cellwatch.daemon.retraining.trainer",
            str(folder),
            str(os.getpid()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    turns, is_paused = Turns(config.retrain.share), False
    try:
        while process.poll() is None:
            may_run = turns.may_run(_is_busy(config), time.monotonic())
            if is_paused == may_run:
                is_paused = not may_run
                pause(process, config.device[0], is_paused=is_paused)
            if is_paused:
                on_stage("it waits: new images, or a night's training, go first")
            elif said := progress(folder):
                on_stage(f"{said['stage']}, step {said['step']} of {said['steps']}")
            wait(LOOK_EVERY_S)
        return process.wait()
    finally:
        process.kill()
        process.wait()


def _is_busy(config: Config) -> bool:
    with reader(config.state.folder / LEDGER) as db:
        return lookup.is_busy(db)


def _sweep(sessions: Path, now: datetime) -> None:
    # What sessions left that were killed: a day old, nobody trains there any more.
    for folder in sessions.glob("*"):
        if now.timestamp() - folder.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(folder, ignore_errors=True)


def forget(network: Path | None) -> None:
    """Remove a session's network, which has done its work: it is not a model of the zoo."""
    if network is not None:
        shutil.rmtree(network, ignore_errors=True)


def segmented_by(
    folder: Path, row: Acquisition, watched: Watch, target: Target, plane: PlaneIndex
) -> Int32:
    """Segment a plane of an acquisition with a session's network."""
    model = ready_model(find_model(str(folder.absolute())), torch.device("cpu"))
    with open_image(Path(text_path(row.path)), watched.axes) as image:
        chosen, _ = channels_for(image, model.card, target.choice())
        pixels = image.plane(plane.position, plane.t, plane.z)
    found = segment(
        take_channels(pixels, chosen),
        model.network,
        target.params(),
        pixel_size_um=watched.pixel_size or image.info.pixel_size_um,
    )
    return found.labels
