"""Pictures of a zoo: its styles in a plane, and the ensemble against the generalist.

Needs matplotlib and igraph (the extra `zoo`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.clusters import map_of
from cellwatch.errors import ExtraMissing
from cellwatch.workflows.zoo.clusters import Clustering, StyleTable
from cellwatch.workflows.zoo.scores import SetScore

MAP = "map.png"
COMPARISON = "comparison.png"


def draw_map(table: StyleTable, found: Clustering, path: Path) -> None:
    """Draw the training styles in a plane, coloured by cluster, shaped by image type."""
    styles = table.styles[~table.is_test]
    kinds = np.array(table.kinds)[~table.is_test]
    places = map_of(styles, found.report["plan"]["neighbours"], found.report["plan"]["seed"])
    figure, axes = _figure(7, 6)
    markers = "osD^vP*X"
    for number, name in enumerate(found.names):
        for shape, kind in enumerate(sorted(set(kinds))):
            here = (found.clusters == number) & (kinds == kind)
            if here.any():
                axes.scatter(
                    places[here, 0],
                    places[here, 1],
                    s=14,
                    color=f"C{number % 10}",
                    marker=markers[shape % len(markers)],
                    linewidths=0,
                    label=f"{name}: {kind} ({here.sum()})",
                )
    axes.set_title(f"Styles of {len(styles)} training images, {len(found.names)} clusters")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=7, frameon=False, loc="best")
    _save(figure, path)


def draw_comparison(results: Sequence[SetScore], generalist: str, path: Path) -> None:
    """Draw the average precision of generalist, ensemble and best network on each test set."""
    figure, axes = _figure(1.5 + 1.6 * len(results), 4)
    x = np.arange(len(results))
    bars = {
        generalist: [r.by_model[generalist] for r in results],
        "auto (chosen by style)": [r.auto for r in results],
        "best by hand": [r.by_model[r.best] for r in results],
    }
    for offset, (name, heights) in enumerate(bars.items()):
        axes.bar(x + (offset - 1) * 0.27, heights, 0.25, label=name)
    axes.set_xticks(x, [f"{r.name}\n{r.images} images" for r in results], fontsize=8)
    axes.set_ylabel("average precision at IoU 0.5")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:  # Any: matplotlib is not typed
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraMissing(
            "drawing needs matplotlib, which is not installed: pip install 'cellwatch[zoo]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> None:  # Any: matplotlib is not typed

    figure.savefig(path, dpi=150)
