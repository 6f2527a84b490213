"""Names of the microscope's computer for the folders of this one."""

import pytest

from cellwatch.cli.client import as_known
from cellwatch.config.elsewhere import here, there
from cellwatch.config.parse import parse_config
from cellwatch.errors import ConfigError

TEXT = r"""
watch: [{folder: scope}]
output: {folder: masks}
state: {folder: state}
paths: {'D:\data': scope, '\\nas\share': archive}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "scope").mkdir()
    return parse_config(TEXT, "config.yaml", tmp_path)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (r"D:\data\exp 1\a.tif", "scope/exp 1/a.tif"),
        ("d:/DATA/exp/a.tif", "scope/exp/a.tif"),
        (r"\\NAS\share\b.tif", "archive/b.tif"),
    ],
)
def test_a_path_of_the_microscope_is_found_here(config, tmp_path, said, meant):
    assert here(config, said) == str(tmp_path / meant)
    assert as_known(config, said) == str(tmp_path / meant)


@pytest.mark.parametrize("said", [r"D:\database\a.tif", "E:/data/a.tif", "a.tif", "/mnt/a.tif"])
def test_other_names_stay_what_they_are(config, said):
    assert here(config, said) == said


def test_a_path_of_this_computer_is_told_as_the_microscope_names_it(config, tmp_path):
    assert there(config, str(tmp_path / "scope/exp/a.tif")) == r"D:\data\exp\a.tif"
    assert there(config, "/elsewhere/a.tif") == ""


@pytest.mark.parametrize("folder", [r"D:\data", r"\\nas\share", "C:/Users/scope"])
def test_a_watched_folder_of_windows_is_refused_with_what_to_do(tmp_path, folder):
    text = TEXT.replace("folder: scope", f"folder: '{folder}'")

    with pytest.raises(ConfigError, match="is a path of Windows; name the folder where this share"):
        parse_config(text, "config.yaml", tmp_path)


def test_a_watched_file_is_refused(tmp_path):
    (tmp_path / "scope").write_bytes(b"")

    with pytest.raises(ConfigError, match="scope is a file; name the folder that it lies in"):
        parse_config(TEXT, "config.yaml", tmp_path)
