"""Exported masks are the same after a round trip, under names that corrections are known by."""

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cellwatch.errors import UsageError
from cellwatch.images import Image
from cellwatch.records import ImageInfo
from cellwatch.storage.corrections.formats.planes import PlaneWanted
from cellwatch.storage.corrections.formats.reading import read_labels
from cellwatch.storage.corrections.names import read_name
from cellwatch.storage.masks.exports import ENDINGS, Exported, export, exported_beside
from cellwatch.storage.previews.preview import OUTLINES
from tests.discs import disc_picture

LABELS = [kind for kind in ENDINGS if kind != "overlay"]


def touching(size=60):
    """Return ROIs that touch, one with a hole, one in two pieces, one of a single pixel."""
    labels = np.zeros((size, size + 7), np.int32)
    labels[2:20, 3:30] = 1
    labels[20:40, 3:30] = 2
    labels[25:30, 10:15] = 0
    labels[5:12, 40:50] = 3
    labels[30:35, 40:50] = 3
    labels[50, 50] = 4
    return labels


def exported(labels, **more):
    return Exported("a", "", labels.reshape(-1, *labels.shape[-2:])[None, :, None], **more)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were(tmp_path, kind):
    labels = touching()

    (path,) = export(exported(labels), kind, tmp_path / "out", tmp_path / "old")

    assert read_name(path.name).readings[-1].stem == "a"
    found = read_labels(path, labels.shape, "cells")
    assert np.array_equal(found.labels, labels)


@pytest.mark.parametrize("kind", LABELS)
def test_planes_are_files_of_their_own_or_pages(tmp_path, kind):
    stack = np.stack([touching(), np.zeros_like(touching()), touching()[::-1]])

    paths = export(exported(stack), kind, tmp_path, tmp_path / "old")

    if kind == "tif":
        assert np.array_equal(tifffile.imread(paths[0]), stack)
        return
    assert len(paths) == 3
    for t in (0, 2):
        assert read_name(paths[t].name).readings[-1].plane.t == t
        plane = PlaneWanted(t, 0, 3, 1)
        found = read_labels(paths[t], stack.shape[1:], "cells", plane=plane)
        assert np.array_equal(found.labels, stack[t])


def test_more_rois_than_16_bits_hold(tmp_path):
    labels = np.arange(1, 270 * 270 + 1, dtype=np.int32).reshape(270, 270)

    (path,) = export(exported(labels), "tif", tmp_path, tmp_path / "old")
    (seg,) = export(exported(labels), "cellpose", tmp_path, tmp_path / "old")

    assert np.array_equal(tifffile.imread(path), labels)
    assert np.array_equal(read_labels(seg, labels.shape, "cells").labels, labels)
    with pytest.raises(UsageError, match="a PNG holds at most 65535 ROIs; write tif"):
        export(exported(labels), "png", tmp_path, tmp_path / "old")
    assert not list(tmp_path.glob("*.png"))


def test_a_label_tiff_keeps_the_size_of_its_pixels(tmp_path):
    (path,) = export(exported(touching(), pixel_size_um=0.325), "tif", tmp_path, tmp_path / "old")

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        n, of = page.tags["XResolution"].value
        assert page.tags["ResolutionUnit"].value == 3  # a centimetre
        assert 1e4 / (n / of) == pytest.approx(0.325, rel=1e-4)


def test_an_overlay_is_the_picture_with_outlines(tmp_path):
    pixels, labels = disc_picture(3, size=200, n=5)
    image = Image(ImageInfo("a.tif"), pixels[None, None, None, None], is_rgb=False)

    (path,) = export(exported(labels), "overlay", tmp_path, tmp_path / "old", image)

    rgb = np.asarray(Pillow.open(path))
    assert rgb.shape == (200, 200, 3)
    assert (rgb == np.array(OUTLINES[0])).all(axis=-1).sum() > 50
    with pytest.raises(UsageError, match="an overlay needs the image"):
        export(exported(labels), "overlay", tmp_path, tmp_path / "old")


def test_what_lies_beside_a_store_is_known_by_its_name(tmp_path):
    of_another = ("ab_rois.zip", "a__b_rois.zip")
    for name in (*of_another, "a_rois.zip", "a__t001_z00__nuclei_rois.geojson", "a_overlay.png"):
        (tmp_path / name).touch()

    beside = exported_beside(tmp_path / "a.tif.zarr", ["cells", "nuclei"])
    found = {path.name for path in beside}

    assert found == {"a_rois.zip", "a__t001_z00__nuclei_rois.geojson", "a_overlay.png"}


@pytest.mark.parametrize("kind", LABELS)
def test_an_image_without_rois_has_a_file_too(tmp_path, kind):
    nothing = np.zeros((20, 20), np.int32)

    (path,) = export(exported(nothing), kind, tmp_path, tmp_path / "old")

    assert path.exists()
