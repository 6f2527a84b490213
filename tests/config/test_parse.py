from pathlib import Path

import pytest
import yaml

from cellwatch.cli.station import example_config
from cellwatch.config.locate import find_config, state_folder
from cellwatch.config.parse import parse_config, read_config
from cellwatch.config.schema import Config, Retrain, WatchDefaults
from cellwatch.core.parameters import Diameter, SegmentationParams
from cellwatch.errors import ConfigError

BASE = Path("/station")
LEAST = "watch:\n  - folder: images\noutput: {folder: masks}\nstate: {folder: state}\n"


def parse(text):
    return parse_config(text, "c.yaml", BASE)


def problems(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.exit_code == 78
    return str(caught.value).splitlines()


def test_the_least_configuration_takes_the_defaults():
    config = parse(LEAST)

    watched = config.watch[0]
    assert (watched.folder, watched.name) == (BASE / "images", "images")
    target = watched.targets()[0]
    assert (target.name, target.model) == ("cells", "auto")
    assert target.params() == SegmentationParams()
    assert config.zoo == BASE / "state/models"


def test_defaults_hold_for_every_folder_that_does_not_say_otherwise():
    config = parse(
        LEAST.replace("- folder: images", "- folder: a\n  - folder: b\n    diameter: 12")
        + "defaults: {diameter: 30 px, settle: 5 s}\n"
    )

    assert [w.diameter for w in config.watch] == [Diameter.parse(30), Diameter.parse(12)]
    assert [w.settle for w in config.watch] == [5, 5]


def test_targets_take_from_the_folder_what_they_do_not_say(tiny_model):
    config = parse(
        LEAST.replace(
            "- folder: images",
            "- folder: images\n    flow_threshold: 0.6\n    segment:\n"
            "      - {name: nuclei, channels: {cell: DAPI}}\n"
            f"      - {{name: cells, model: {tiny_model.path}, flow_threshold: 0.3}}",
        )
    )

    nuclei, cells = config.watch[0].targets()
    assert (nuclei.model, nuclei.flow_threshold, nuclei.choice().cell) == ("auto", 0.6, "DAPI")
    assert (cells.model, cells.flow_threshold) == (str(tiny_model.path), 0.3)


def test_all_problems_are_told_at_once_with_place_and_remedy():
    found = problems(
        "watch:\n  - folder: images\n    diametre: 30\n    settle: soon\n"
        "output: {folder: masks}\nstate: {folder: state}\ndevice: gpu\n"
    )

    assert found == [
        "c.yaml:3:5: unknown key 'diametre'; did you mean 'diameter'?",
        "c.yaml:4:5: watch.0.settle: 'soon' is not a time; write 2 s or 5 min",
        "c.yaml:7:1: device: input should be auto, cpu, cuda, or a list such as [cuda:0, cuda:1]",
    ]


def test_a_tab_is_named_as_what_it_is():
    (told,) = problems("watch:\n\t- folder: images\n")
    assert told.startswith("c.yaml:2:1: ")
    assert told.endswith("indent with spaces, not with a tab")


def test_unknown_keys_hide_no_conflict_between_the_others():
    told = problems(
        "watch:\n  - {folder: images, modle: nuclei, model: nuclie, min_size: -3 px}\n"
        "output: {folder: images/masks}\nstate: {folder: state}\nretrian: {}\n"
    )
    for part in ("'modle'", "min_size", "'nuclie'", "lies inside the watched folder", "'retrian'"):
        assert any(part in line for line in told), (part, told)
    assert len(told) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("watch: [", "c.yaml:2:1"),
        (LEAST.replace("\n  - folder: images", " []"), "c.yaml:1:1: watch names no folder"),
        ("just text", "is a mapping"),
        ("", "is a mapping"),
        (LEAST + "watch: []\n", "'watch' appears twice (first on line 1)"),
        (LEAST.replace("watch:", "watsch:"), "did you mean 'watch'?"),
        (LEAST.replace("state: {folder: state}\n", ""), "'state' is missing"),
        (LEAST.replace("- folder: images", "- name: x"), "'watch.0.folder' is missing"),
        (LEAST + "defaults: {diameter: -3}\n", "diameter"),
        (LEAST + "defaults: {segment: [{name: t1}]}\n", "cannot be told from other parts"),
        (LEAST + "defaults: {segment: [{name: nuclei.v2}]}\n", "cannot be told from other parts"),
        (LEAST + "defaults: {segment: [{name: _n}]}\n", "cannot be told from other parts"),
        (LEAST + "defaults: {pixel_size: 0}\n", "'0' is not a pixel size; write 0.65 um"),
        (LEAST + "defaults: {model: nuklei}\n", "c.yaml:5:12: there is no model 'nuklei'"),
        (LEAST + "defaults: {model: ./gone}\n", "/station/gone is neither a model folder"),
        (LEAST + "defaults: {flow_threshold: yes}\n", "write a number, not yes or no"),
        (LEAST + "defaults: {include: '*.tif'}\n", 'write a list, as in ["*.tif"]'),
        (LEAST + "defaults: {channels: {cell: -1}}\n", "a channel's name, or its index from 0"),
        (LEAST + "defaults: {normalise: {low: abc}}\n", "is not understood"),
        (LEAST.replace("folder: masks", "folder: ''"), "write the path of a folder"),
        (LEAST + "device: 2026-13-45\n", "c.yaml: month must be"),
        (LEAST + "defaults: {axes: YQX}\n", "letters of PTZCYXS"),
        (LEAST + "defaults: {existing: maybe}\n", "process, ignore, or since"),
        (LEAST + "defaults: {existing: 'since:soon'}\n", "'soon' is not a date"),
        (LEAST + "defaults: {normalise: {low: 99, high: 1}}\n", "percentiles"),
        (LEAST.replace("folder: masks", "folder: images/masks"), "lies inside the watched folder"),
        (LEAST.replace("- folder: images", "- folder: a\n  - folder: a/b\n    name: c"), "overlap"),
        (LEAST.replace("- folder: images", "- folder: a/x\n  - folder: b/x"), "are named 'x'"),
    ],
)
def test_mistakes_are_explained(text, message):
    assert any(message in line for line in problems(text)), problems(text)


