"""One row for each image and target: what its measurements come to, as the ledger has it."""

import math
import sqlite3
from collections.abc import Iterator

from cellwatch.storage.ledger.path_text import path_text

COLUMNS = (
    "watch", "experiment", "path", "plate", "well", "field", "target", "rois", "median_area_px",
    "median_diameter_px", "median_area_um2", "median_diameter_um", "covered", "intensity",
    "confidence", "novelty", "sharpness", "background", "model", "arrived_at", "finished_at",
)  # fmt: skip
AREA = COLUMNS.index("median_area_px")


def image_rows(
    db: sqlite3.Connection, experiment: str, since: str
) -> Iterator[tuple[str | float | None, ...]]:
    """Yield a row of `COLUMNS` for each target of each segmented image, in the images' order.

    Parameters
    ----------
    db : sqlite3.Connection
    experiment : str
        "": all.
    since : str
        A time of the ledger; "": from the beginning.
    """
    rows = db.execute(
        """
        SELECT a.watch, a.experiment, a.path, a.plate, a.well, a.field, t.name, t.rois,
               t.median_area, coalesce(t.pixel_size_um, a.pixel_size_um), t.covered, t.intensity,
               t.confidence, t.novelty, t.sharpness, t.background, t.model_id, a.arrived_at,
               t.finished_at
        FROM acquisitions a JOIN targets t ON t.acquisition_id = a.id AND t.state = 'done'
        WHERE a.state = 'done' AND a.superseded_by IS NULL AND ?1 IN ('', a.experiment)
              AND (?2 = '' OR a.finished_at >= ?2) ORDER BY a.id, t.id
        """,
        [path_text(experiment), since],
    )
    for row in rows:
        yield (*row[:AREA], *_lengths(*row[AREA : AREA + 2]), *row[AREA + 2 :])


def _lengths(area: float | None, pixel_size_um: float | None) -> tuple[float | None, ...]:
    # In px and in µm: the area, and the diameter of a disc that has it.
    if area is None:
        return (None,) * 4
    diameter = 2 * math.sqrt(area / math.pi)
    if pixel_size_um is None:
        return area, round(diameter, 3), None, None
    in_um = round(area * pixel_size_um**2, 4), round(diameter * pixel_size_um, 4)
    return area, round(diameter, 3), *in_um
