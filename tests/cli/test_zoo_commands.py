"""The commands on zoos, models and datasets, as scripts meet them."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import yaml

from cellwatch.cli.try_models import doubt_of
from cellwatch.workflows.try_models import Trial
from cellwatch.zoo.weights import save_checkpoint
from tests.cli.test_commands import cellwatch, in_process, write_pair
from tests.conftest import tiny_network
from tests.daemon.stylezoo import write_style_zoo
from tests.discs import disc_picture, trained_on_discs
from tests.zoo.mirror import running_mirror

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def mirror():
    with running_mirror() as server:
        yield server


def test_a_published_model_is_pulled_listed_and_used(mirror, tmp_path):
    save_checkpoint(trained_on_discs(), tmp_path / "file")
    mirror.files["livecell"] = (tmp_path / "file").read_bytes()
    tifffile.imwrite(tmp_path / "a.tif", disc_picture(3)[0])
    zoo = ("--zoo", tmp_path / "zoo")

    pulled = cellwatch("models", "pull", "livecell", "--mirror", mirror.address, *zoo)
    again = cellwatch("models", "pull", "livecell", "--mirror", mirror.address, *zoo)
    listed = cellwatch("models", "list", "--json", *zoo)
    done = cellwatch("segment", tmp_path / "a.tif", "-m", "cellpose/livecell", "-o", tmp_path, *zoo)

    assert pulled.returncode == 0, pulled.stderr
    assert "still the same" in again.stderr
    assert "cellpose/livecell" in [card["id"] for card in json.loads(listed.stdout)]
    assert "12 ROIs" in done.stderr


def test_a_changed_file_on_the_mirror_is_refused(mirror, tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "file")
    mirror.files["CP"] = (tmp_path / "file").read_bytes()
    words = ("models", "pull", "CP", "--mirror", mirror.address, "--zoo", tmp_path / "zoo")
    assert in_process(*words).returncode == 0
    mirror.files["CP"] += b"x"

    refused = in_process(*words)

    assert refused.returncode == 1
    assert "not the file that was downloaded first" in refused.stderr


def test_a_model_trained_here_gets_a_name_and_keeps_its_card(tmp_path, tiny_model):
    zoo = ("--zoo", tmp_path / "zoo")
    mine = tmp_path / "read-only"
    shutil.copytree(tiny_model.path, mine)
    mine.chmod(0o555)

    added = in_process("models", "add", mine, "--id", "mine", *zoo)
    again = in_process("models", "add", mine, "--id", "mine", *zoo)
    shown = in_process("models", "show", "mine", "--json", *zoo)
    weights = tmp_path / "zoo/mine/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    damaged = in_process("models", "show", "mine", *zoo)

    assert added.returncode == 0, added.stderr
    assert (tmp_path / "zoo/mine").stat().st_mode & 0o200
    assert (again.returncode, "never overwritten" in again.stderr) == (1, True)
    card = json.loads(shown.stdout)
    assert (card["id"], card["sha256"]) == ("mine", tiny_model.card.sha256)
    assert damaged.returncode == 1
    assert "bring the file back from a copy" in damaged.stderr


def test_a_new_file_is_taken_when_the_old_one_is_forgotten_whole(tmp_path):
    for name, seed in (("old", 0), ("new", 1)):
        save_checkpoint(tiny_network(seed), tmp_path / name)
    zoo = tmp_path / "zoo"
    words = ("models", "pull", "LC1", "--zoo", zoo, "--from-file")
    assert in_process(*words, tmp_path / "old").returncode == 0
    old = (zoo / "cellpose" / "LC1" / "card.json").read_text()
    (zoo / "cellpose" / "pins.json").unlink()

    half = in_process(*words, tmp_path / "new")
    pinned = (zoo / "cellpose" / "pins.json").exists()
    shutil.rmtree(zoo / "cellpose" / "LC1")
    whole = in_process(*words, tmp_path / "new")

    assert half.returncode == 1
    assert "LC1 was made of another file" in half.stderr
    assert not pinned
    assert whole.returncode == 0, whole.stderr
    assert (zoo / "cellpose" / "LC1" / "card.json").read_text() != old


def test_a_size_model_that_lacks_is_told_and_not_taken_afterwards(tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "net")
    size = {"A": np.ones(8), "smean": np.zeros(8), "diam_mean": 30.0, "ymean": 3.0}
    np.save(tmp_path / "size.npy", size, allow_pickle=True)
    np.save(tmp_path / "narrow.npy", {**size, "A": np.ones(5), "smean": np.zeros(5)})
    words = ("models", "pull", "cyto2", "--from-file", tmp_path / "net")
    sized = ("--size-file", tmp_path / "size.npy")

    narrow = in_process(*words, "--zoo", tmp_path / "a", "--size-file", tmp_path / "narrow.npy")
    alone = in_process(*words, "--zoo", tmp_path / "a")
    later = in_process(*words, "--zoo", tmp_path / "a", *sized)
    together = in_process(*words, "--zoo", tmp_path / "b", *sized)

    assert (narrow.returncode, alone.returncode, later.returncode) == (1, 0, 2)
    assert "5 weights, the network's styles have 8" in narrow.stderr
    assert "without size_cyto2torch_0.npy" in alone.stderr
    assert "remove that folder" in later.stderr
    assert "size_cyto2torch_0.npy" not in (tmp_path / "a/cellpose/pins.json").read_text()
    assert together.returncode == 0, together.stderr
    assert (tmp_path / "b/cellpose/cyto2/styles.safetensors").exists()


def test_a_model_of_ones_own_is_added_from_a_file_and_exported(tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "CP_1")
    zoo = ("--zoo", tmp_path / "zoo")

    added = cellwatch("models", "add", tmp_path / "CP_1", "--id", "mine", *zoo)
    exported = cellwatch("models", "export", "mine", "-o", tmp_path / "out", *zoo)
    unnamed = cellwatch("models", "add", tmp_path / "CP_1", "--id", "a/b", *zoo)

    assert added.returncode == 0, added.stderr
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "out").stat().st_size > 10_000
    assert unnamed.returncode == 2


def test_without_network_a_file_is_brought_by_hand(tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "cyto3")
    zoo = ("--zoo", tmp_path / "zoo")

    done = cellwatch("models", "pull", "cyto3", "--from-file", tmp_path / "cyto3", *zoo)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cyto3").exists()
    assert json.loads((tmp_path / "zoo/cellpose/pins.json").read_text()).keys() == {"cyto3"}


def test_datasets_are_made_and_counted(tmp_path):
    for index in range(2):
        write_pair(tmp_path / "in", f"a{index}", index)

    split = cellwatch("dataset", "quarters", tmp_path / "in", "-o", tmp_path / "q", "--json")
    sizes = ("--sizes", "0.5,1,2", "--seeds", "2")
    made = cellwatch("dataset", "subsets", tmp_path / "in", "-o", tmp_path / "s", *sizes, "--json")
    wrong = cellwatch("dataset", "subsets", tmp_path / "in", "-o", tmp_path / "t", "--sizes", "x")

    assert len(json.loads(split.stdout)) == 8
    assert len(json.loads(made.stdout)) == 6
    assert wrong.returncode == 2


def test_a_stack_of_overlapping_rois_is_compared_with_a_label_image(tmp_path):
    write_pair(tmp_path / "truth", "a", 4)
    (tmp_path / "stacks").mkdir()
    _, labels = disc_picture(4)
    stack = np.stack([(labels == n).astype(np.uint8) * 255 for n in range(1, labels.max() + 1)])
    tifffile.imwrite(tmp_path / "stacks/a_masks.tif", stack)

    done = in_process("compare", tmp_path / "stacks", tmp_path / "truth", "--json")

    (tmp_path / "stacks/a_masks.tif").rename(tmp_path / "stacks/a_cp_masks.tif")
    named = in_process("compare", tmp_path / "stacks", tmp_path / "truth", "--json")

    assert named.stdout == done.stdout
    scores = json.loads(done.stdout)
    assert scores["ap"]["0.9"] == 1
    assert scores["ap_interval_95"]["0.5"] == [1, 1]
    assert len(scores["ap_curve"]) == 10


@pytest.fixture(scope="module")
def style_zoo(tiny_model, tmp_path_factory):
    return write_style_zoo(tmp_path_factory.mktemp("zoo"), tiny_model)


def test_an_image_is_tried_under_every_model_and_the_lines_can_be_pasted(style_zoo, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disc_picture(5)[0])
    sheet = tmp_path / "sheet.png"
    words = ("try", tmp_path / "a.tif", "--model", "discs", "--zoo", style_zoo, "--out", sheet)
    words += ("--channels", "0")

    done = cellwatch(*words, "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [trial["model"] for trial in told["trials"]] == ["discs"] * 3
    diameters = [trial["diameter"] for trial in told["trials"]]
    assert diameters[2] / diameters[0] == pytest.approx(2.25, rel=0.05)
    assert max(trial["rois"] for trial in told["trials"]) == 12
    assert told["cluster"] == "round things"
    pasted = yaml.safe_load("watch:\n" + told["yaml"])["watch"][0]
    assert pasted["model"] == "discs"
    assert pasted["folder"] == str(tmp_path)
    assert pasted["channels"] == {"cell": 0}
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_a_suggestion_that_found_nothing_is_doubted_where_another_found_something():
    def trial(name, n_rois):
        return Trial(name, 36.4, np.zeros((4, 4), np.int32), n_rois, 0.0, None, ())

    phase, nuclei = trial("phase", 0), trial("nuclei", 85)

    told = "'phase' found nothing at 36.4 px, 'nuclei' 85 ROIs at 36.4 px: is that one better?"
    assert doubt_of(phase, [phase, nuclei]) == told
    assert doubt_of(nuclei, [phase, nuclei]) == ""
    assert "no model found anything" in doubt_of(phase, [phase])


def test_a_plane_that_is_not_there_is_refused(style_zoo, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disc_picture(5)[0])

    done = cellwatch("try", tmp_path / "a.tif", "--plane", "3", "--zoo", style_zoo)

    assert done.returncode == 2
    assert "has 1 planes; there is no plane 3" in done.stderr


def test_evaluate_and_segment_choose_by_style(style_zoo, tmp_path):
    write_pair(tmp_path / "pairs", "a", 7)
    zoo = ("--model", "auto", "--zoo", style_zoo)

    scored = cellwatch("evaluate", "--data", tmp_path / "pairs", *zoo, "--json", "-d", "train-mean")
    done = cellwatch("segment", tmp_path / "pairs/a_img.tif", *zoo, "--out", tmp_path / "out")
    shown = cellwatch("zoo", "show", "--zoo", style_zoo, "--json")

    facts = json.loads(scored.stdout)
    assert facts["ap"]["0.5"] > 0.9
    assert facts["chosen"] == "discs 1"
    assert "model discs (round things)" in done.stderr
    assert json.loads(shown.stdout)["clusters"][0]["model"] == "discs"
