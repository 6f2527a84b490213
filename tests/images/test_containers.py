"""Files of Nikon and Zeiss: as independent readers tell of them, and refused where they are cut."""

import json
import shutil

import numpy as np
import pytest

from cellwatch.errors import UnreadableImage
from cellwatch.images import describe, load, suffixes
from cellwatch.images.tiff_structure import why_not_whole

pytestmark = pytest.mark.timeout(60)
KINDS = (".nd2", ".czi", ".lsm")
NAMED_BY_THEIR_READER = "Channel:"  # pylibCZIrw's names for channels that have none


@pytest.fixture(scope="module")
def samples(shared):
    folder = shared / "data/formats"
    if not (folder / "FACTS.json").is_file():
        pytest.skip("the collection of instrument files is not beside the project")
    facts = json.loads((folder / "FACTS.json").read_text())
    return [(folder / f["file"], f) for f in facts if f["file"].lower().endswith(KINDS)]


def test_what_instruments_wrote_is_described_as_independent_readers_do(samples):
    for path, facts in samples:
        info = describe(path)
        assert why_not_whole(path) == "", path.name
        sizes = dict(zip(info.axes, info.shape, strict=True))
        wanted = dict(zip(facts["axes"], facts["shape"], strict=True))
        assert sizes.pop("P", 1) == facts["positions"], path.name
        assert sizes == wanted, path.name
        assert info.dtype == facts["dtype"], path.name
        wanted_um = facts["pixel_size_um"]["x"]
        assert (info.pixel_size_um is None) == (wanted_um is None), path.name
        assert (info.pixel_size_um or 0) == pytest.approx(wanted_um or 0, rel=1e-4), path.name
        names = ["" if n.startswith(NAMED_BY_THEIR_READER) else n for n in facts["channels"]]
        assert list(info.channels) == (names or [""]), path.name


def test_pixels_equal_those_of_the_makers_libraries(samples):
    for path, _ in samples:
        image = load(path)
        assert image.pixels.dtype == describe(path).dtype
        assert image.pixels.any(), path.name
        if path.suffix == ".nd2":
            import nd2

            wanted = _in_our_order(nd2.imread(path), image)
            np.testing.assert_array_equal(image.pixels.ravel(), wanted)


def _in_our_order(pixels, image):
    axes = image.info.axes
    order = [axes.index(axis) for axis in "PTZCYX" if axis in axes]
    return pixels.transpose(order).ravel()


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
