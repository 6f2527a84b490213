"""Every way in which instruments write, at the same time, into a running daemon: is all done right?

For each seed a station is made, its daemon started, and one `cellwatch simulate` begun for every
scenario, all at once. When nothing is left to do, `cellwatch verify --manifest` compares the ledger
and the mask stores with what was written: each finished image has one current result, of its last
content; contents that stood for longer than a moment have at most one superseded result; an image
that was never finished has none.

    python bench/writing_styles.py --seeds 5 --out bench/writing_styles.json
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cellwatch.workflows.simulate import SCENARIOS

COMMAND = [sys.executable, "-m", "cellwatch"]
CONFIG = """
watch: [{folder: images, model: nuclei, diameter: 18}]
output: {folder: masks, also: []}
state: {folder: state}
"""
QUIET_S = 35.0  # nothing has happened for so long: two scans, and the wait for zeros to be filled
WITHIN_S = 400.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pause", type=float, default=4.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows += one_seed(Path(folder), seed, options)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    wrong = [row for row in rows if row["problems"]]
    print(f"{len(rows)} simulations, {len(wrong)} with problems")
    sys.exit(bool(wrong))


def one_seed(station: Path, seed: int, options: argparse.Namespace) -> list[dict]:
    (station / "images").mkdir()
    (station / "config.yaml").write_text(CONFIG, encoding="utf-8")
    began = time.monotonic()
    with (station / "log.txt").open("w") as log:
        words = [*COMMAND, "run", "--config", str(station / "config.yaml")]
        daemon = subprocess.Popen(words, stdout=log, stderr=log, cwd=station)
        try:
            time.sleep(2.0)
            simulators = [begin(station, name, seed, options) for name in SCENARIOS]
            for simulator in simulators:
                if simulator.wait(WITHIN_S):
                    raise SystemExit(f"a simulator ended with {simulator.returncode}")
            wait_until_quiet(station / "state/cellwatch.db")
        finally:
            daemon.terminate()
            daemon.wait(30)
    rows = [checked(station, name, seed) for name in SCENARIOS]
    print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    return rows


def begin(
    station: Path, scenario: str, seed: int, options: argparse.Namespace
) -> "subprocess.Popen[bytes]":
    words = [*COMMAND, "simulate", scenario, "--to", str(station / "images" / scenario)]
    words += ["--n", str(options.images), "--size", str(options.size), "--seed", str(seed)]
    words += ["--pause", str(options.pause), "--manifest", str(station / f"{scenario}.json")]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=station)


def wait_until_quiet(ledger: Path) -> None:
    until, quiet_since, before = time.monotonic() + WITHIN_S, time.monotonic(), ""
    while time.monotonic() < until and time.monotonic() - quiet_since < QUIET_S:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30) as db:
            sql = "SELECT group_concat(id || state || attempts) FROM acquisitions"
            now = str(db.execute(sql).fetchone()[0])
            left = "SELECT count(*) FROM acquisitions WHERE state IN ('queued', 'running')"
            is_busy = db.execute(left).fetchone()[0]
        if now != before or is_busy:
            quiet_since, before = time.monotonic(), now
        time.sleep(0.5)


def checked(station: Path, scenario: str, seed: int) -> dict:
    words = ["verify", "--manifest", str(station / f"{scenario}.json"), "--json"]
    done = subprocess.run(
        [*COMMAND, *words, "--config", str(station / "config.yaml")],
        capture_output=True, text=True, check=False, cwd=station,
    )  # fmt: skip
    problems = json.loads(done.stdout)["problems"] if done.stdout else [done.stderr]
    with sqlite3.connect(station / "state/cellwatch.db") as db:
        like = f"{scenario}/%"
        sql = """
            SELECT count(*), sum(superseded_by IS NOT NULL AND finished_at IS NOT NULL)
            FROM acquisitions WHERE relative_path LIKE ?
        """
        n_rows, superseded = db.execute(sql, [like]).fetchone()
        sql = """
            SELECT count(*) FROM attempts JOIN acquisitions a ON a.id = acquisition_id
            WHERE relative_path LIKE ? AND outcome = 'done'
        """
        (computed,) = db.execute(sql, [like]).fetchone()
    row = {"scenario": scenario, "seed": seed, "rows": n_rows, "computed": computed}
    row |= {"superseded": superseded or 0, "problems": problems}
    for problem in problems:
        print(f"seed {seed}, {scenario}: {problem}", flush=True)
    return row


if __name__ == "__main__":
    main()
