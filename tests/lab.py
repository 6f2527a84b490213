"""A lab in small: a station's own parts under a clock that the test moves, and an oracle."""

import atexit
import json
import os
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
import torch

from cellwatch.compute.pipeline import perform
from cellwatch.compute.worker import ModelCache
from cellwatch.config.parse import parse_config
from cellwatch.core.labels import relabel
from cellwatch.daemon.corrections.answers import record
from cellwatch.daemon.corrections.drop_watcher import DropWatcher
from cellwatch.daemon.corrections.reader import Reader
from cellwatch.daemon.inspection import FromWatcher
from cellwatch.daemon.intake import take_in
from cellwatch.daemon.jobs import facts_of, job_for, models_of
from cellwatch.daemon.model_choice import models_for, pin_chosen, pin_models
from cellwatch.daemon.retraining.outcome import add_candidate, decisions_of
from cellwatch.daemon.retraining.pacing import Pacer
from cellwatch.daemon.retraining.run_folder import CANDIDATE
from cellwatch.daemon.retraining.selection import KEY, groups_of, job_of
from cellwatch.daemon.retraining.trainer import retrain
from cellwatch.files.digests import fingerprint
from cellwatch.files.stems import stem_of
from cellwatch.images import describe
from cellwatch.records import AskedRun, Crop, Trouble, Verdict
from cellwatch.storage.corrections.export import ENDINGS, write_labels
from cellwatch.storage.corrections.names import CorrectionName, correction_name
from cellwatch.storage.ledger import promotions, queue, training_runs
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.watching.settle import Sighting
from cellwatch.watching.watcher import Finished
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import load_model
from tests.discs import plain_convolutions

CPU = torch.device("cpu")
CONFIG = """
watch: [{{folder: images, model: {model}, diameter: model{extra}}}]
output: {{folder: masks, also: []}}
state: {{folder: state}}
corrections: {{folder: corrections}}
retrain: {{min_new_rois: 1, pin: {pin}, at: {at}}}
"""


@cache
def one_reader():
    """Return a reader process for all labs: it takes two seconds to start."""
    reader = Reader()
    atexit.register(reader.close)
    return reader


