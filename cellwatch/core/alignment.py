"""Say whether masks belong to an image as they lie, or transposed, mirrored or shifted.

The outlines of right masks run along the edges of the image, and their insides are brighter or
darker than what is around them. Both are compared at every shift at once, by Fourier transform, for
each of the eight ways to turn a picture; how far the masks' own place stands out from all others
tells whether they fit.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from cellwatch.core.arrays import Bool, Float32, Float64, Int32

SIDE = 256  # px; larger planes are binned: the place of masks is a coarse thing
BLUR = 1.0  # px, of the binned plane
NEAR = 0.02  # of the longer side: a shift below it is none
FITS = 6.0  # standard deviations by which a place must stand out to be one that fits
BETTER = 2.0  # times as far as the masks' own place
FAINT = 2.0  # standard deviations: the masks' own place is like any other

# By name: what is done to rows and columns. The last four swap them, and need a square plane.
TURNS = {
    "": (False, False, False),
    "mirrored left to right": (False, False, True),
    "mirrored top to bottom": (False, True, False),
    "turned by 180 degrees": (False, True, True),
    "transposed": (True, False, False),
    "turned by 90 degrees to the right": (True, False, True),
    "turned by 90 degrees to the left": (True, True, False),
    "transposed about the other diagonal": (True, True, True),
}


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well masks fit an image.

    Attributes
    ----------
    own : float
        By how many standard deviations their own place stands out from others.
    best : float
        The same of the best place.
    turn : str
        How they would have to be turned for it, in words; "": not at all.
    shift : (int, int), px
        And moved, in y and x, after that.
    """

    own: float
    best: float
    turn: str
    shift: tuple[int, int]

    @property
    def is_elsewhere(self) -> bool:
        """Say whether they fit far better in another place than in their own."""
        return bool(self.best >= FITS and self.best >= BETTER * max(self.own, 1.0))

    @property
    def is_faint(self) -> bool:
        """Say whether their own place is like any other: they have nothing to do with the image."""
        return self.own < FAINT

    @property
    def told(self) -> str:
        """Return what would have to be done to them, in words."""
        moved = f"moved by {self.shift[0]} rows and {self.shift[1]} columns"
        return " and ".join(
            [*([self.turn] if self.turn else []), *([moved] if any(self.shift) else [])]
        )


def alignment(plane: Float32, labels: Int32) -> Alignment:
    """Measure how well masks fit an image as they lie, and where they would fit best.

    Parameters
    ----------
    plane : (C, Y, X), any real dtype
        The channel that tells most is taken.
    labels : (Y, X) int32

    Returns
    -------
    Alignment
    """
    step = max(1, -(-max(labels.shape) // SIDE))
    filled = _binned((labels > 0).astype(np.float32), step)
    outline = _binned(_outline(labels).astype(np.float32), step)
    features = [_features(_binned(np.nan_to_num(c.astype(np.float32)), step)) for c in plane]
    found: list[tuple[float, str, tuple[int, int]]] = []
    own = -np.inf
    for turn, how in TURNS.items():
        turned = [_turned(mask, how) for mask in (filled, outline)]
        if turned[0].shape != filled.shape:
            continue
        for inside, edges in features:
            score = np.abs(_scores(inside, turned[0])) + _scores(edges, turned[1])
            own = max(own, float(score[0, 0])) if not turn else own
            y, x = np.unravel_index(int(np.argmax(score)), score.shape)
            shift = tuple(_signed(int(at), n) for at, n in zip((y, x), score.shape, strict=True))
            found.append((float(score[y, x]), turn, (shift[0], shift[1])))
    best, turn, shift = max(found)
    near = NEAR * max(filled.shape)
    if not turn and max(map(abs, shift)) <= max(1.0, near):
        return Alignment(own, own, "", (0, 0))
    return Alignment(own, best, turn, (shift[0] * step, shift[1] * step))


def _features(plane: Float32) -> tuple[Float64, Float64]:
    # Intensity against its surroundings, and the strength of edges.
    around = gaussian_filter(plane, max(plane.shape) / 8)
    inside = gaussian_filter(plane, BLUR) - around
    return np.asarray(inside, np.float64), np.asarray(
        gaussian_gradient_magnitude(plane, BLUR), np.float64
    )


def _scores(feature: Float64, mask: Float32) -> Float64:
    # Of every shift of the mask: its correlation with the feature, in standard deviations.
    spectrum = np.fft.rfft2(feature - feature.mean()) * np.conj(np.fft.rfft2(mask - mask.mean()))
    product = np.fft.irfft2(spectrum, feature.shape)
    spread = float(product.std())
    return np.asarray(product / spread if spread > 0 else np.zeros_like(product))


def _outline(labels: Int32) -> Bool:
    edge = np.zeros(labels.shape, np.bool_)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge


def _turned(mask: Float32, how: tuple[bool, bool, bool]) -> Float32:
    turned = mask.T if how[0] else mask
    flips = tuple(axis for axis, is_on in enumerate(how[1:]) if is_on)
    return np.flip(turned, flips) if flips else turned


def _binned(plane: Float32, step: int) -> Float32:
    if step == 1:
        return plane
    rows, columns = plane.shape[0] // step, plane.shape[1] // step
    part = plane[: rows * step, : columns * step]
    return np.asarray(part.reshape(rows, step, columns, step).mean(axis=(1, 3)), np.float32)


def _signed(at: int, length: int) -> int:
    return at if at <= length // 2 else at - length
