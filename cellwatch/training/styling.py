"""Measure what a trained network knows of styles: those of its training images, and sizes.

References
----------
Stringer et al. 2021, Nat Methods 18:100, Methods "Cell size estimation": the diameter is regressed
from the styles of crops at random scales between 0.5 and 1.5.
"""

from collections.abc import Sequence

import numpy as np

from cellwatch.core.arrays import Float32
from cellwatch.core.diameter import SizeModel, fit_size_model
from cellwatch.core.image import resize, scaled_shape, with_channels
from cellwatch.core.network import CPNet
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.segment import predict, style_of_plane
from cellwatch.core.styles import known_styles
from cellwatch.training.batches import specimen_image
from cellwatch.training.dataset import TrainingImage
from cellwatch.training.plans import FORWARD, FitPlan
from cellwatch.zoo.stylefile import StyleFacts

STYLES_KEPT = 150  # of a larger set, as many images are drawn
SIZE_CROPS = 400
SIZE_CROP = 256  # px; Cellpose has 512, which takes four times as long
SIZE_MIN_IMAGES = 25  # fewer train no size model: the mean training diameter is used


def style_facts(
    network: CPNet,
    images: Sequence[TrainingImage],
    params: SegmentationParams,
    plan: FitPlan,
) -> StyleFacts:
    """Measure the styles of a network's training images and fit its size model.

    Parameters
    ----------
    network : CPNet
        In evaluation mode.
    images : sequence of TrainingImage
        What it was trained on.
    params : SegmentationParams
        Tiling and precision.
    plan : FitPlan
        Of the run: the sizes of the specimens that it drew are learned too; its styles are those of
        real images alone, since an image that is like a drawing is no better known for that.
    """
    rng = np.random.default_rng(plan.seed)
    with_rois = [image for image in images if image.diameter]
    drawn = rng.permutation(len(with_rois))[:STYLES_KEPT]
    styles = [style_at_diameter(network, with_rois[index], params) for index in drawn]
    size = None
    if len(with_rois) >= SIZE_MIN_IMAGES:
        size = train_size_model(network, with_rois, params, rng, plan)
    return StyleFacts(known_styles(np.stack(styles)), size)


def steps_worth(images: Sequence[TrainingImage], diam_mean: float, plan: FitPlan) -> float:
    """Return about how many steps of a run take as long as `style_facts` does.

    Parameters
    ----------
    images : sequence of TrainingImage
    diam_mean : float, px
        Of the network.
    plan : FitPlan
    """
    areas = [i.labels.size * (diam_mean / i.diameter) ** 2 for i in images if i.diameter]
    pixels = sum(areas) / max(1, len(areas)) * min(len(areas), STYLES_KEPT)
    pixels += SIZE_CROPS * SIZE_CROP**2 * (len(areas) >= SIZE_MIN_IMAGES)
    return FORWARD * pixels / (plan.batch_size * plan.crop**2)


def style_at_diameter(network: CPNet, image: TrainingImage, params: SegmentationParams) -> Float32:
    """Return the style of an image at the scale that training brings it to."""
    zoom = network.config.diam_mean / image.diameter
    scaled = resize(image.plane, scaled_shape(image.labels.shape, zoom))
    return predict(_fed(scaled, network), network, params).style


def native_style(network: CPNet, image: TrainingImage, params: SegmentationParams) -> Float32:
    """Return the style of an image at its own scale, as a classifier is asked."""
    return style_of_plane(_fed(image.plane, network), network, params)


def train_size_model(
    network: CPNet,
    images: Sequence[TrainingImage],
    params: SegmentationParams,
    rng: np.random.Generator,
    plan: FitPlan,
) -> SizeModel:
    """Fit a size model on crops at random scales; each image gives as many as any other.

    Of a plan with simulated specimens the same part of the crops is of specimens.
    """
    order = np.concatenate(
        [rng.permutation(len(images)) for _ in range(-(-SIZE_CROPS // len(images)))]
    )[:SIZE_CROPS]
    styles, diameters = [], []
    for index in order:
        is_real = not plan.simulated or rng.random() >= plan.simulated
        image = images[index] if is_real else specimen_image(plan, network.config, rng)
        scale = 0.5 + rng.random()
        scaled = resize(image.plane, scaled_shape(image.labels.shape, scale))
        crop = _window(scaled, rng)
        styles.append(predict(_fed(crop, network), network, params).style)
        diameters.append(image.diameter * scale)
    return fit_size_model(np.stack(styles), np.array(diameters), network.config.diam_mean)


def _window(plane: Float32, rng: np.random.Generator) -> Float32:
    rows, columns = (min(SIZE_CROP, n) for n in plane.shape[1:])
    top = int(rng.integers(plane.shape[1] - rows + 1))
    left = int(rng.integers(plane.shape[2] - columns + 1))
    return np.ascontiguousarray(plane[:, top : top + rows, left : left + columns])


def _fed(plane: Float32, network: CPNet) -> Float32:
    return with_channels(plane, network.config.channels)
