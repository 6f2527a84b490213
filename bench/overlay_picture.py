"""Draw the README's picture: three simulated specimens, segmented by `auto`, outlined.

python bench/overlay_picture.py [--out docs/overlay.jpg]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from cellwatch.compute.acquisition import segment_acquisition
from cellwatch.compute.models import ready_either
from cellwatch.core.image import normalise, percentiles
from cellwatch.core.parameters import SegmentationParams
from cellwatch.images import Image
from cellwatch.records import ChannelChoice, ImageInfo
from cellwatch.training.specimens.draw import draw_specimen
from cellwatch.zoo.classifiers import find_either

SHOWN = (("fluorescent nuclei", 7), ("adherent in phase contrast", 6), ("bacteria", 14))
SIDE = 256  # px
OUTLINE = (1.0, 0.8, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/overlay.jpg"))
    arguments = parser.parse_args()
    model = ready_either(find_either("auto"), torch.device("cpu"))
    panels = [panel(model, kind, seed) for kind, seed in SHOWN]
    sheet = Picture.fromarray((np.concatenate(panels, 1) * 255).astype(np.uint8))
    sheet.save(arguments.out, quality=85)


def panel(model, kind: str, seed: int) -> np.ndarray:
    plane = draw_specimen(np.random.default_rng(seed), SIDE, kind, 24.0).plane[:1]
    info = ImageInfo(f"{kind}.tif")
    image = Image(info, plane[None, None, None], is_rgb=False)
    found = segment_acquisition(image, model, SegmentationParams(), ChannelChoice())
    labels = found.labels[0, 0, 0]
    print(f"{kind}: {labels.max()} ROIs with {found.result.model_id}")
    grey = np.clip(
        normalise(plane, percentiles(plane, SegmentationParams().normalisation))[0], 0, 1
    )
    shown = np.repeat(grey[..., None], 3, -1)
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= np.diff(labels, axis=0) != 0
    edge[:, :-1] |= np.diff(labels, axis=1) != 0
    shown[edge] = OUTLINE
    return shown


if __name__ == "__main__":
    main()
