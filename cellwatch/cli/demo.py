"""Commands to see it work without a microscope: simulate and demo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from cellwatch.cli.console import print_table, progress, tell
from cellwatch.cli.station import example_config
from cellwatch.errors import CellwatchError, UsageError

DEMO_IMAGES = 5
DEMO_SIZE = 256
DEMO_WITHIN_S = 80.0


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(simulate)
    app.command()(demo)


def simulate(
    scenario: Annotated[
        str, typer.Argument(help="How the images are written; `list` names all scenarios.")
    ],
    to: Annotated[Path | None, typer.Option(help="Folder to write into.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Number of images, or of time points.")] = 10,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of the field, px.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same images.")] = 0,
    pause: Annotated[
        float, typer.Option(min=0, help="How long an instrument rests amid an image, s.")
    ] = 3.0,
    manifest: Annotated[
        Path | None, typer.Option(help="Write a manifest of the images, for verify.")
    ] = None,
) -> None:
    """Act as a microscope: render cells and write them as instruments do."""
    from cellwatch.workflows.simulate import SCENARIOS, write_manifest
    from cellwatch.workflows.simulate import simulate as write_images

    if scenario == "list":
        print_table("", ["scenario", "what is written"], [list(row) for row in SCENARIOS.items()])
        return
    if scenario not in SCENARIOS:
        raise UsageError(f"there is no scenario '{scenario}'; there are {', '.join(SCENARIOS)}")
    if to is None:
        raise UsageError("--to FOLDER is missing: where are the images to be written?")
    with progress("exposing", n) as advance:
        images = write_images(scenario, to, n, size, seed, advance, pause)
    if manifest:
        write_manifest(manifest, scenario, seed, images)
    tell(f"{len(images)} images in {to}")


def demo(
    keep: Annotated[bool, typer.Option(help="Keep the station for a closer look.")] = False,
) -> None:
    """See it work: a temporary station, a simulated microscope, real masks."""
    folder = Path(tempfile.mkdtemp(prefix="cellwatch-demo-"))
    try:
        _demo_in(folder, is_kept=keep)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _demo_in(folder: Path, *, is_kept: bool) -> None:
    config = folder / "config.yaml"
    config.write_text(example_config(), encoding="utf-8")
    (folder / "images").mkdir()
    environment = {**os.environ, "CELLWATCH_CONFIG": str(config)}
    command = [sys.executable, "-m", "cellwatch"]
    tell(f"a station in {folder}; the daemon starts")
    daemon = subprocess.Popen([*command, "run"], env=environment)
    try:
        experiment = folder / "images" / "experiment-1"
        tell(f"a microscope writes {DEMO_IMAGES} images into {experiment}")
        simulating = ["simulate", "rename", "--to", str(experiment), "--n", str(DEMO_IMAGES)]
        sizes = ["--size", str(DEMO_SIZE), "--manifest", str(folder / "manifest.json")]
        subprocess.run([*command, *simulating, *sizes], check=True)
        tell("the worker loads torch and compiles its kernels: up to half a minute the first time")
        _wait_for_masks(command, environment, daemon)
        for words in (["status"], ["verify", "--manifest", str(folder / "manifest.json")]):
            tell(f"\n$ cellwatch {words[0]}")
            sys.stderr.flush()
            subprocess.run([*command, *words], env=environment, check=False)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(15)
    _show_what_next(folder, is_kept=is_kept)


def _wait_for_masks(
    command: list[str], environment: dict[str, str], daemon: "subprocess.Popen[bytes]"
) -> None:
    until = time.monotonic() + DEMO_WITHIN_S
    while time.monotonic() < until:
        if daemon.poll() is not None:
            raise CellwatchError(f"the daemon ended with exit code {daemon.returncode}")
        asked = subprocess.run(
            [*command, "status", "--json"], env=environment, capture_output=True, check=False
        )
        counts = json.loads(asked.stdout)["counts"] if asked.stdout else {}
        bad = counts.get("failed", 0) + counts.get("quarantined", 0)
        if counts.get("done", 0) + bad >= DEMO_IMAGES:
            return
        time.sleep(1.0)
    raise CellwatchError(
        f"no {DEMO_IMAGES} masks within {DEMO_WITHIN_S:.0f} s; see the lines above"
    )


def _show_what_next(folder: Path, *, is_kept: bool) -> None:
    stores = sorted(folder.rglob("*.zarr"))
    tell("\nthe masks:")
    for path in [*stores[:2], *sorted(folder.rglob("*_masks.tif"))[:1]]:
        tell(f"  {path.relative_to(folder)}")
    tell("\nlook further:")
    where = folder if is_kept else "STATION"
    if not is_kept:
        tell("  cellwatch demo --keep                     leave the station for a closer look")
    tell("  cellwatch init STATION                    make a station of your own")
    tell(f"  cellwatch run --config {where}/config.yaml")
    tell(f"  cellwatch status --watch --config {where}/config.yaml")
    tell("  cellwatch segment IMAGE.tif --out masks   one image, without a station")
    if not is_kept:
        tell("\nthe demo's station is removed")
