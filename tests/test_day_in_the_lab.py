"""A week in the lab: images arrive, an oracle corrects, five nights; the gate keeps poison out."""

from contextlib import closing

import numpy as np
import pytest

from cellwatch.core.matching import match
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.records import ModelCard
from cellwatch.storage.ledger import confirmations, training_runs
from cellwatch.zoo.catalog import add_model
from tests.discs import disc_picture
from tests.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(900)]

TOOLS = ("napari", "cellpose", "fiji", "qupath")
SIZE, RIM = 128, 4
PER_DAY = 5


def picture(seed):
    """Discs as a new stain shows them: bright rims around dim cores, which the base never saw."""
    _, labels = disc_picture(1000 + seed, size=SIZE, n=10)
    inside = labels > 0
    core = np.zeros_like(inside)
    core[RIM:-RIM, RIM:-RIM] = (
        inside[2 * RIM :, RIM:-RIM]
        & inside[: -2 * RIM, RIM:-RIM]
        & inside[RIM:-RIM, 2 * RIM :]
        & inside[RIM:-RIM, : -2 * RIM]
    )
    bright = np.where(inside & ~core, 500.0, np.where(core, 150.0, 100.0))
    return np.random.default_rng(seed).poisson(bright).astype(np.uint16), labels


def unseen_ap(network):
    """AP@0.5 on an oracle's set that no station ever sees."""
    params = SegmentationParams(diameter=Diameter("model"))
    values = []
    for seed in range(900, 906):
        pixels, labels = picture(seed)
        found = segment(pixels[None], network, params)
        values.append(match(labels, found.labels, (0.5,))[0].average_precision)
    return float(np.mean(values))


def shifted(labels):
    return np.roll(labels, (10, 10), axis=(0, 1))


def merged(labels):
    """Neighbours as one: every second ROI takes the number of the one before."""
    return ((labels + 1) // 2).astype(np.int32)


def half_deleted(labels):
    return np.where(labels % 2 == 0, labels, 0).astype(np.int32)


POISONED = {4: shifted, 5: shifted}


def live(lab, days, poisons):
    """Let days pass; `poisons` says by day what is wrong with its corrections."""
    for day in range(1, days + 1):
        one_day(lab, day, poisons)
        lab.next_day()


def one_day(lab, day, poisons):
    for n in range(PER_DAY):
        lab.arrive(f"day{day}/im{day}{n}.tif", *picture(10 * day + n))
    lab.segment_all()
    for n in range(PER_DAY):
        relative, tool = f"day{day}/im{day}{n}.tif", TOOLS[n % 4]
        labels = poisons.get(day, np.copy)(lab.truth[relative])
        crop = (16, 8, 104, 112) if n == 3 else None
        row = lab.correct(relative, tool, labels, crop)
        if poisons.get(day) is shifted and row.state == "rejected":
            # Seen through at once; the gate is to hold against a person who insists, too.
            assert "would fit the image far better moved by -10 rows" in row.reason
            confirmations.confirm(lab.db, row.id, "anna", lab.now)
            row = lab.drop(row.file)
        assert row.state == "trainable", row.reason
    lab.night()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tests.discs import trained_on_discs

    folder = tmp_path_factory.mktemp("base") / "tiny"
    add_model(folder, trained_on_discs(), ModelCard("tiny", "", 0.0, 0.0))
    return folder


def test_a_week_with_the_gate_ends_better_than_it_began_and_better_than_without(
    tmp_path, base, now
):
    with closing(Lab(tmp_path / "gated", base, now)) as lab:
        began = unseen_ap(lab.network())
        live(lab, 5, POISONED)
        ended, decisions, leaks = (
            unseen_ap(lab.network()),
            lab.decisions(),
            training_runs.leaks(lab.db),
        )
        held_by_the_ledger(lab)
    with closing(Lab(tmp_path / "ungated", base, now, has_gate=False)) as control:
        live(control, 5, POISONED)
        without = unseen_ap(control.network())

    assert ended > began + 0.3
    assert ended > without + 0.1
    verdicts = [verdict for verdict, _, _ in decisions]
    assert verdicts[0] == "promoted"
    assert verdicts[3:] == ["declined", "declined"]
    assert all(reason for _, reason, _ in decisions)
    assert leaks == []


@pytest.mark.parametrize("poison", [shifted, merged, half_deleted], ids=lambda p: p.__name__)
def test_poisoned_corrections_are_declined_and_the_model_in_use_serves_on(
    tmp_path, base, now, poison
):
    with closing(Lab(tmp_path / "lab", base, now)) as lab:
        live(lab, 1, {})
        before = lab.used()
        one_day(lab, 2, {2: poison})

        assert lab.decisions()[0][0] == "promoted"
        verdict, reason, _ = lab.decisions()[-1]
        print(poison.__name__, verdict, reason)
        assert verdict == "declined"
        assert reason
        assert lab.used() == before


def held_by_the_ledger(lab):
    """Every model's lineage: what it came from, what it learned from, why it was used."""
    rows = lab.db.execute("SELECT model_id, model_sha256 FROM runs WHERE state = 'ended'")
    for model_id, sha256 in rows.fetchall():
        card = lab.config.zoo / model_id / "card.json"
        assert card.exists()
        sql = "SELECT count(*) FROM trained_on WHERE model_sha256 = ?"
        assert lab.db.execute(sql, [sha256]).fetchone()[0] >= PER_DAY
        sql = "SELECT count(*) FROM promotions WHERE model_id = ? AND reason != ''"
        assert lab.db.execute(sql, [model_id]).fetchone()[0] >= 1
    assert lab.db.execute("SELECT base_model_id FROM groups").fetchone() == ("tiny",)
