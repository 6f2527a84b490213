"""The report shows what the ledger has, in any browser, and stays small."""

import json
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from cellwatch.storage.ledger.database import open_ledger, transaction
from cellwatch.storage.reports.html import page, write_report
from cellwatch.storage.reports.html.facts import page_facts
from cellwatch.storage.reports.station import LEDGER, last_change, reader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STATES = ("done", "done", "done", "done", "done", "done", "failed", "waiting")
NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
NASTY = "<!--<script></script><script>alert(1)</script>.tif"


def fill(state, output, n):
    """Make a ledger of n images: a plate, three experiments, doubts, failures."""
    db = open_ledger(state)
    with transaction(db):
        for key in range(1, n + 1):
            at = (NOW - timedelta(minutes=n - key)).isoformat(timespec="milliseconds")
            name = NASTY if key == 1 else f"img_{key:05d}.tif"
            is_field = key % 4 == 0
            relative = f"p/9987.HTD/{'ABCDEFGH'[key % 8]}{key % 12 + 1:02d}/{key}"
            relative = relative if is_field else f"exp {key % 3}/{name}"
            done = STATES[key % len(STATES)] == "done"
            db.table("acquisitions").insert(
                {
                    "id": key, "watch": "scope", "path": f"/scope/{relative}",
                    "relative_path": relative, "experiment": relative.split("/")[0],
                    "fingerprint": f"{key:032x}", "size": 1000, "mtime_ns": 1,
                    "state": STATES[key % len(STATES)], "state_since": at, "arrived_at": at,
                    "finished_at": at if done else None, "reason": None if done else "it is cut",
                    "store": f"{output}/scope/{relative}{'' if is_field else '.zarr'}",
                    "plate": "p/9987" if is_field else None,
                    "well": relative.split("/")[2] if is_field else None,
                    "field": key if is_field else None,
                }
            )  # fmt: skip
            db.table("targets").insert(
                {
                    "acquisition_id": key, "name": "cells", "state": "done" if done else "failed",
                    "model_id": "general", "model_sha256": "f" * 64,
                    "rois": key % 90 if done else None,
                    "confidence": 0.5 + key % 50 / 100 if done else None,
                    "novelty": key % 20 / 10 if done else None,
                }
            )  # fmt: skip
        db.table("folders").insert(
            {"name": "scope", "path": "/scope", "state": "offline", "reason": "it is gone"}
        )
    db.close()


@pytest.fixture
def report(tmp_path):
    def made(n):
        state, output = tmp_path / "state", tmp_path / "masks"
        state.mkdir()
        output.mkdir()
        fill(state, output, n)
        return write_report(state, output, "scope", NOW)

    return made


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.parametrize("n", [0, 1, 40])
def test_the_page_has_what_the_ledger_has(report, n):
    data = data_of(report(n))

    assert data["n_images"] == len(data["images"]) == n
    assert sum(data["counts"].values()) == n
    assert sum(e["images"] for e in data["experiments"]) == n
    assert len(data["failures"]) == data["counts"]["failed"]
    assert data["folders"][0]["reason"] == "it is gone"
    if n == 40:
        (plate,) = data["plates"]
        assert sum(well["fields"] for well in plate["wells"]) == plate["fields"] == 10
        done = [row for row in data["images"] if data["names"][row[4]] == "done"]
        assert data["today"]["rois"] == sum(row[6] for row in done)
        assert done[-1][-1].startswith("scope/exp ")
        assert done[-1][-1].endswith("_preview.webp")


def test_a_name_that_is_html_stays_a_name(report):
    path = report(1)

    assert NASTY not in path.read_text(encoding="utf-8")
    data = data_of(path)
    (row,) = data["images"]
    assert f"{data['names'][row[1]]}/{row[2]}".endswith(NASTY)


def test_it_loads_nothing_from_anywhere(report):
    text = report(1).read_text(encoding="utf-8")

    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert "default-src 'none'" in text


@pytest.mark.timeout(60)
def test_ten_thousand_images_are_a_small_page_that_is_made_quickly(report, tmp_path):
    began = time.process_time()
    path = report(10_000)
    with reader(tmp_path / "state" / LEDGER) as db:
        before = last_change(db)
        made = time.process_time()
        page(page_facts(db, tmp_path / "masks", "scope", NOW))
        took = time.process_time() - made

    assert path.stat().st_size < 2_000_000
    assert took < 3
    assert time.process_time() - began < 50
    assert before


def browsed(path, tmp_path, *more):
    """Return the page as a browser shows it, and what it says on its console."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", *more]
    done = subprocess.run(
        [CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=90, check=False
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("n", [0, 1, 10_000])
def test_a_browser_shows_it_without_an_error(report, tmp_path, n):
    shown, said = browsed(report(n), tmp_path, "--dump-dom")

    assert 'data-ready="yes"' in shown
    assert [line for line in said if "net::ERR_FILE_NOT_FOUND" not in line] == []
    assert "/scope is offline: it is gone" in shown
    table = shown[shown.index('id="image-table"') :]
    assert table.count('class="is-row"') == min(n, 100)
    assert "alert(1)" not in shown or n > 1 or "&lt;/script&gt;" in shown
    if n > 1:
        assert "fewest in" in shown
        assert "10,000 images" in shown
