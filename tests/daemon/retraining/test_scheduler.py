"""Training beside a running daemon: killed, suspended, asked for twice, and never half promoted."""

import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cellwatch.compute.executor import process_started
from cellwatch.daemon.corrections.inbox import Inbox, answer_requests
from cellwatch.daemon.jobs import models_of
from cellwatch.daemon.retraining import scheduler as training
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.outcome import add_candidate, decisions_of
from cellwatch.errors import RequestRefused
from cellwatch.records import (
    AskedRun,
    ModelCard,
    TrainJob,
    TrainReport,
    UsedModel,
    Verdict,
)
from cellwatch.storage.ledger import promotions, requests, training_runs
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.storage.reports import learning
from cellwatch.storage.reports.station import LEDGER, reader
from cellwatch.zoo.catalog import add_model
from tests.conftest import tiny_network
from tests.daemon.corrections.test_drop_watcher import Desk, truth
from tests.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXTRA = """
corrections: {folder: corrections}
retrain: {at: never, min_new_rois: 1, budget: BUDGET s}
"""


AT_NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def trainer_of(desk):
    """Return the pid of the trainer, found by the run folder on its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "daemon.retrain" in line and str(desk.folder) in line:
                return int(entry.name)
    return None


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.drill  # a minute and a half
def test_a_run_goes_on_after_trainer_and_daemon_were_killed_and_images_come_first(
    tmp_path, tiny_model, night_budget
):
    desk = Desk(tmp_path / "s", tiny_model.path, EXTRA.replace("BUDGET", str(night_budget)))
    desk.write(*[f"exp/{n}.tif" for n in range(3)])
    with desk.daemon() as daemon:
        assert desk.until(lambda: desk.counts() == {"done": 3}), desk.log()
        for n in range(3):
            desk.drop(f"{n}_masks.tif", truth(n))
            desk.accepted(f"{n}_masks.tif")
        assert "will be trained" in desk.command("retrain", "--now").stdout
        refused = desk.command("retrain", "images", "--now", check=False)
        assert refused.returncode == 1
        assert desk.until(lambda: trainer_of(desk)), desk.log()
        first = trainer_of(desk)
        time.sleep(2)
        os.kill(first, signal.SIGKILL)
        assert desk.until(lambda: trainer_of(desk) not in (None, first)), desk.log()
        daemon.kill()
        daemon.wait()
    assert desk.until(lambda: trainer_of(desk) is None)
    assert desk.rows("SELECT count(*) FROM promotions") == [(0,)]

    with desk.daemon():
        assert desk.until(lambda: trainer_of(desk)), desk.log()
        desk.write(*[f"new/{n}.tif" for n in range(4)], seed=30)
        assert desk.until(lambda: desk.counts() == {"done": 7}), desk.log()
        ended = "SELECT state FROM runs WHERE kind = 'asked'"
        assert desk.until(lambda: desk.rows(ended) == [("ended",)], 700), desk.log()
        status = desk.status()["learning"]
    assert len(desk.rows("SELECT * FROM promotions")) == 1
    assert status["groups"][0]["corrections"] == {"used": 3}
    assert "0 leaks" in desk.command("corrections", "audit").stderr
    assert "images-" in desk.command("models", "history").stdout


@pytest.fixture
def lab(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "lab", tiny_model.path, now)
    yield lab
    lab.close()


def nights_of(lab):
    nights = Nights(lab.db, lab.config, models_of(lab.config))
    training.take_up(nights, lab.now)
    return nights


def test_two_runs_asked_for_at_once_are_one(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    asked = AskedRun(lab.group, "asked", "2026-11-25")

    training.ask_for(nights, asked, lab.now)
    with pytest.raises(RequestRefused, match="waits for its turn already"):
        training.ask_for(nights, asked, lab.now)
    assert [waiting for _, waiting in training_runs.waiting(lab.db)] == [asked]


def test_promise_7_a_run_that_waits_for_its_turn_outlives_the_daemon(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    training.ask_for(nights_of(lab), AskedRun(lab.group, "asked", "2026-11-25"), lab.now)

    nights = nights_of(lab)  # another life
    training.turn(nights, is_busy=False, now=lab.now, local_now=AT_NOON)
    training.stop(nights)

    assert nights.job.group == lab.group
    assert lab.db.execute("SELECT kind, state FROM runs").fetchall() == [("asked", "running")]


def asks(lab, nights, kind, **arguments):
    """Have the daemon carry a request out; return its answer."""
    key = requests.ask(lab.db, kind, arguments, "anna", lab.now)
    answer_requests(Inbox(lab.db, lab.config, nights), lab.now)
    return requests.answer_to(lab.db, key)


def test_a_training_is_given_up_when_somebody_says_so(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    assert asks(lab, nights, "retrain", group=lab.group).is_done
    training.turn(nights, is_busy=False, now=lab.now, local_now=AT_NOON)
    process, folder = nights.process, Path(nights.job.folder)
    (folder / "fit").mkdir()
    assert "--cancel" in asks(lab, nights, "retrain", group=lab.group).text

    assert not asks(lab, nights, "cancel", group="", runs=[99]).is_done  # another one was meant
    assert asks(lab, nights, "cancel", group="", runs=[1]).is_done
    training.turn(nights, is_busy=False, now=lab.now, local_now=AT_NOON)

    assert process.poll() is not None
    assert not nights.is_training
    assert not (folder / "fit").exists()
    assert states_of(lab) == [("failed", "cancelled by anna")]
    assert lab.db.execute("SELECT state FROM corrections").fetchall() == [("trainable",)]


def test_a_training_of_a_daemon_that_ended_is_given_up_too(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    training_runs.begin(lab.db, AskedRun(lab.group, "night", "2026-11-25"), lab.now)
    training_runs.ask(lab.db, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    nights = Nights(lab.db, lab.config, models_of(lab.config))

    assert not asks(lab, nights, "cancel", group="other", runs=[1, 2]).is_done
    assert asks(lab, nights, "cancel", group=lab.group, runs=[1, 2]).facts["groups"] == [lab.group]
    assert states_of(lab) == [("failed", "cancelled by anna")] * 2
    with reader(lab.config.state.folder / LEDGER) as db:
        told = learning.decisions(db)
    assert [(row.verdict, row.reason) for row in told] == [("cancelled", "cancelled by anna")] * 2


def states_of(lab):
    return lab.db.execute("SELECT state, reason FROM runs ORDER BY id").fetchall()


def test_a_run_that_was_begun_and_not_put_together_is_put_together_in_the_next_life(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    training_runs.begin(lab.db, AskedRun(lab.group, "night", "2026-11-25"), lab.now)

    nights = nights_of(lab)

    assert (nights.job.kind, nights.job.run_id) == ("night", 1)
    assert lab.db.execute("SELECT state FROM runs").fetchall() == [("running",)]


def test_without_a_daemon_no_night_is_run(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "nightly", tiny_model.path, now, at='"02:00"')
    nights = nights_of(lab)
    training.turn_asked(nights, now=lab.now)
    assert lab.db.table("runs").count == 0
    lab.close()


def test_a_run_of_a_group_that_was_taken_out_of_the_configuration_fails_and_says_so(lab):
    training_runs.ask(lab.db, AskedRun("gone", "asked", "2026-11-25"), lab.now)
    nights = nights_of(lab)
    training.turn(nights, is_busy=False, now=lab.now, local_now=AT_NOON)

    rows = lab.db.execute("SELECT state, reason FROM runs").fetchall()
    assert rows == [("failed", "the configuration has no group 'gone' any more")]
    assert not nights.is_training


@pytest.fixture
def trained(lab):
    """A station whose trainer has just left its report and its candidate."""
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    training.ask_for(nights, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    training.turn(nights, is_busy=False, now=lab.now, local_now=AT_NOON)
    training.stop(nights)
    folder = Path(nights.job.folder)
    card = add_model(folder / "candidate", tiny_network(), ModelCard(nights.job.model_id, "", 0, 0))
    report = TrainReport(
        card.id, card.sha256, {card.sha256: (1,)}, (), Verdict.DECLINED, "why", {}, None, "", 1.0
    )
    (folder / "report.json").write_text(json.dumps(report.to_json()))
    return nights


def test_a_candidate_that_cannot_be_put_into_the_zoo_waits_and_the_daemon_lives(lab, trained):
    lab.config.zoo.parent.mkdir(exist_ok=True)
    lab.config.zoo.write_text("a file where the zoo should be")
    training.turn(trained, is_busy=False, now=lab.now, local_now=AT_NOON)
    assert training_runs.unfinished(lab.db) is not None
    assert trained.again_at > time.monotonic()

    lab.config.zoo.unlink()
    trained.again_at = 0.0
    training.turn(trained, is_busy=False, now=lab.now, local_now=AT_NOON)
    assert training_runs.unfinished(lab.db) is None
    (model,) = lab.db.execute("SELECT model_id FROM runs").fetchone()
    assert [made.name for made in lab.config.zoo.iterdir()] == [model]
    assert trained.process is None  # nothing was trained again


def test_a_report_that_is_broken_is_given_up_and_the_model_stays(lab, trained):
    (Path(trained.job.folder) / "report.json").write_text('{"model_id": 3')
    training.turn(trained, is_busy=False, now=lab.now, local_now=AT_NOON)

    state, reason = lab.db.execute("SELECT state, reason FROM runs").fetchone()
    assert state == "failed"
    assert "cannot be taken in" in reason
    assert promotions.in_use(lab.db, lab.group) is None


def test_a_night_without_news_is_skipped_once_and_says_so(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "nightly", tiny_model.path, now, at='"02:00"')
    nights = nights_of(lab)
    night = datetime(2026, 11, 25, 3, tzinfo=UTC)
    for _ in range(3):
        nights.checked_at = 0.0
        training.turn(nights, is_busy=False, now=lab.now, local_now=night)

    rows = lab.db.execute("SELECT kind, local_date, state, reason FROM runs").fetchall()
    assert rows == [("night", "2026-11-25", "skipped", "")]
    assert nights.job is None
    lab.close()


def test_f77_a_night_that_a_training_outlasts_is_skipped_with_a_note(tmp_path, tiny_model, now):
    lab = Lab(tmp_path / "nightly", tiny_model.path, now, at='"02:00"')
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    training.ask_for(nights, AskedRun(lab.group, "asked", "2026-11-24"), lab.now)
    for hour in (1, 3, 4):
        local = datetime(2026, 11, 25, hour, tzinfo=UTC)
        nights.missed_at = 0.0
        training.turn(nights, is_busy=False, now=lab.now, local_now=local)
    training.stop(nights)

    sql = "SELECT state, reason FROM runs WHERE kind = 'night' AND local_date = '2026-11-25'"
    ((state, reason),) = lab.db.execute(sql).fetchall()
    assert state == "skipped"
    assert "of the same group was still under way" in reason
    lab.close()


def test_promise_9_a_trainer_is_stopped_while_images_wait_and_goes_on_after(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    training.ask_for(nights, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    local = datetime(2026, 11, 25, 1, tzinfo=UTC)

    training.turn(nights, is_busy=False, now=lab.now, local_now=local)
    pid = nights.process.pid
    training.turn(nights, is_busy=True, now=lab.now, local_now=local)
    assert until(lambda: state_of(pid) == "T")
    training.turn(nights, is_busy=False, now=lab.now, local_now=local)
    assert until(lambda: state_of(pid) in "SRD")
    training.stop(nights)

    assert process_started(pid) is None
    assert training_runs.unfinished(lab.db).kind == "asked"


def test_a_trainer_that_dies_three_times_is_given_up_and_the_model_stays(lab):
    lab.arrive("a.tif", *picture())
    lab.segment_all()
    lab.correct("a.tif")
    nights = nights_of(lab)
    training.ask_for(nights, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    local = datetime(2026, 11, 25, 1, tzinfo=UTC)
    for _ in range(3):
        training.turn(nights, is_busy=False, now=lab.now, local_now=local)
        nights.process.kill()
        nights.process.wait()
    training.turn(nights, is_busy=False, now=lab.now, local_now=local)

    row = lab.db.execute("SELECT state, reason FROM runs WHERE kind = 'asked'").fetchone()
    assert row == ("failed", "the trainer died 3 times (SIGKILL)")
    assert promotions.in_use(lab.db, lab.group) is None


def test_a_candidate_whose_ledger_row_is_missing_is_added_once(tmp_path):
    made, place = tmp_path / "run/candidate", tmp_path / "zoo/m-20261125-1"
    add_model(made, tiny_network(), ModelCard("m-20261125-1", "", 0.0, 0.0))
    add_candidate(made, place)

    add_candidate(made, place)
    add_model(made, tiny_network(3), ModelCard("m-20261125-1", "", 0.0, 0.0))
    with pytest.raises(RequestRefused, match="is another model"):
        add_candidate(made, place)


def job(lab, predecessor=None):
    training_runs.begin(lab.db, AskedRun(lab.group, "asked", "2026-11-25"), lab.now)
    base = UsedModel("base", "sha-base", "/base")
    incumbent = UsedModel("first", "sha-first", "/first") if predecessor else base
    return TrainJob(
        1, lab.group, "night", "/run", "second", base, incumbent, predecessor, (), {}, {}, {},
        {}, {}, 1.0, "cpu", 0.5, 1,
    )  # fmt: skip


def said(verdict, confirmation=None):
    return TrainReport(
        "second", "sha-second", {}, (), verdict, "why", {}, confirmation, "because", 1.0
    )


def test_a_revoked_model_gives_its_place_back_before_the_candidate_is_judged(lab):
    base = UsedModel("base", "sha-base", "/base")
    with_first = Decision(
        lab.group, Verdict.PROVISIONAL, ModelName("first", "sha-first"), None, "r", {}, None, "gate"
    )
    promotions.decide(lab.db, with_first, lab.now)

    revoked, declined = decisions_of(
        lab.db, job(lab, base), said(Verdict.DECLINED, Verdict.REVOKED)
    )

    assert (revoked.verdict, revoked.model.id) == (Verdict.REVOKED, "base")
    assert (declined.verdict, declined.model.id) == (Verdict.DECLINED, "second")
    for decision in (revoked, declined):
        promotions.decide(lab.db, decision, lab.now)
    assert promotions.in_use(lab.db, lab.group).model.id == "base"


def test_a_choice_of_a_person_while_a_run_is_under_way_stands(lab):
    by_hand = Decision(
        lab.group, Verdict.BY_HAND, ModelName("mine", "sha-mine"), None, "r", {}, None, "anna"
    )
    promotions.decide(lab.db, by_hand, lab.now)

    (decision,) = decisions_of(lab.db, job(lab), said(Verdict.PROMOTED))

    assert decision.verdict == Verdict.INCONCLUSIVE
    assert "'mine' was chosen while" in decision.reason
    assert "would have been promoted: why" in decision.reason


def test_a_report_survives_its_way_through_json():
    report = said(Verdict.PROMOTED, Verdict.CONFIRMED)

    assert TrainReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def picture():
    from tests.discs import disc_picture

    return disc_picture(1, size=64, n=3)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
