import numpy as np
import pytest

from cellwatch.core.clusters import (
    ClusterPlan,
    agreement,
    by_size,
    leiden,
    map_of,
    neighbour_graph,
    paper_plan,
    purity,
    stability,
)

pytest.importorskip("leidenalg", reason="the extra `zoo` is not installed")


def kinds_of(n_each, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(12, 12)))[0][: len(n_each)]
    vectors = np.concatenate(
        [c + 0.15 * rng.normal(size=(n, 12)) for c, n in zip(centres, n_each, strict=True)]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(len(n_each)), n_each)


def test_kinds_that_lie_apart_become_clusters():
    styles, kinds = kinds_of([60, 40, 20])

    clusters = leiden(styles, ClusterPlan(8, 0.45))

    assert agreement(clusters, kinds) == pytest.approx(1)
    assert np.bincount(clusters).tolist() == [60, 40, 20]


def test_one_kind_stays_one_cluster():
    styles, _ = kinds_of([80])

    assert leiden(styles, ClusterPlan(20, 0.25)).max() == 0


def test_equal_seeds_cluster_alike():
    styles, _ = kinds_of([30, 30, 30], seed=4)
    plan = ClusterPlan(6, 1.5, seed=7)

    np.testing.assert_array_equal(leiden(styles, plan), leiden(styles, plan))


def test_halves_of_distinct_kinds_agree():
    styles, _ = kinds_of([60, 40])

    assert stability(styles, ClusterPlan(10, 0.3)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "n", "neighbours", "resolution"),
    [("cyto", 1700, 100, 0.45), ("cyto", 5000, 100, 0.45), ("cyto", 535, 31, 0.45),
     ("nuclei", 1100, 50, 0.25), ("nuclei", 40, 5, 0.25), ("cyto", 3, 2, 0.45)],
)  # fmt: skip
def test_the_plan_is_the_papers_scaled_to_the_set(kind, n, neighbours, resolution):
    plan = paper_plan(kind, n)

    assert (plan.neighbours, plan.resolution) == (neighbours, resolution)


def test_agreement_is_the_adjusted_rand_index():
    # Hubert & Arabie 1985 by hand: 6 items, tables [[2, 1], [0, 3]].
    first, second = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]

    # pairs together in both: 1 + 3 = 4; rows 3 + 3 = 6; columns 1 + 6 = 7; all 15
    expected = (4 - 6 * 7 / 15) / ((6 + 7) / 2 - 6 * 7 / 15)
    assert agreement(first, second) == pytest.approx(expected)
    assert agreement(first, [0] * 6) == pytest.approx(0)


def test_purity_is_the_share_of_the_commonest_kind():
    assert purity(np.array([0, 0, 0, 1, 1]), ["a", "a", "b", "b", "b"]) == 4 / 5


def test_clusters_are_numbered_by_size_then_by_their_first_item():
    assert by_size(np.array([5, 5, 2, 9, 9, 9, 2])).tolist() == [1, 1, 2, 0, 0, 0, 2]


def test_the_graph_links_each_pair_once_and_weighs_common_neighbours():
    styles, kinds = kinds_of([20, 20])

    edges, weights = neighbour_graph(styles, 5)

    assert (edges[:, 0] < edges[:, 1]).all()
    assert len({tuple(edge) for edge in edges}) == len(edges)
    assert ((weights > 0) & (weights <= 1)).all()
    assert (kinds[edges[:, 0]] == kinds[edges[:, 1]]).mean() > 0.95


def test_the_map_keeps_kinds_together():
    styles, kinds = kinds_of([30, 30])

    places = map_of(styles, 8, seed=0)

    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(axis=1)] == kinds).mean() > 0.95
