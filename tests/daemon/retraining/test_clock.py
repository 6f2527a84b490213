"""One night for each local date, whatever the clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from cellwatch.daemon.retraining.clock import Turns, night_due

BERLIN = ZoneInfo("Europe/Berlin")


def nights(start, end, at, step=timedelta(minutes=10), done=(), off=()):
    """Walk real time and return at which local times a night was begun."""
    begun, dates, now = [], list(done), start
    while now < end:
        local = now.astimezone(BERLIN)
        is_off = any(first <= now < last for first, last in off)
        if not is_off and (night := night_due(at, dates, local)):
            dates.append(night)
            begun.append((night, local.strftime("%H:%M")))
        now += step
    return begun


@pytest.mark.parametrize("at", ["02:00", "02:30", "03:00"])
@pytest.mark.parametrize(
    "change", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)]
)
def test_a_night_with_a_clock_change_has_one_run(at, change):
    day = (change.astimezone(BERLIN) - timedelta(days=1)).date().isoformat()

    begun = nights(change - timedelta(days=1), change + timedelta(days=2), at, done=[day])

    days = [(change + timedelta(days=n)).date().isoformat() for n in (0, 1)]
    assert [date for date, _ in begun] == days
    # In spring the hour from two to three is left out.
    assert dict(begun)[days[0]] == (at if change.month == 10 else "03:00")


def test_a_machine_that_was_off_at_two_catches_up_once():
    start = datetime(2026, 11, 28, 12, tzinfo=UTC)
    off = [(datetime(2026, 11, 28, 22, tzinfo=UTC), datetime(2026, 11, 30, 9, 30, tzinfo=UTC))]

    begun = nights(start, start + timedelta(days=4), "02:00", done=["2026-11-28"], off=off)

    assert begun == [("2026-11-30", "10:30"), ("2026-12-01", "02:00"), ("2026-12-02", "02:00")]


def test_never_is_never():
    assert night_due("never", [], datetime(2026, 11, 30, 3, tzinfo=UTC)) == ""


def test_a_clock_that_was_wrong_for_a_while_holds_nothing_up_and_storms_nothing():
    done = ["2026-11-29", "2099-01-01"]

    assert night_due("02:00", done, datetime(2026, 11, 30, 3, tzinfo=UTC)) == "2026-11-30"
    assert night_due("02:00", [*done, "2026-11-30"], datetime(2026, 11, 30, 3, tzinfo=UTC)) == ""
    assert night_due("02:00", ["2026-11-30"], datetime(2026, 11, 20, 3, tzinfo=UTC)) == "2026-11-20"


def test_a_clock_set_back_by_a_day_runs_no_night_twice():
    assert night_due("02:00", ["2026-11-30"], datetime(2026, 11, 29, 3, tzinfo=UTC)) == ""


def test_training_stands_still_while_images_wait_and_has_its_share_by_the_end_of_the_hour():
    turns, ran = Turns(0.2), 0
    for second in range(1, 3 * 3600 + 1):
        ran += turns.may_run(is_busy=True, now=float(second))
        if second % 3600 == 2400:
            assert ran <= second / 3600 * 720 + 2

    assert ran == pytest.approx(3 * 720, abs=5)


def test_training_runs_when_nothing_waits():
    turns = Turns(0.2)

    assert all(turns.may_run(is_busy=False, now=float(second)) for second in range(1, 5000))
    assert not turns.may_run(is_busy=True, now=5000.0)
