"""Cluster the styles of images, with the Leiden algorithm on a graph of nearest neighbours.

Needs igraph and leidenalg (the extra `zoo`): only who builds a zoo clusters.

References
----------
Pachitariu & Stringer 2022, Methods "Style clustering and classification"; Traag, Waltman & van Eck
2019, Sci Rep 9:5233.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from cellwatch.core.arrays import Float32, Float64, Int64
from cellwatch.core.styles import distances_between
from cellwatch.errors import ExtraMissing

PAPER_IMAGES = {"cyto": 1700, "nuclei": 1100}  # about as many styles as the paper clustered
LEAST_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """How styles are clustered.

    Attributes
    ----------
    neighbours : int
        Of each style in the graph.
    resolution : float
        A higher one gives more clusters.
    seed : int
    """

    neighbours: int
    resolution: float
    seed: int = 0


def paper_plan(kind: str, n_images: int, seed: int = 0) -> ClusterPlan:
    """Return the paper's plan for a set, with fewer neighbours when the set is smaller.

    The paper has 100 neighbours and resolution 0.45 for cells, 50 and 0.25 for nuclei, on about
    1,700 and 1,100 images. A smaller set keeps the same fraction of it as neighbours, at least 5.

    Parameters
    ----------
    kind : "cyto" or "nuclei"
    n_images : int
    """
    neighbours, resolution = {"cyto": (100, 0.45), "nuclei": (50, 0.25)}[kind]
    fraction = neighbours / PAPER_IMAGES[kind]
    scaled = max(LEAST_NEIGHBOURS, round(fraction * n_images))
    return ClusterPlan(min(neighbours, scaled, max(1, n_images - 1)), resolution, seed)


def require_leiden() -> None:
    """See that styles can be clustered, before hours are spent on measuring them.

    Raises
    ------
    ExtraMissing
        When igraph or leidenalg is not installed.
    """
    _extra("igraph")
    _extra("leidenalg")


def leiden(styles: Float32, plan: ClusterPlan) -> Int64:
    """Cluster styles.

    Parameters
    ----------
    styles : (N, W) float32
        Unit vectors.
    plan : ClusterPlan

    Returns
    -------
    (N,) int64
        0 is the largest cluster, without gaps. Deterministic for a seed.

    Raises
    ------
    ExtraMissing
        When igraph or leidenalg is not installed.
    """
    igraph, leidenalg = _extra("igraph"), _extra("leidenalg")
    edges, weights = neighbour_graph(styles, plan.neighbours)
    graph = igraph.Graph(n=len(styles), edges=edges.tolist())
    found = leidenalg.find_partition(
        graph,
        leidenalg.RBConfigurationVertexPartition,
        weights=weights.tolist(),
        resolution_parameter=plan.resolution,
        n_iterations=-1,  # until nothing changes
        seed=plan.seed,
    )
    return by_size(np.array(found.membership, np.int64))


def neighbour_graph(styles: Float32, neighbours: int) -> tuple[Int64, Float64]:
    """Join each style with its nearest ones.

    Returns
    -------
    edges : (E, 2) int64
        Each pair once.
    weights : (E,) float64
        Of two styles: the share of neighbours that they have in common (Jaccard), so that a few
        odd links between two kinds of images do not join them.
    """
    apart = distances_between(styles, styles)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, : neighbours + 1]  # itself among them
    is_near = np.zeros(apart.shape, np.bool_)
    np.put_along_axis(is_near, nearest, values=True, axis=1)
    common = is_near.astype(np.float64) @ is_near.T.astype(np.float64)
    sizes = is_near.sum(axis=1)
    jaccard = common / (sizes[:, None] + sizes[None, :] - common)
    linked = np.triu((is_near | is_near.T) & (jaccard > 0), 1)
    rows, columns = np.nonzero(linked)
    return np.stack([rows, columns], axis=1), jaccard[rows, columns]


def agreement(first: Sequence[int] | Int64, second: Sequence[int] | Int64) -> float:
    """Return the adjusted Rand index of two clusterings of the same items.

    Returns
    -------
    float
        1: the same; 0: as alike as chance makes them.

    Examples
    --------
    >>> agreement([0, 0, 1, 1], [5, 5, 2, 2])
    1.0
    """
    table = np.zeros((max(first) + 1, max(second) + 1), np.int64)
    np.add.at(table, (np.asarray(first), np.asarray(second)), 1)
    pairs, rows, columns = (_pairs(n) for n in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / _pairs(np.array([table.sum()]))
    highest = (rows + columns) / 2
    return float((pairs - expected) / (highest - expected)) if highest != expected else 1.0


def stability(styles: Float32, plan: ClusterPlan) -> float:
    """Say how alike two halves of a set cluster it: the adjusted Rand index between them.

    Each half is clustered by itself, and its clusters are carried to all styles by the 5 nearest
    neighbours; neighbours in the graph are halved with the set.
    """
    from cellwatch.core.styles import classifier_of

    order = np.random.default_rng(plan.seed).permutation(len(styles))
    halved = ClusterPlan(max(LEAST_NEIGHBOURS, plan.neighbours // 2), plan.resolution, plan.seed)
    carried = []
    for half in (order[::2], order[1::2]):
        classifier = classifier_of(styles[half], leiden(styles[half], halved))
        carried.append([classifier.choose(style).cluster for style in styles])
    return agreement(carried[0], carried[1])


def purity(clusters: Int64, kinds: Sequence[str]) -> float:
    """Return the share of items whose kind is the most common one of their cluster."""
    right = 0
    for cluster in np.unique(clusters):
        _, counts = np.unique(np.asarray(kinds)[clusters == cluster], return_counts=True)
        right += int(counts.max())
    return right / len(clusters)


def map_of(styles: Float32, neighbours: int, seed: int) -> Float64:
    """Lay styles out in a plane so that near styles lie near each other.

    Returns
    -------
    (N, 2) float64
        By UMAP, which keeps neighbourhoods, on the same graph (the paper drew t-SNE).
    """
    igraph = _extra("igraph")
    edges, _ = neighbour_graph(styles, neighbours)
    apart = distances_between(styles, styles)
    graph = igraph.Graph(n=len(styles), edges=edges.tolist())
    distances = [float(apart[i, j]) for i, j in edges]
    start = np.random.default_rng(seed).normal(size=(len(styles), 2)).tolist()
    layout = graph.layout_umap(dist=distances, dim=2, seed=start, min_dist=0.1, epochs=500)
    return np.array(layout.coords, np.float64)


def by_size(clusters: Int64) -> Int64:
    """Renumber clusters from the largest to the smallest; equal ones by their first item."""
    found, firsts, counts = np.unique(clusters, return_index=True, return_counts=True)
    order = sorted(range(len(found)), key=lambda i: (-counts[i], firsts[i]))
    numbers = np.zeros(len(found), np.int64)
    numbers[order] = np.arange(len(found))
    return numbers[np.searchsorted(found, clusters)]


def _pairs(counts: Int64) -> float:
    return float((counts * (counts - 1) // 2).sum())


def _extra(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExtraMissing(
            f"clustering needs {name}, which is not installed: pip install 'cellwatch[zoo]'"
        ) from error
