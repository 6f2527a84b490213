import pytest

from cellwatch.errors import UsageError
from cellwatch.training.plans import SCHEDULES, FitPlan, schedule_named


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


def test_an_unknown_schedule_lists_the_known():
    with pytest.raises(UsageError, match="online, offline, generalist"):
        schedule_named("overnight")
