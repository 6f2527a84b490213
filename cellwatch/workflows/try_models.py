"""Try every model of a zoo on one image, at several diameters.

References
----------
Pachitariu & Stringer 2022, Fig. 2d: the same image in different segmentation styles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.compute.acquisition import segment_acquisition
from cellwatch.compute.models import Chooser, Model, channels_for
from cellwatch.core.arrays import Float32, Int32
from cellwatch.core.channels import take_channels
from cellwatch.core.diameter import median_diameter
from cellwatch.core.image import normalise, percentiles
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.core.segment import segment
from cellwatch.core.styles import novelty_of
from cellwatch.images import Image
from cellwatch.records import ChannelChoice, ModelChoice

DEFAULTS = SegmentationParams()
FACTORS = (1 / 1.5, 1.0, 1.5)  # of the estimated diameter


@dataclass(frozen=True, slots=True)
class Trial:
    """One image under one model at one diameter.

    Attributes
    ----------
    model_id : str
    diameter : float, px
        At which the image was segmented.
    labels : (Y, X) int32
    n_rois : int
    found_diameter : float, px
        Of the median ROI that was found; 0 without ROIs.
    novelty : float or None
        How far the image is from the model's training images; None: the model does not know.
    notes : tuple of str
    """

    model_id: str
    diameter: float
    labels: Int32
    n_rois: int
    found_diameter: float
    novelty: float | None
    notes: tuple[str, ...]


def central_crop(image: Image, side: int, plane: int) -> Image:
    """Return the middle of one plane of an image as an image of its own.

    Parameters
    ----------
    image : Image
    side : int, px
        Of the square; 0: the whole plane.
    plane : int
        Counted over positions, time points and z.
    """
    planes = image.pixels.reshape(-1, *image.pixels.shape[3:])
    chosen = planes[plane]
    if side:
        starts = [max(0, (length - side) // 2) for length in chosen.shape[1:]]
        chosen = chosen[:, starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    return replace(image, pixels=chosen[None, None, None])


def estimate_diameter(
    image: Image, chooser: Chooser, choice: ChannelChoice, params: SegmentationParams = DEFAULTS
) -> tuple[float, str, ModelChoice]:
    """Return the diameter that `auto` finds in an image, the model that it takes, and why."""
    params = replace(params, diameter=Diameter("auto"))
    found = segment_acquisition(image, chooser, params, choice)
    why = found.result.choice
    if why is None:
        raise AssertionError("a chooser always says why")
    diameter = median_diameter(found.labels[0, 0, 0]) or found.result.diameter
    return diameter, found.result.model_id, why


def try_models(
    image: Image,
    models: Sequence[str],
    load: Callable[[str], Model],
    diameters: Sequence[float],
    choice: ChannelChoice,
    params: SegmentationParams = DEFAULTS,
) -> Iterator[Trial]:
    """Segment an image of one plane with every model at every diameter.

    Parameters
    ----------
    image : Image
    models : sequence of str
        Ids.
    load : callable
        Gives the model of an id.
    diameters : sequence of float, px
    choice : ChannelChoice
    params : SegmentationParams
        All but the diameter.
    """
    for name in models:
        model = load(name)
        chosen, notes = channels_for(image, model.card, choice)
        plane = take_channels(image.pixels[0, 0, 0], chosen)
        for diameter in diameters:
            fixed = replace(params, diameter=Diameter("fixed", round(diameter, 2)))
            found = segment(plane, model.network, fixed)
            known = model.styles.known
            is_novel = known is not None and found.style.any()
            yield Trial(
                model_id=name,
                diameter=diameter,
                labels=found.labels,
                n_rois=found.n_rois,
                found_diameter=median_diameter(found.labels),
                novelty=novelty_of(found.style, known) if is_novel and known else None,
                notes=(*notes, *found.notes),
            )


def shown_plane(image: Image, choice: ChannelChoice, model: Model) -> Float32:
    """Return what lies under the outlines: the cell channel, normalised, (Y, X)."""
    chosen, _ = channels_for(image, model.card, choice)
    plane = take_channels(image.pixels[0, 0, 0], chosen)
    return np.asarray(normalise(plane, percentiles(plane, SegmentationParams().normalisation))[0])
