"""What people's files of ROIs hold beside cells: regions, captions, other frames, hidden files."""

import json
import zipfile

import numpy as np
import pytest
import zarr
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellwatch.errors import RejectedCorrection
from cellwatch.storage.corrections.formats.planes import PlaneWanted
from cellwatch.storage.corrections.formats.reading import read_labels

SHAPE = (60, 80)
CORNERS = [(5, 5), (5, 25), (5, 45), (30, 5), (30, 25), (30, 45)]
SECOND_OF_THREE = PlaneWanted(1, 0, 3, 1)


def square(y, x, side=10, **said):
    corners = np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
    roi = ImagejRoi.frompoints(corners)
    for key, value in said.items():
        setattr(roi, key, value)
    return roi


def write_zip(path, rois, more=()):
    with zipfile.ZipFile(path, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number:04d}.roi", roi.tobytes())
        for name, data in more:
            archive.writestr(name, data)
    return path


def feature(y, x, side=10, plane=None):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    if plane is not None:
        geometry["plane"] = {"c": -1, "z": 0, "t": plane}
    return {"type": "Feature", "geometry": geometry}


def write_geojson(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_c3_the_region_that_was_analysed_is_no_cell(tmp_path):
    cells = [feature(y, x) for y, x in CORNERS]
    path = write_geojson(tmp_path / "a.geojson", [feature(1, 1, 58), *cells])

    found = read_labels(path, SHAPE)

    assert found.labels.max() == len(CORNERS)
    assert any("holds 6 others wholly" in note for note in found.notes)


def test_c3_a_file_most_of_whose_rois_would_go_is_refused(tmp_path):
    cells = [feature(y, x) for y, x in CORNERS]
    doubled = [feature(y, x, 11) for y, x in CORNERS] + [feature(y, x, 9) for y, x in CORNERS]
    path = write_geojson(tmp_path / "a.geojson", cells + doubled)

    with pytest.raises(RejectedCorrection, match="lie almost wholly under others"):
        read_labels(path, SHAPE)


def test_c4_rois_of_other_frames_are_left_out(tmp_path):
    features = [feature(y, x, plane=t) for t in range(3) for y, x in CORNERS[: t + 2]]
    rois = [square(y, x, t_position=t + 1) for t in range(3) for y, x in CORNERS[: t + 2]]
    for path in (
        write_geojson(tmp_path / "a.geojson", features),
        write_zip(tmp_path / "a_rois.zip", rois),
    ):
        found = read_labels(path, SHAPE, plane=SECOND_OF_THREE)

        assert found.labels.max() == 3
        assert "6 ROIs of other planes were left out" in found.notes


def test_c4_positions_of_a_file_that_was_the_plane_itself_say_nothing(tmp_path):
    path = write_geojson(tmp_path / "a.geojson", [feature(y, x, plane=0) for y, x in CORNERS])
    assert read_labels(path, SHAPE, plane=SECOND_OF_THREE).labels.max() == len(CORNERS)

    path = write_geojson(tmp_path / "b.geojson", [feature(y, x, plane=2) for y, x in CORNERS])
    with pytest.raises(RejectedCorrection, match="its ROIs are of t 2"):
        read_labels(path, SHAPE, plane=SECOND_OF_THREE)


def test_c5_what_a_desktop_adds_to_a_zip_is_passed_over(tmp_path):
    rois = [square(y, x) for y, x in CORNERS]
    more = [("__MACOSX/._0000.roi", b"\0\5\26\7"), (".DS_Store", b"x"), ("._1.roi", b"x")]

    found = read_labels(write_zip(tmp_path / "a_rois.zip", rois, more), SHAPE)

    assert found.labels.max() == len(CORNERS)


def test_c5_what_a_desktop_adds_to_a_zarr_is_passed_over(tmp_path):
    labels = np.zeros(SHAPE, np.int32)
    labels[5:15, 5:15] = 1
    group = zarr.create_group(tmp_path / "a_labels.zarr")
    group.create_array("s0", data=labels)
    datasets = {"multiscales": [{"datasets": [{"path": "s0"}]}]}
    group.attrs["ome"] = datasets
    (tmp_path / "a_labels.zarr/.DS_Store").write_bytes(b"x")

    found = read_labels(tmp_path / "a_labels.zarr", SHAPE)

    np.testing.assert_array_equal(found.labels, labels)


def test_c6_a_caption_is_no_cell(tmp_path):
    caption = square(40, 60, 15)
    caption.roitype, caption.subtype = ROI_TYPE.RECT, ROI_SUBTYPE.TEXT
    line = square(1, 1)
    line.roitype = ROI_TYPE.LINE

    found = read_labels(
        write_zip(tmp_path / "a_rois.zip", [*(square(y, x) for y, x in CORNERS), caption, line]),
        SHAPE,
    )

    assert found.labels.max() == len(CORNERS)
    assert "2 shapes that outline nothing were left out (line, text)" in found.notes
