"""Draw a contact sheet of simulated specimens: each image, and the same with its outlines.

    python bench/specimen_sheet.py [--out docs/specimens.jpg]

Four specimens of every kind; nuclei in a second channel are blue. What does not look like
microscopy here is no good for training either.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cellwatch.training.specimens.draw import KINDS, draw_specimen

SIDE = 160  # px
OF_EACH = 4
OUTLINE = (1.0, 0.8, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/specimens.jpg"))
    given = parser.parse_args()
    rows = [np.concatenate([pair(kind, n) for n in range(OF_EACH)], 1) for kind in KINDS]
    sheet = Image.fromarray((np.concatenate(rows, 0) * 255).astype(np.uint8))
    sheet.save(given.out, quality=75)


def pair(kind: str, number: int) -> np.ndarray:
    rng = np.random.default_rng([7, list(KINDS).index(kind), number])
    specimen = draw_specimen(rng, SIDE, kind, float(rng.uniform(14, 36)))
    grey = np.repeat(stretched(specimen.plane[0])[..., None], 3, -1)
    shown = grey.copy()
    if specimen.plane[1].any():
        shown[..., 2] = np.clip(shown[..., 2] + 0.8 * stretched(specimen.plane[1]), 0, 1)
    edge = np.zeros(specimen.labels.shape, bool)
    edge[:-1] |= np.diff(specimen.labels, axis=0) != 0
    edge[:, :-1] |= np.diff(specimen.labels, axis=1) != 0
    shown[edge] = OUTLINE
    return np.concatenate([grey, shown], 1)


def stretched(channel: np.ndarray) -> np.ndarray:
    low, high = np.percentile(channel, [1, 99.5])
    return np.clip((channel - low) / (high - low + 1e-9), 0, 1)


if __name__ == "__main__":
    main()