def test_the_example_shows_every_key_with_its_default():
    text = example_config()
    shown = yaml.safe_load(text)

    assert set(shown) == set(Config.model_fields)
    assert set(shown["defaults"]) == set(WatchDefaults.model_fields)
    config = parse(text)
    bare = parse(LEAST)
    assert config.watch[0].model_dump() == bare.watch[0].model_dump()
    assert config.output == bare.output
    assert set(shown["retrain"]) == set(Retrain.model_fields)
    assert config.retrain == bare.retrain
    assert config.device == bare.device


def test_the_places_looked_at_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CELLWATCH_CONFIG", raising=False)

    with pytest.raises(ConfigError, match=r"--config, \$CELLWATCH_CONFIG and .*config.yaml"):
        find_config(None)
    (tmp_path / "config.yaml").write_text(LEAST)
    assert find_config(None) == Path("config.yaml")
    monkeypatch.setenv("CELLWATCH_CONFIG", str(tmp_path / "other.yaml"))
    with pytest.raises(ConfigError, match=r"other\.yaml"):
        find_config(None)


def test_folders_are_relative_to_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text(LEAST.replace("images", "../images"))

    assert read_config(tmp_path / "c.yaml").watch[0].folder == tmp_path.parent / "images"


def test_the_state_folder_is_found_without_judging_the_rest(tmp_path):
    (tmp_path / "c.yaml").write_text(LEAST + "nonsense: 1\n")

    assert state_folder(tmp_path / "c.yaml") == tmp_path / "state"
    (tmp_path / "c.yaml").write_text("state: 3")
    with pytest.raises(ConfigError, match="names no state folder"):
        state_folder(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("corrections: {folder: masks}", "output and corrections are one folder"),
        ("corrections: {folder: masks/mine/x}", None),
        ("corrections: {folder: masks/images}", "corrections (.*) lies inside output"),
        ("corrections: {folder: state/models}", "corrections (.*) lies inside state"),
        ("flags: {folder: link}", "output and flags are one folder"),
        ("flags: {folder: images/flags}", "flags (.*) lies inside the watched folder"),
    ],
)
def test_f91_roles_of_folders_are_compared_by_where_they_really_lie(tmp_path, lines, told):
    (tmp_path / "masks").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "masks")
    text = "watch: [{folder: images}]\noutput: {folder: masks}\nstate: {folder: state}\n" + lines
    if told is None:
        parse_config(text, "c.yaml", tmp_path)
        return

    with pytest.raises(ConfigError, match=told.replace("(.*)", r"\(.*\)")):
        parse_config(text, "c.yaml", tmp_path)


def test_f91_an_output_within_a_watched_folder_through_a_link_is_refused(tmp_path):
    (tmp_path / "images/masks").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "images/masks")
    text = "watch: [{folder: images}]\noutput: {folder: out}\nstate: {folder: state}\n"

    with pytest.raises(ConfigError, match="lies inside the watched folder"):
        parse_config(text, "c.yaml", tmp_path)


def test_f88_an_anchor_within_itself_is_an_error_and_not_endless(tmp_path):
    with pytest.raises(ConfigError, match="used within itself"):
        parse_config("watch: &w [*w]\noutput: {folder: a}\nstate: {folder: b}", "c", tmp_path)


def test_an_id_of_a_published_model_is_no_path_and_a_folder_is():
    published = LEAST + "defaults: {model: cellpose/cyto3}\n"
    with pytest.raises(ConfigError, match="there is no model 'cellpose/cyto3'"):
        parse(published)
    with pytest.raises(ConfigError, match="/cellpose/cyto3"):
        parse(published.replace("cellpose/cyto3", "./cellpose/cyto3"))
