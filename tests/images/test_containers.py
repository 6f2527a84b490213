"""Files of microscope makers: pixels as their own readers give them, and refused where cut."""

import json
import shutil
from pathlib import Path

import liffile
import nd2
import numpy as np
import oiffile
import pytest
import slideio

from cellwatch import images
from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, images_in, load, suffixes
from cellwatch.images.whole import why_not_whole

pytestmark = pytest.mark.timeout(60)
KINDS = (".nd2", ".czi", ".lsm", ".lif", ".oib", ".stk", ".svs", ".ndpi", ".vsi")


@pytest.fixture(scope="module")
def samples(shared):
    folder = shared / "data/formats"
    if not (folder / "FACTS.json").is_file():
        pytest.skip("the collection of instrument files is not beside the project")
    facts = json.loads((folder / "FACTS.json").read_text())
    named = [f for f in facts if f["file"].lower().endswith(KINDS) and f["whole"]]
    return [(folder / f["file"], f) for f in named]


def test_pixels_equal_those_of_the_makers_libraries(samples):
    compared = set()
    for path, _ in samples:
        image = load(images_in(path)[0])
        assert image.pixels.any(), path.name
        reader = READERS.get(path.suffix.lower())
        if reader is not None:
            wanted = np.asarray(reader(path))
            np.testing.assert_array_equal(as_stored(image).ravel(), wanted.ravel(), path.name)
            compared.add(path.suffix.lower())
    assert compared == set(READERS)


def as_stored(image):
    """Return the pixels along the axes of the file, in its order."""
    axes = image.info.axes.replace("S", "C")
    kept = image.pixels.transpose(
        ["PTZCYX".index(axis) for axis in "PTZCYX" if axis not in axes]
        + ["PTZCYX".index(axis) for axis in axes]
    )
    return kept.reshape(image.info.shape)


def of_nikon(path):
    return nd2.imread(path)


def of_leica(path):
    with liffile.LifFile(path) as project:
        image = project.images[0]
        pixels = image.asarray()
        # In the order in which images are read; a wavelength sweep at its first place.
        order = [axis for axis in "MTZCYX" if axis in image.dims]
        rest = [axis for axis in image.dims if axis not in order]
        first = pixels.transpose([image.dims.index(axis) for axis in rest + order])
        return first[(0,) * len(rest)]


def of_olympus(path):
    with oiffile.OifFile(path) as file:
        return file.asarray()


def of_slides(path):
    scene = slideio.open_slide(str(path), path.suffix[1:].upper()).get_scene(0)
    depth = max(1, scene.num_z_slices)
    pixels = scene.read_block(slices=(0, depth), frames=(0, 1))
    return pixels if pixels.ndim == 3 and depth == 1 else pixels.transpose(0, 3, 1, 2)


READERS = {
    ".nd2": of_nikon,
    ".lif": of_leica,
    ".oib": of_olympus,
    ".svs": of_slides,
    ".ndpi": of_slides,
    ".vsi": of_slides,
}


def test_a_file_that_is_cut_anywhere_is_not_whole(samples, tmp_path):
    for path, _ in samples:
        data = path.read_bytes()
        for part in (0.05, 0.3, 0.6, 0.9, 0.999):
            cut = tmp_path / path.name
            cut.write_bytes(data[: int(len(data) * part)])
            assert why_not_whole(cut), f"{path.name} cut at {part}"
            if cut.suffix == ".nd2":
                cut.write_bytes(data[: int(len(data) * part)] + bytes(len(data)))
                assert why_not_whole(cut), f"{path.name} with zeros from {part} on"


@pytest.mark.parametrize("suffix", KINDS)
def test_something_else_under_such_a_name_is_refused(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"my notes of yesterday" * 100)

    assert "this is no" in why_not_whole(path)
    with pytest.raises(UnreadableImage):
        describe(path)


def test_a_format_without_its_library_is_not_read_and_what_to_install_is_said(monkeypatch):
    assert suffixes.how_to_read(".tif") == ""
    monkeypatch.setattr(suffixes, "SUFFIXES", suffixes.ALWAYS)
    monkeypatch.setattr(images, "SUFFIXES", suffixes.ALWAYS)
    with pytest.raises(UnreadableImage, match=r"to read them: pip install 'cellwatch\[lif\]'"):
        describe(Path("project.lif"))
    assert suffixes.how_to_read(".nd2") == "pip install 'cellwatch[nd2]', then restart the daemon"
    assert suffixes.how_to_read(".czi") == "pip install 'cellwatch[czi]', then restart the daemon"


def test_a_station_segments_what_a_nikon_wrote(samples, tmp_path, tiny_model):
    from tests.daemon.stations import Station

    station = Station(tmp_path / "s", tiny_model.path, ", channels: {cell: DAPI}")
    path = next(path for path, _ in samples if "multichannel" in path.name)
    shutil.copy(path, station.images / "a.nd2")

    station.command("run", "--once", "--strict")

    assert station.counts() == {"done": 1}
    assert "CYX" in station.command("explain", "a.nd2").stdout
