"""OME-Zarr as other programs write it: read as it is stored, refused where chunks are missing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, load, open_image
from cellwatch.images.identity import content_sha256, fingerprint
from cellwatch.images.whole import why_not_whole
from tests.images import suite

pytestmark = pytest.mark.timeout(60)
RNG = np.random.default_rng(11)
STACK = RNG.integers(1, 4000, (3, 2, 5, 40, 60)).astype(np.uint16)  # T, C, Z, Y, X
CHUNK = (1, 1, 2, 32, 32)


def write_image(group, pixels, axes="tczyx", *, version="0.5", chunks=None, shards=None, um=0.25):
    """Write an array as the only level of an OME-Zarr image."""
    units = {"y": "micrometer", "x": "micrometer"}
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": units[a]} if a in units else {})}
        for a in axes
    ]
    scale = [um if a in "yx" else 1.0 for a in axes]
    steps = [{"type": "scale", "scale": scale}]
    levels = [{"path": "s0", "coordinateTransformations": steps}]
    count = pixels.shape[axes.index("c")] if "c" in axes else 1
    said = {
        "multiscales": [{"axes": named, "datasets": levels, "version": version}],
        "omero": {"channels": [{"label": f"dye {n}"} for n in range(count)]},
    }
    group.attrs.update({"ome": {"version": version, **said}} if version == "0.5" else said)
    array = group.create_array(
        "s0", shape=pixels.shape, dtype=pixels.dtype, chunks=chunks or pixels.shape, shards=shards
    )
    array[...] = pixels


def written(path, pixels=STACK, axes="tczyx", **options):
    zarr_format = 3 if options.get("version", "0.5") == "0.5" else 2
    write_image(zarr.create_group(path, zarr_format=zarr_format), pixels, axes, **options)
    return path


KINDS = {
    "plain.zarr": {},
    "chunks.zarr": {"chunks": CHUNK},
    "old.zarr": {"version": "0.4", "chunks": CHUNK},
    "shards.zarr": {"chunks": CHUNK, "shards": (1, 1, 4, 64, 64)},
}


@pytest.mark.parametrize("name", KINDS)
def test_an_image_is_read_as_it_is_stored(tmp_path, name):
    path = written(tmp_path / name, **KINDS[name])

    image = load(path)

    assert why_not_whole(path) == ""
    np.testing.assert_array_equal(image.pixels[0], STACK.transpose(0, 2, 1, 3, 4))
    assert image.info.axes == "TCZYX"
    assert (image.info.pixel_size_um, image.info.channels) == (0.25, ("dye 0", "dye 1"))
    suite.check_what_is_described(path)
    suite.check_that_planes_are_those_of_the_whole(path)


def test_an_image_in_a_zip_file_is_the_same(tmp_path):
    folder = written(tmp_path / "a.zarr", chunks=CHUNK)
    packed = Path(shutil.make_archive(str(tmp_path / "b.ome.zarr"), "zip", folder))

    np.testing.assert_array_equal(load(packed).pixels, load(folder).pixels)
    assert why_not_whole(packed) == ""
    data = packed.read_bytes()
    for part in (0.3, 0.9, 0.999):
        packed.write_bytes(data[: int(len(data) * part)])
        assert "zip" in why_not_whole(packed)


def test_the_fields_of_a_plate_are_positions(tmp_path):
    path = tmp_path / "plate.zarr"
    root = zarr.create_group(path, zarr_format=3)
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": wells}}
    for n, well in enumerate(wells):
        group = root.create_group(well["path"])
        images = [{"path": "0"}, {"path": "1"}]
        group.attrs["ome"] = {"version": "0.5", "well": {"images": images}}
        for field in (0, 1):
            write_image(group.create_group(str(field)), STACK[0, :, 0] + 10 * n + field, "cyx")

    image = load(path)

    assert image.info.axes == "PCYX"
    assert "A/1/0, A/1/1, B/2/0, B/2/1" in image.info.notes[0]
    corners = image.pixels[:, 0, 0, 0, 0, 0].astype(int)
    offsets = list(corners - int(STACK[0, 0, 0, 0, 0]))
    assert offsets == [0, 1, 10, 11]
    suite.check_that_planes_are_those_of_the_whole(path)


def test_several_images_of_different_shape_are_refused_with_their_shapes(tmp_path):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for n, pixels in enumerate((STACK[0, 0, 0], STACK[0, 0, 0, :20])):
        write_image(root.create_group(str(n)), pixels, "yx")

    with pytest.raises(UnreadableImage, match=r"differ in shape or type \(20 x 60; 40 x 60"):
        describe(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["chunks.zarr", "old.zarr", "shards.zarr"])
def test_a_store_that_is_cut_anywhere_is_not_whole(tmp_path, name):
    for kept in (0.0, 0.2, 0.5, 0.8, 0.97):
        path = written(tmp_path / f"{kept}" / name, **KINDS[name])
        chunks = sorted(
            (p for p in (path / "s0").rglob("*") if p.is_file() and "zarr" not in p.name),
            key=lambda p: [int(n) for part in p.relative_to(path / "s0").parts
                           for n in part.split(".") if n.isdecimal()],
        )  # fmt: skip
        for chunk in chunks[int(len(chunks) * kept) :]:
            chunk.unlink()

        reason = why_not_whole(path)

        assert ("none of the" if not kept else "and not the last one") in reason


def test_a_chunk_that_is_left_out_in_between_is_read_as_zeros_with_a_note(tmp_path):
    pixels = STACK.copy()
    pixels[1, 0, :2] = 0
    path = written(tmp_path / "a.zarr", pixels, chunks=(1, 1, 2, 40, 60))

    assert why_not_whole(path) == ""
    assert describe(path).notes == ("1 of its chunks are not there: their pixels are 0",)
    np.testing.assert_array_equal(load(path).pixels[0], pixels.transpose(0, 2, 1, 3, 4))


def test_metadata_may_come_last(tmp_path):
    path = written(tmp_path / "a.zarr", chunks=CHUNK)
    (path / "zarr.json").rename(tmp_path / "later.json")

    assert "cannot be read as OME-Zarr" in why_not_whole(path)
    shutil.move(tmp_path / "later.json", path / "zarr.json")
    assert why_not_whole(path) == ""


def test_a_broken_chunk_is_told_and_no_plane_is_invented(tmp_path):
    path = written(tmp_path / "a.zarr", chunks=CHUNK)
    chunk = path / "s0/c/1/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:50])

    with open_image(path) as image:
        image.plane(0, 0, 0)
        with pytest.raises(UnreadableImage, match="chunk cannot be decoded"):
            image.plane(0, 1, 0)


def test_what_is_no_image_is_refused_by_what_it_is(tmp_path):
    ours = zarr.create_group(tmp_path / "ours.zarr", zarr_format=3)
    ours.attrs["cellwatch"] = {"targets": {}}
    labels = zarr.create_group(tmp_path / "labels.zarr", zarr_format=3)
    labels.attrs["ome"] = {"version": "0.5", "image-label": {}, "multiscales": []}
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3).attrs["x"] = 1

    for name, why in (("ours", "a mask store"), ("labels", "a label"), ("other", "multiscales")):
        assert why_not_whole(tmp_path / f"{name}.zarr") == ""
        with pytest.raises(UnreadableImage, match=why):
            describe(tmp_path / f"{name}.zarr")


def test_pixels_that_are_not_square_have_no_one_size(tmp_path):
    path = written(tmp_path / "a.zarr")
    root = zarr.open_group(path, mode="r+")
    ome = root.attrs["ome"]
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][-1] = 0.5
    root.attrs["ome"] = ome

    info = describe(path)

    assert info.pixel_size_um is None
    assert "not square (0.5 by 0.25 µm)" in info.notes[0]


def test_a_store_is_known_by_what_it_holds(tmp_path):
    path = written(tmp_path / "a.zarr", chunks=CHUNK)
    before = fingerprint(path), content_sha256(path)
    path = path.rename(tmp_path / "b.zarr")

    assert (fingerprint(path), content_sha256(path)) == before
    zarr.open_array(path, path="s0", mode="r+")[0, 0, 0, 0, 0] = 7
    assert content_sha256(path) != before[1]
