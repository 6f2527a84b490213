"""An alarm is raised when several images in a row leave the range, once, and ends with it."""

from datetime import timedelta

import numpy as np
import pytest

from cellwatch.core.quality import background, sharpness
from cellwatch.daemon.alarms import IN_A_ROW, LEAST, departure, watch_over
from cellwatch.records import ImageInfo, Outcome, TargetResult
from cellwatch.storage.ledger import acquisitions, queue
from cellwatch.storage.ledger.database import open_ledger
from cellwatch.storage.reports import alarms
from cellwatch.workflows.simulate import Optics, expose, render_cells

RNG = np.random.default_rng(3)


@pytest.fixture
def station(tmp_path):
    return Station(open_ledger(tmp_path))


class Station:
    """A ledger to which images are finished one by one."""

    def __init__(self, db):
        self.db, self.n = db, 0

    def finish(self, now, experiment="day1", **measures):
        path = f"/scope/{experiment}/{self.n}.tif"
        arrival = acquisitions.Arrival(
            "scope", path, path[7:], experiment, str(self.n), 1, 1, ImageInfo(path)
        )
        acquisitions.enqueue(self.db, arrival, f"/out{path}.zarr", ["cells"], now)
        queue.claim(self.db, device="cpu", worker_pid=1, now=now, lease=timedelta(hours=1))
        self.n += 1
        facts = {"rois": 40, "confidence": 0.9, "sharpness": 0.4, "background": 120.0, **measures}
        result = TargetResult("cells", diameter=20.0, model_id="m", model_sha256="s", **facts)
        key = self.db.execute("SELECT max(id) FROM acquisitions").fetchone()[0]
        outcome = Outcome(key, planes=1, targets=(result,), seconds=1.0)
        queue.finish(self.db, outcome, {"cells": {"params": "{}"}}, now)
        return watch_over(self.db, key, now)


def usual():
    return {"rois": int(RNG.normal(40, 4)), "confidence": float(RNG.normal(0.9, 0.01))}


def test_focus_that_is_lost_is_an_alarm_once_and_its_return_ends_it(station, now):
    said = [line for _ in range(30) for line in station.finish(now, **usual())]
    assert said == []

    lost = [station.finish(now, **{**usual(), "rois": 2}) for _ in range(8)]

    assert [len(lines) for lines in lost] == [0] * (IN_A_ROW - 1) + [1] + [0] * (8 - IN_A_ROW)
    assert "ALARM: scope/day1, cells: ROIs an image have fallen from" in lost[IN_A_ROW - 1][0]
    (alarm,) = alarms.active(station.db)
    assert (alarm.measure, alarm.acquisition_id) == ("rois", 31)

    back = [station.finish(now, **usual()) for _ in range(6)]

    assert sum(len(lines) for lines in back) == 1
    assert "is as before again" in next(lines[0] for lines in back if lines)
    assert alarms.active(station.db) == []


@pytest.mark.parametrize(
    ("measure", "value"),
    [("confidence", 0.5), ("sharpness", 0.2), ("background", 15.0), ("background", 900.0)],
)
def test_each_measure_may_raise_it(station, now, measure, value):
    for _ in range(20):
        station.finish(now, **usual())

    said = [line for _ in range(5) for line in station.finish(now, **{**usual(), measure: value})]

    assert len(said) == 1
    assert alarms.active(station.db)[0].measure == measure


def test_another_experiment_has_a_range_of_its_own(station, now):
    for _ in range(20):
        station.finish(now, **usual())

    said = [line for _ in range(LEAST + 5) for line in station.finish(now, "day2", rois=3)]

    assert said == []


def test_one_odd_image_and_a_slow_drift_are_no_alarm(station, now):
    for n in range(80):
        rois = 1 if n % 11 == 10 else int(40 + n / 4)
        assert station.finish(now, **{**usual(), "rois": rois}) == []


def test_too_few_images_have_no_range():
    assert departure("rois", [40] * (LEAST - 1), [0, 0, 0]) is None
    assert departure("rois", [40] * LEAST, [0, 0, None]) is None
    assert departure("confidence", [None] * 40, [0.1] * 3) is None


@pytest.mark.parametrize("seed", range(10))
def test_ten_healthy_runs_raise_none_and_a_lost_focus_does_within_five(seed):
    rng = np.random.default_rng(seed)
    sharp, dark = [], []
    for frame in range(70):
        optics = Optics(diameter=18, density=0.12, psf=6.0 if frame >= 60 else 1.2)
        pixels = expose(render_cells(256, optics, rng)[0], optics, rng)
        sharp.append(sharpness(pixels))
        dark.append(background(pixels))

    for measure, values in (("sharpness", sharp), ("background", dark)):
        for end in range(LEAST + IN_A_ROW, 60):
            assert after(measure, values, end) is None
    assert any(after("sharpness", sharp, end) for end in (63, 64, 65))


def after(measure, values, end):
    return departure(measure, values[: end - IN_A_ROW], values[end - IN_A_ROW : end])
