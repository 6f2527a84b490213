"""Files that hold several images: each is read by a path that goes on below its file."""

from pathlib import Path

import numpy as np
import pytest

from cellwatch.errors import UnreadableImage
from cellwatch.files.members import container_of, file_of, is_there, member_of
from cellwatch.images import describe, images_in, load, open_image
from cellwatch.images.identity import content_sha256, fingerprint, has_fingerprint
from cellwatch.images.whole import why_not_whole
from tests.images import suite
from tests.images.projects import write_lif

pytestmark = pytest.mark.timeout(60)
RNG = np.random.default_rng(7)
STACK = RNG.integers(1, 4000, (2, 3, 2, 20, 30)).astype(np.uint16)
PLANE = RNG.integers(1, 200, (16, 24)).astype(np.uint8)
IMAGES = {"Series 1": ("YX", PLANE), "Tiles/Series 2": ("TZCYX", STACK)}


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "project.lif"
    write_lif(path, IMAGES)
    return path


def test_each_image_of_a_project_is_an_image_of_its_own(project):
    assert images_in(project) == [project / "Series 1", project / "Tiles/Series 2"]
    first, second = (load(path) for path in images_in(project))

    np.testing.assert_array_equal(first.pixels[0, 0, 0, 0], PLANE)
    np.testing.assert_array_equal(second.pixels[0], STACK)
    assert (second.info.axes, second.info.channels) == ("TZCYX", ("", ""))
    assert second.info.pixel_size_um == pytest.approx(0.5)
    for path in images_in(project):
        suite.check_what_is_described(path)
        suite.check_that_planes_are_those_of_the_whole(path)


def test_axes_without_a_meaning_are_read_at_their_first_place_with_a_note(tmp_path):
    path = tmp_path / "a.lif"
    sweep = RNG.integers(0, 255, (5, 12, 12)).astype(np.uint8)
    write_lif(path, {"sweep": ("λYX", sweep), "tiles": ("MYX", sweep)})

    info = describe(path / "sweep")

    assert (info.axes, info.notes) == ("YX", ("of its 5 planes along 'λ' the first is read",))
    np.testing.assert_array_equal(load(path / "sweep").pixels[0, 0, 0, 0], sweep[0])
    np.testing.assert_array_equal(load(path / "tiles").pixels[:, 0, 0, 0], sweep)


def test_an_image_keeps_its_identity_while_its_project_grows(project):
    before = {path: (fingerprint(path), content_sha256(path)) for path in images_in(project)}

    write_lif(project, {"Before": ("YX", PLANE[::-1].copy()), **IMAGES})

    assert len(images_in(project)) == 3
    assert {path: (fingerprint(path), content_sha256(path)) for path in before} == before
    changed = STACK + 1
    write_lif(project, {**IMAGES, "Tiles/Series 2": ("TZCYX", changed)})
    assert fingerprint(project / "Series 1") == before[project / "Series 1"][0]
    assert not has_fingerprint(project / "Tiles/Series 2", before[project / "Tiles/Series 2"][0])


def test_a_project_that_is_cut_anywhere_is_not_whole(project):
    data = project.read_bytes()
    for part in (0.02, 0.3, 0.6, 0.9, 0.999):
        project.write_bytes(data[: int(len(data) * part)])
        assert why_not_whole(project), part
        assert why_not_whole(project / "Series 1"), part


def test_a_listed_image_without_pixels_makes_the_project_incomplete(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, IMAGES, blocks=["Series 1"])

    assert "lacks the pixels of 1 image" in why_not_whole(path)


def test_an_image_that_is_not_in_its_project_is_named(project):
    for name in ("Series 9", "Tiles"):
        with pytest.raises(UnreadableImage, match=f"has no image '{name}'"):
            describe(project / name)


def test_two_images_of_one_name_and_names_that_are_no_paths_are_told_apart(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, {"..": ("YX", PLANE), "a": ("YX", PLANE)})
    text = path.read_bytes().replace("a".encode("utf-16-le"), "a".encode("utf-16-le"))
    path.write_bytes(text)

    assert [p.relative_to(path).as_posix() for p in images_in(path)] == ["image", "a"]


def test_a_group_with_the_name_of_a_project_is_none(project):
    image = project / "Old.lif/Series 1"

    assert file_of(image) == project
    assert member_of(image) == "Old.lif/Series 1"
    assert container_of("x/a.lif/Old.lif/Series 1") == "x/a.lif"


def test_a_folder_with_the_name_of_a_project_is_a_folder(tmp_path):
    folder = tmp_path / "scans.lif"
    folder.mkdir()

    assert file_of(folder / "a.tif") == folder / "a.tif"
    assert images_in(folder) == [folder]


def test_the_file_of_an_image_is_found_by_its_path_alone():
    assert file_of(Path("x/p.lif/A/B.5")) == Path("x/p.lif")
    assert member_of(Path("x/p.lif/A/B.5")) == "A/B.5"
    assert container_of("x/p.lif/A/B.5") == "x/p.lif"
    assert not is_there(Path("x/p.lif/A"))


def test_scenes_of_different_size_are_images_and_of_equal_size_positions(tmp_path):
    from pylibCZIrw import czi

    sides = {"apart.czi": [(20, 30), (24, 40)], "alike.czi": [(20, 30), (20, 30)]}
    scenes = {
        name: [RNG.integers(1, 200, side).astype(np.uint8) for side in each]
        for name, each in sides.items()
    }
    for name, planes in scenes.items():
        with czi.create_czi(str(tmp_path / name)) as file:
            for n, plane in enumerate(planes):
                file.write(plane[..., None], location=(n * 500, 0), scene=n)

    apart, alike = tmp_path / "apart.czi", tmp_path / "alike.czi"
    assert images_in(apart) == [apart / "scene 1", apart / "scene 2"]
    for path, plane in zip(images_in(apart), scenes["apart.czi"], strict=True):
        np.testing.assert_array_equal(load(path).pixels[0, 0, 0, 0], plane)
    assert fingerprint(apart / "scene 1") != fingerprint(apart / "scene 2")
    with pytest.raises(UnreadableImage, match=r"apart\.czi/scene 1"):
        open_image(apart)
    assert images_in(alike) == [alike]
    assert describe(alike).axes == "PYX"
