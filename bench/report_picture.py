"""Draw the picture of the report: a station of simulated specimens, shown by a headless browser.

    python bench/report_picture.py [--out docs/report.jpg]

Needs Chromium. Besides specimens of four kinds there is a plate, and one file that is no image.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cellwatch.training.specimens.draw import draw_specimen

KINDS = {
    "hoechst": ("fluorescent nuclei", 22.0),
    "t98g": ("adherent in phase contrast", 34.0),
    "e-coli": ("bacteria", 18.0),
    "biopsy": ("stained tissue", 24.0),
}
OF_EACH = 4
SIDE = 320
CONFIG = """
watch:
  - folder: images
    files: "(?P<well>[A-P]\\\\d\\\\d)_f(?P<field>\\\\d+)_(?P<c>DAPI)[.]tif"
output: {folder: masks}
state: {folder: state}
"""
WINDOW = (1180, 1330)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/report.jpg"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        station = Path(name) / "microscope-2"
        station.mkdir()
        (station / "config.yaml").write_text(CONFIG, encoding="utf-8")
        write_images(station / "images")
        command = [sys.executable, "-m", "cellwatch"]
        subprocess.run([*command, "run", "--once"], cwd=station, check=False)
        flag = [*command, "flag", "hoechst/specimen_2.tif", "--why", "two cells in one"]
        subprocess.run(flag, cwd=station, env={**os.environ, "LOGNAME": "anna"}, check=False)
        subprocess.run([*command, "report"], cwd=station, check=True)
        page = station / "masks/report.html"
        page.write_text(page.read_text().replace('"state":"stopped"', '"state":"running"'))
        photograph(page, options.out)


def write_images(folder: Path) -> None:
    for name, (kind, diameter) in KINDS.items():
        (folder / name).mkdir(parents=True)
        for n in range(OF_EACH):
            specimen = draw_specimen(np.random.default_rng(n), SIDE, kind, diameter)
            write(folder / name / f"specimen_{n}.tif", specimen.plane[0])
    (folder / "screen-12").mkdir()
    rng = np.random.default_rng(5)
    for row in "BCD":
        for column in range(2, 7):
            specimen = draw_specimen(rng, 192, "fluorescent nuclei", float(rng.uniform(16, 34)))
            write(folder / f"screen-12/{row}{column:02d}_f1_DAPI.tif", specimen.plane[0])
    (folder / "hoechst/notes.tif").write_text("this is no picture\n")


def write(path: Path, plane: np.ndarray) -> None:
    scaled = (plane - plane.min()) / max(float(np.ptp(plane)), 1e-6)
    tifffile.imwrite(path, (scaled * 4000 + 100).astype(np.uint16))


def photograph(page: Path, out: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("Chromium is not installed")
    shot = page.with_name("report.png")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += [f"--window-size={WINDOW[0]},{WINDOW[1]}", "--virtual-time-budget=8000"]
    subprocess.run(
        [browser, *options, f"--screenshot={shot}", page.as_uri()], capture_output=True, check=True
    )
    Image.open(shot).convert("RGB").save(out, quality=68)


if __name__ == "__main__":
    main()
