"""Tables of measurements: a row for each ROI in each plane, the same in CSV and in Parquet."""

import numpy as np
import pytest

from cellwatch.images import Image
from cellwatch.records import ImageInfo
from cellwatch.storage.masks.measurements import (
    columns_of,
    csv_to_parquet,
    measured,
    read_table,
    table_beside,
    write_table,
)
from tests.discs import disc_picture


def image_of(pixels, channels):
    return Image(ImageInfo("a.tif", channels=channels), pixels, is_rgb=False)


def two_planes():
    picture, labels = disc_picture(5)
    volume = np.stack([labels, np.roll(labels, 9, axis=0)])[None, None]  # (P, T, Z, Y, X)
    pixels = np.stack([np.stack([picture, picture * 2])] * 2)[None, None]  # (P, T, Z, C, Y, X)
    return {"cells": volume.astype(np.int32)}, pixels


def test_every_roi_of_every_plane_is_a_row_with_its_place_and_its_lengths_in_um():
    labels, pixels = two_planes()

    table = measured(labels, image_of(pixels, ("DAPI", "")), 0.5)

    n = sum(len(np.unique(plane)) - 1 for plane in labels["cells"][0, 0])
    assert len(table["label"]) == n
    assert set(table["z"]) == {0, 1}
    assert set(table["target"]) == {"cells"}
    np.testing.assert_allclose(table["area_um2"], table["area_px"] * 0.25)
    np.testing.assert_allclose(table["diameter_um"], table["diameter_px"] * 0.5)
    np.testing.assert_allclose(table["mean_1"], 2 * table["mean_DAPI"])
    assert "area_um2" not in measured(labels, image_of(pixels, ()), None)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_read_back_as_it_was_written(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    labels, pixels = two_planes()
    table = measured(labels, image_of(pixels, ("DAPI", "a,b")), 0.65)
    path = table_beside(tmp_path / "a.tif.zarr", kind)

    write_table(path, table, tmp_path / ".superseded")

    assert path.name == f"a_measurements.{kind}"
    assert columns_of(path) == list(table)
    rows = list(read_table(path))
    assert len(rows) == len(table["label"])
    for name in ("label", "area_px", "y_um", "mean_DAPI", "sum_a,b"):
        np.testing.assert_allclose([float(r[name]) for r in rows], table[name], rtol=1e-5)


def test_a_written_table_becomes_parquet_with_numbers(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    labels, pixels = two_planes()
    source, out = tmp_path / "a.csv", tmp_path / "all.parquet"
    write_table(source, measured(labels, image_of(pixels, ()), None), tmp_path)

    csv_to_parquet(source, out)

    rows = parquet.read_table(out).to_pylist()
    assert len(rows) == len(list(read_table(source)))
    assert isinstance(rows[0]["area_px"], int)
    assert isinstance(rows[0]["solidity"], float)


def test_an_image_without_rois_has_a_table_without_rows(tmp_path):
    labels, pixels = two_planes()
    path = tmp_path / "a.csv"

    write_table(path, measured({"cells": 0 * labels["cells"]}, image_of(pixels, ()), 1.0), tmp_path)

    assert "solidity" in columns_of(path)
    assert list(read_table(path)) == []


def test_an_roi_has_its_confidence_where_that_is_known(tmp_path):
    labels, pixels = two_planes()
    counts = [len(np.unique(plane)) - 1 for plane in labels["cells"][0, 0]]
    sure = [np.linspace(0.5, 1, counts[0]), np.linspace(0, 0.5, counts[1])]

    table = measured(labels, image_of(pixels, ()), None, {"cells": sure})
    unknown = measured(labels, image_of(pixels, ()), None)

    np.testing.assert_allclose(table["confidence"], np.concatenate(sure))
    path = table_beside(tmp_path / "a.tif.zarr", "csv")
    write_table(path, unknown, tmp_path)
    assert {row["confidence"] for row in read_table(path)} == {""}


def test_a_nucleus_knows_the_cell_in_which_it_lies():
    cells, nuclei = np.zeros((2, 1, 1, 1, 12, 20), np.int32)
    cells[..., 0:6, 0:8], cells[..., 0:6, 10:18] = 1, 2
    nuclei[..., 2:4, 12:14] = 1  # in cell 2
    nuclei[..., 2:4, 6:10] = 2  # half in cell 1, half in none
    nuclei[..., 9:11, 2:4] = 3  # in no cell

    image = image_of(np.zeros((1, 1, 1, 1, 12, 20)), ())
    table = measured({"cells": cells, "nuclei": nuclei}, image, None)

    is_nucleus = table["target"] == "nuclei"
    assert table["in_cells"][is_nucleus].tolist() == [2, 0, 0]
    assert table["in_nuclei"].tolist() == [0, 0, 0, 0, 0]
    assert "in_cells" not in measured(
        {"cells": cells}, image_of(np.zeros((1, 1, 1, 1, 12, 20)), ()), 1
    )
