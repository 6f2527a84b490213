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
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from cellwatch.config.schema import Config, Target, Watch
from cellwatch.core.arrays import Int32
from cellwatch.core.channels import take_channels
from cellwatch.core.segment import segment
from cellwatch.daemon.choosing import channels_for, ready_model
from cellwatch.daemon.executor import ENVIRONMENT
from cellwatch.daemon.nights import progress
from cellwatch.daemon.runfolder import CANDIDATE, FAILURE, JOB, REPORT
from cellwatch.errors import RequestRefused, TrainingError
from cellwatch.records import PlaneIndex, Side, TrainJob
from cellwatch.storage.images import load
from cellwatch.storage.pathtext import text_path
from cellwatch.zoo.cards import find_model

LOOK_EVERY_S = 0.5


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
    folder = config.state.folder / "sessions" / f"{job.group}-{began}-{number}"
    job = replace(job, folder=str(folder), model_id=f"{job.group}-session-{number}")
    folder.mkdir(parents=True)
    (folder / JOB).write_text(json.dumps(job.to_json()), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "cellwatch.daemon.retrain", str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            said = progress(folder)
            if said:
                on_stage(f"{said['stage']}, step {said['step']} of {said['steps']}")
            wait(LOOK_EVERY_S)
    finally:
        process.kill()
        process.wait()
    if not (folder / REPORT).exists():
        failure = folder / FAILURE
        reason = failure.read_text(encoding="utf-8") if failure.exists() else "the trainer died"
        raise TrainingError(f"the session's training came to nothing: {reason}")
    shutil.rmtree(folder / "fit", ignore_errors=True)
    return folder / CANDIDATE


def forget(network: Path | None) -> None:
    """Remove a session's network, which has done its work: it is no model of the zoo."""
    if network is not None:
        shutil.rmtree(network, ignore_errors=True)


def segmented_by(
    folder: Path, row: Mapping[str, Any], watched: Watch, target: Target, plane: PlaneIndex
) -> Int32:
    """Segment a plane of an acquisition with a session's network."""
    model = ready_model(find_model(str(folder.absolute())), torch.device("cpu"))
    image = load(Path(text_path(row["path"])), watched.axes)
    chosen, _ = channels_for(image, model.card, target.choice())
    pixels = image.pixels[plane.position, plane.t, plane.z]
    found = segment(
        take_channels(pixels, chosen),
        model.network,
        target.params(),
        pixel_size_um=watched.pixel_size or image.info.pixel_size_um,
    )
    return found.labels