class Lab:
    """One station and the people around it.

    Parameters
    ----------
    folder : Path
    model : Path
        The base.
    now : datetime
        Where its clock begins.
    has_gate : bool
        Without, every candidate is promoted.
    plan : dict
        Shortens the trainings.
    """

    def __init__(
        self,
        folder,
        model,
        now,
        *,
        has_gate=True,
        plan=None,
        pin="experiment",
        at="never",
        extra="",
    ):
        text = CONFIG.format(model=model, pin=pin, at=at, extra=extra)
        self.folder, self.now, self.has_gate = folder, now, has_gate
        # Annealed: a tiny network that ends at a high rate may have ended anywhere.
        self.plan = plan or {
            "schedule": "offline", "epochs": 40, "crop": 64, "batch_size": 4, "images_per_epoch": 4,
        }  # fmt: skip
        for name in ("images", "corrections"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.config = parse_config(text, "lab.yaml", folder)
        self.models = models_of(self.config)
        self.db = open_ledger(self.config.state.folder)
        # A station draws its key at random; a test is to end the same every time.
        self.db.table("station").insert({"key": KEY, "value": "5c" * 32})
        self.desk = DropWatcher(self.config, folder / "corrections")
        self.desk._reader = one_reader()
        self.cache = ModelCache(CPU)
        self.group = next(iter(groups_of(self.config)))
        self.truth = {}

    def close(self):
        self.db.close()

    def arrive(self, relative, pixels, labels, mtime=None):
        """Have the microscope write an image whose true labels the oracle knows, at a time."""
        path = self.folder / "images" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels, photometric="minisblack")
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        self.truth[relative] = labels
        status = path.stat()
        sighting = Sighting(relative, status.st_size, status.st_mtime_ns)
        found = FromWatcher(
            self.config.watch[0], Finished(sighting), fingerprint(path), describe(path)
        )
        take_in(self.db, found, self.config.output.folder, self.now)

    def segment_all(self):
        """Segment what waits, as supervisor and worker do."""
        lease = timedelta(minutes=5)
        while claim := queue.claim(self.db, device="cpu", worker_pid=1, now=self.now, lease=lease):
            watched = self.config.watch[0]
            models = models_for(self.db, claim, watched, self.config, self.models)
            pin_models(self.db, claim, models, self.config, self.now)
            job = job_for(claim, watched, self.config, models)
            outcome = perform(job, self.cache, self.folder / "old", self.now)
            assert outcome.trouble == Trouble.NONE, outcome.reason
            queue.finish(self.db, outcome, facts_of(job), self.now)
            pin_chosen(self.db, claim, outcome, self.config, self.now)

    def correct(self, relative, tool="napari", labels=None, crop=None, prefix=""):
        """Drop a correction, by default the truth; return its row."""
        labels = self.truth[relative] if labels is None else labels
        part = Crop(*crop) if crop else None
        if part:
            labels = relabel(np.ascontiguousarray(labels[part.window]))
        name = CorrectionName(stem_of(Path(relative).name), crop=part)
        place = self.folder / "corrections" / correction_name(name, ENDINGS[tool])
        if prefix:
            place = place.parent / prefix / place.name
            place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        write_labels(place, labels, tool, place)
        return self.drop(place.relative_to(self.folder / "corrections").as_posix())

    def drop(self, name):
        """Have the desk look at a file in the corrections folder; return its row."""
        status = (self.folder / "corrections" / name).stat()
        sighting = Sighting(name, status.st_size, status.st_mtime_ns)
        return record(self.db, self.folder / "corrections", self.desk.look(sighting), self.now)

    def night(self):
        """Run tonight's training; return its report, None when there was none."""
        date = self.now.date().isoformat()
        run_id = training_runs.begin(self.db, AskedRun(self.group, "night", date), self.now)
        if run_id is None:
            return None
        if not training_runs.new_rois(self.db, self.group):
            training_runs.skip(self.db, run_id, "", self.now)
            return None
        group = groups_of(self.config)[self.group]
        asked = AskedRun(self.group, "night", date)
        job = job_of(self.db, run_id, asked, group, self.config, self.models, self.now)
        rule = job.rule if self.has_gate else {**job.rule, "enough_images": 0}  # no twins then
        job = replace(job, plan={**job.plan, **self.plan}, rule=rule)
        Path(job.folder).mkdir(parents=True)
        training_runs.plan(self.db, job)
        with plain_convolutions():
            report = retrain(job, CPU, Pacer(lambda _: None))
        if not self.has_gate:
            report = replace(report, verdict=Verdict.PROMOTED, confirmation=None)
        add_candidate(Path(job.folder) / CANDIDATE, self.config.zoo / report.model_id)
        training_runs.finish(self.db, run_id, report, decisions_of(self.db, job, report), self.now)
        return report

    def next_day(self):
        self.now += timedelta(days=1)

    def used(self):
        """Return the place of the model that new experiments are segmented with."""
        used = promotions.in_use(self.db, self.group)
        name = used.model.id if used else self.config.watch[0].model
        return find_model(name, self.config.zoo)

    def network(self):
        return load_model(self.used())

    def experiments(self):
        sql = """
            SELECT a.experiment, group_concat(DISTINCT t.model_id) FROM targets t
            JOIN acquisitions a ON a.id = t.acquisition_id WHERE t.state = 'done'
            GROUP BY a.experiment ORDER BY a.experiment
        """
        return dict(self.db.execute(sql).fetchall())

    def decisions(self):
        rows = self.db.execute("SELECT verdict, reason, numbers FROM promotions ORDER BY id")
        return [(v, r, json.loads(n)) for v, r, n in rows.fetchall()]
