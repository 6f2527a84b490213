"""Choose a model by an image's style, and say how far the style is from all that is known.

A style is the unit vector of the network's deepest maps. Images of one kind have near styles, so
the nearest known styles tell the kind, and how far they are tells how novel the image is.

References
----------
Pachitariu & Stringer 2022, Methods "Style clustering and classification": a classifier of the 5
nearest neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int64

Window: TypeAlias = tuple[slice, slice]

NEIGHBOURS = 5  # the paper's
REACH_PERCENTILE = 95.0  # of the known styles' own distances: beyond it a style is novel
USUAL_PERCENTILE = 75.0  # of them: up to it a style is like most of those that are known


@dataclass(frozen=True, slots=True)
class KnownStyles:
    """The styles of the images that a network was trained on.

    Attributes
    ----------
    styles : (N, W) float32
        Unit vectors.
    reach : float
        How far known styles are from each other: the 95th percentile of the mean distance of each
        to its 5 nearest others.
    """

    styles: Float32
    reach: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One of the known styles nearest to an image's.

    Attributes
    ----------
    index : int
        Its row.
    cluster : int
    distance : float
    """

    index: int
    cluster: int
    distance: float


@dataclass(frozen=True, slots=True)
class StyleChoice:
    """What the classifier says of a style.

    Attributes
    ----------
    cluster : int
    neighbours : tuple of Neighbour
        The nearest first.
    novelty : float or None
        As `novelty_of` the cluster's styles.
    is_usual : bool
        It is as near to the cluster's styles as three quarters of these are to each other.
    """

    cluster: int
    neighbours: tuple[Neighbour, ...]
    novelty: float | None
    is_usual: bool = True


@dataclass(frozen=True, slots=True)
class StyleClassifier:
    """Tell the cluster of a style from its nearest neighbours.

    Attributes
    ----------
    styles : (N, W) float32
        Unit vectors.
    clusters : (N,) int64
        Of each style.
    reaches : tuple of float
        By cluster, as `KnownStyles.reach`.
    usual : tuple of float
        By cluster: the distance to their nearest others that three quarters of its styles are
        within; 0 for a cluster of one.
    """

    styles: Float32
    clusters: Int64
    reaches: tuple[float, ...]
    usual: tuple[float, ...]

    def choose(self, style: Float32, neighbours: int = NEIGHBOURS) -> StyleChoice:
        """Return the cluster that most of the nearest styles belong to.

        A tie goes to the cluster whose neighbours are nearer in sum.

        Parameters
        ----------
        style : (W,) float32
        neighbours : int
        """
        distances = np.linalg.norm(self.styles - style, axis=1)
        nearest = np.argsort(distances, kind="stable")[:neighbours]
        listed = tuple(
            Neighbour(int(i), int(self.clusters[i]), float(distances[i])) for i in nearest
        )
        cluster = _most_common(listed)
        own = KnownStyles(self.styles[self.clusters == cluster], self.reaches[cluster])
        is_usual = _mean_distance(style, own.styles, neighbours) <= self.usual[cluster]
        return StyleChoice(cluster, listed, novelty_of(style, own, neighbours), is_usual)


def classifier_of(styles: Float32, clusters: Int64) -> StyleClassifier:
    """Build a classifier from styles whose cluster is known; clusters are 0..n without gaps."""
    reaches = tuple(
        known_styles(styles[clusters == c]).reach for c in range(int(clusters.max()) + 1)
    )
    return StyleClassifier(styles, clusters, reaches, usual_distances(styles, clusters))


def usual_distances(styles: Float32, clusters: Int64) -> tuple[float, ...]:
    """Return what `StyleClassifier.usual` holds."""
    each = [distances_to_others(styles[clusters == c]) for c in range(int(clusters.max()) + 1)]
    return tuple(float(np.percentile(d, USUAL_PERCENTILE)) if d.size else 0.0 for d in each)


def known_styles(styles: Float32, neighbours: int = NEIGHBOURS) -> KnownStyles:
    """Measure how far the styles of a set are from each other.

    Parameters
    ----------
    styles : (N, W) float32
        A set of one has reach 0.
    """
    apart = distances_to_others(styles, neighbours)
    return KnownStyles(styles, float(np.percentile(apart, REACH_PERCENTILE)) if apart.size else 0.0)


def distances_to_others(styles: Float32, neighbours: int = NEIGHBOURS) -> Float64:
    """Return the mean distance of each style to its nearest others.

    Returns
    -------
    (N,) float64; (0,) for a set of one
    """
    n = len(styles)
    if n < 2:
        return np.zeros(0)
    apart = distances_between(styles, styles)
    np.fill_diagonal(apart, np.inf)
    nearest = np.sort(apart, axis=1)[:, : min(neighbours, n - 1)]
    return np.asarray(nearest.mean(axis=1), np.float64)


def novelty_of(style: Float32, known: KnownStyles, neighbours: int = NEIGHBOURS) -> float | None:
    """Return how far a style is from the known ones, in units of their reach.

    Returns
    -------
    float or None
        Up to 1: like the images that are known. None: a single image is known, which has no reach.
    """
    if not known.reach > 0:
        return None
    return _mean_distance(style, known.styles, neighbours) / known.reach


def _mean_distance(style: Float32, styles: Float32, neighbours: int) -> float:
    return float(np.sort(np.linalg.norm(styles - style, axis=1))[:neighbours].mean())


def distances_between(first: Float32, second: Float32) -> Float64:
    """Return the (N, M) Euclidean distances between two sets of unit vectors."""
    products = first.astype(np.float64) @ second.astype(np.float64).T
    return np.sqrt(np.maximum(0.0, 2.0 - 2.0 * products))


def style_windows(shape: tuple[int, int], whole: int = 1024, side: int = 512) -> list[Window]:
    """Return the windows of a plane that its style is taken from.

    A plane of up to `whole` px on each side is one window; of a larger one four windows of `side`
    px are taken, centred at its quarters: a style needs to see the texture, not every pixel.

    Examples
    --------
    >>> style_windows((600, 800))
    [(slice(0, 600, None), slice(0, 800, None))]
    >>> len(style_windows((4000, 3000)))
    4
    """
    if max(shape) <= whole:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    rows, columns = (_centred(n, side) for n in shape)
    return [(row, column) for row in rows for column in columns]


def _centred(length: int, side: int) -> Sequence[slice]:
    if length <= side:
        return [slice(0, length)]
    starts = sorted({max(0, min(length - side, length * q // 4 - side // 2)) for q in (1, 3)})
    return [slice(start, start + side) for start in starts]


def _most_common(neighbours: Sequence[Neighbour]) -> int:
    votes: dict[int, tuple[int, float]] = {}
    for neighbour in neighbours:
        count, distance = votes.get(neighbour.cluster, (0, 0.0))
        votes[neighbour.cluster] = (count + 1, distance + neighbour.distance)
    return max(votes, key=lambda c: (votes[c][0], -votes[c][1] / votes[c][0]))
