import pytest

from cellwatch.errors import UsageError
from cellwatch.training.plans import (
    ENOUGH_EPOCHS,
    SCHEDULES,
    FitPlan,
    schedule_named,
    with_steps,
)


@pytest.mark.parametrize(
    ("name", "epoch", "rate"),
    [
        ("online", 0, 0.0), ("online", 5, 0.05), ("online", 10, 0.1), ("online", 99, 0.1),
        ("offline", 9, 0.09), ("offline", 249, 0.1), ("offline", 250, 0.05),
        ("offline", 254, 0.05), ("offline", 255, 0.025), ("offline", 299, 0.1 / 2**10),
        ("generalist", 10, 0.2), ("generalist", 399, 0.2), ("generalist", 400, 0.1),
        ("generalist", 410, 0.05), ("generalist", 499, 0.2 / 2**10),
    ],
)  # fmt: skip
def test_the_schedules_are_the_papers(name, epoch, rate):
    assert SCHEDULES[name].rate_at(epoch) == pytest.approx(rate)


def test_a_shorter_run_takes_the_same_rates_at_the_same_fractions():
    whole, half = FitPlan("generalist", 500), FitPlan("generalist", 250)

    assert [half.learning_rate(e) for e in range(250)] == pytest.approx(
        [whole.learning_rate(2 * e) for e in range(250)]
    )


def test_steps_count_batches():
    assert FitPlan("online", 100, images_per_epoch=16).steps == 200
    assert FitPlan("online", 100, images_per_epoch=9).steps_per_epoch == 2


@pytest.mark.parametrize("steps", [5, 20, 23, 50, 640, 2500])
def test_a_short_run_on_many_images_reaches_the_full_rate_soon(steps):
    plan = with_steps(FitPlan("online", 100, images_per_epoch=437), steps)

    rates = [plan.learning_rate(e) for e in range(plan.epochs) for _ in range(plan.steps_per_epoch)]

    assert steps <= len(rates) < steps + plan.steps_per_epoch
    assert sum(rate == 0 for rate in rates) <= max(1, steps / ENOUGH_EPOCHS)
    assert sum(rate == pytest.approx(0.1) for rate in rates) >= 0.7 * len(rates)


def test_a_run_that_is_long_enough_has_epochs_of_all_images():
    plan = with_steps(FitPlan("online", 100, images_per_epoch=437), 55 * 20)

    assert (plan.images_per_epoch, plan.epochs) == (437, 20)


def test_a_budget_is_never_filled_up():
    asked = FitPlan("offline", 300, images_per_epoch=200)

    assert with_steps(asked, 149, is_fixed=True).steps == 150
    assert with_steps(asked, 149, is_fixed=True, is_most=True).steps == 125


def test_epochs_that_must_be_long_need_steps_for_five():
    with pytest.raises(UsageError, match="give it 125 steps or more, or fewer images an epoch"):
        with_steps(FitPlan("online", 100, images_per_epoch=200), 100, is_fixed=True)


def test_an_unknown_schedule_lists_the_known():
    with pytest.raises(UsageError, match="online, offline, generalist"):
        schedule_named("overnight")
