"""The published zoo from a server on this machine: fetched, resumed, pinned, refused."""

import json

import numpy as np
import pytest
import torch

from cellwatch.errors import DownloadError, UnknownModel, WeightsError
from cellwatch.files.digests import file_sha256
from cellwatch.records import ModelCard
from cellwatch.zoo.cards import find_model
from cellwatch.zoo.catalog import add_model, load_model, style_facts_of
from cellwatch.zoo.classifiers import find_classifier, load_classifier
from cellwatch.zoo.fetchable import PUBLISHED, published
from cellwatch.zoo.importing import (
    export_checkpoint,
    import_checkpoint,
    import_style_choice,
    style_choice_models,
)
from cellwatch.zoo.published import PINS, checked_address, fetch, pin
from cellwatch.zoo.weights import save_checkpoint
from tests.conftest import tiny_network
from tests.zoo.mirror import running_mirror

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def mirror():
    with running_mirror() as server:
        yield server


def test_a_file_is_fetched_and_its_hash_recorded(mirror, tmp_path):
    mirror.files["cyto3"] = b"weights" * 1000
    seen = []

    path = fetch("cyto3", tmp_path, mirror.address, lambda done, total: seen.append((done, total)))

    assert path.read_bytes() == mirror.files["cyto3"]
    assert seen[-1] == (7000, 7000)
    assert not (tmp_path / PINS).exists()
    pin("cyto3", path, tmp_path)
    assert json.loads((tmp_path / PINS).read_text()) == {"cyto3": file_sha256(path)}
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_download_that_broke_off_goes_on_where_it_was(mirror, tmp_path):
    mirror.files["cyto3"] = bytes(range(256)) * 4000
    mirror.break_after = 300_000

    path = fetch("cyto3", tmp_path, mirror.address)

    assert path.read_bytes() == mirror.files["cyto3"]
    assert mirror.asked == [("cyto3", None), ("cyto3", "bytes=300000-")]


def test_a_file_that_changed_meanwhile_is_fetched_anew(mirror, tmp_path):
    mirror.files["cyto3"] = b"new" * 100
    (tmp_path / ".cyto3.partial").write_bytes(b"old")
    (tmp_path / ".cyto3.partial.etag").write_text('"another"')

    assert fetch("cyto3", tmp_path, mirror.address).read_bytes() == b"new" * 100


def test_a_download_that_was_whole_but_not_yet_renamed_can_be_pulled(mirror, tmp_path):
    mirror.files["cyto3"] = b"whole" * 50
    fetch("cyto3", tmp_path, mirror.address).rename(tmp_path / ".cyto3.partial")
    (tmp_path / ".cyto3.partial.etag").write_text(f'"{hash(mirror.files["cyto3"])}"')

    assert fetch("cyto3", tmp_path, mirror.address).read_bytes() == b"whole" * 50
    assert mirror.asked[-2:] == [("cyto3", "bytes=250-"), ("cyto3", None)]


def test_another_file_than_the_first_is_refused_with_both_hashes(mirror, tmp_path):
    mirror.files["cyto3"] = b"first"
    first = fetch("cyto3", tmp_path, mirror.address)
    pin("cyto3", first, tmp_path)
    sha = file_sha256(first)
    mirror.files["cyto3"] = b"second"

    with pytest.raises(DownloadError, match=sha) as told:
        fetch("cyto3", tmp_path, mirror.address)

    (tmp_path / "x").write_bytes(b"second")
    assert file_sha256(tmp_path / "x") in str(told.value)
    assert first.read_bytes() == b"first"
    with pytest.raises(DownloadError, match="not the file that was downloaded first"):
        pin("cyto3", tmp_path / "x", tmp_path)
    assert (tmp_path / "x").exists()


def test_what_is_not_there_is_said(mirror, tmp_path):
    with pytest.raises(DownloadError, match="404"):
        fetch("cyto9", tmp_path, mirror.address)


def test_a_redirect_to_an_unsafe_address_is_refused(mirror, tmp_path):
    with pytest.raises(DownloadError, match="not https"):
        fetch("moved", tmp_path, mirror.address)


@pytest.mark.parametrize(
    "address", ["http://example.org/models", "ftp://127.0.0.1/x", "file:///etc", "models"]
)
def test_only_https_and_this_machine_are_trusted(address):
    with pytest.raises(DownloadError, match="not https"):
        checked_address(address)


def test_names_are_those_of_the_published_zoo():
    assert {"cyto", "cyto2", "nuclei", "tissuenet", "livecell", "general", "CP", "CPx",
            "TN1", "TN2", "TN3", "LC1", "LC2", "LC3", "LC4", "cyto3"} <= set(PUBLISHED)  # fmt: skip
    assert published("nuclei").diam_mean == 17
    with pytest.raises(UnknownModel, match="there are cyto, cyto2"):
        published("cyto9")


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tiny_network(3), tmp_path / "CP_20261123")
    return tmp_path / "CP_20261123"


def write_size_model(path, network_width=8):
    held = {
        "A": np.linspace(-1, 1, network_width),
        "smean": np.full(network_width, 0.1),
        "diam_mean": np.float64(30),
        "ymean": np.float64(0.2),
    }
    np.save(path, held, allow_pickle=True)
    return path


def test_a_checkpoint_becomes_a_model_with_the_same_weights(checkpoint, tmp_path):
    size = write_size_model(tmp_path / "size.npy")

    card = import_checkpoint(checkpoint, tmp_path / "zoo/mine", "mine", size_model=size)

    place = find_model("mine", tmp_path / "zoo")
    for key, value in tiny_network(3).state_dict().items():
        assert torch.equal(load_model(place).state_dict()[key], value), key
    assert card.diam_mean == 17
    assert file_sha256(checkpoint) in card.source
    estimate = style_facts_of(place).size.estimate(np.full(8, 0.1, np.float32))
    assert estimate == pytest.approx(30 * np.exp(0.2))


def test_a_file_of_cellpose_1_needs_its_diameter_said(tmp_path):
    state = {k: v for k, v in tiny_network().state_dict().items() if not k.startswith("diam")}
    torch.save(state, tmp_path / "old")

    with pytest.raises(WeightsError, match="--diam-mean"):
        import_checkpoint(tmp_path / "old", tmp_path / "zoo/old", "old")
    assert not (tmp_path / "zoo/old").exists()

    assert (
        import_checkpoint(tmp_path / "old", tmp_path / "zoo/o", "o", diam_mean=30).diam_mean == 30
    )


def test_export_and_add_give_the_same_weights_back(checkpoint, tmp_path):
    import_checkpoint(checkpoint, tmp_path / "zoo/mine", "mine")

    export_checkpoint("mine", tmp_path / "zoo", tmp_path / "out")
    import_checkpoint(tmp_path / "out", tmp_path / "zoo/again", "again")

    first, again = (find_model(name, tmp_path / "zoo") for name in ("mine", "again"))
    assert first.card.sha256 == again.card.sha256
    with pytest.raises(WeightsError, match="exists"):
        export_checkpoint("mine", tmp_path / "zoo", tmp_path / "out")


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, "w")


def test_a_pickle_with_a_payload_is_refused_and_nothing_runs(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"W": Payload(str(trace))}, tmp_path / "bad")
    np.save(tmp_path / "bad.npy", {"A": Payload(str(trace))}, allow_pickle=True)
    save_checkpoint(tiny_network(), tmp_path / "good")

    with pytest.raises(WeightsError, match="cannot be read as a Cellpose checkpoint"):
        import_checkpoint(tmp_path / "bad", tmp_path / "zoo/bad", "bad")
    with pytest.raises(WeightsError, match="would call"):
        import_checkpoint(
            tmp_path / "good", tmp_path / "zoo/bad", "bad", size_model=tmp_path / "bad.npy"
        )
    assert not trace.exists()
    assert not (tmp_path / "zoo").exists()


def test_a_cut_off_checkpoint_is_refused(checkpoint, tmp_path):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])

    with pytest.raises(WeightsError, match="cannot be read"):
        import_checkpoint(checkpoint, tmp_path / "zoo/cut", "cut")


def test_tampered_weights_are_refused_with_both_hashes(checkpoint, tmp_path):
    card = import_checkpoint(checkpoint, tmp_path / "zoo/mine", "mine")
    weights = tmp_path / "zoo/mine/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)

    with pytest.raises(WeightsError, match=card.sha256) as told:
        load_model(find_model("mine", tmp_path / "zoo"))
    assert file_sha256(weights) in str(told.value)


def write_choice(path, models):
    rng = np.random.default_rng(0)
    styles = rng.normal(size=(20, 8)).astype(np.float32)
    held = {
        "train_styles": styles / np.linalg.norm(styles, axis=1, keepdims=True),
        "leiden_labels": np.array(["0", "1"] * 10),
        "label_models": models,
    }
    np.save(path, held, allow_pickle=True)
    return path


def test_the_published_choice_becomes_a_classifier(tmp_path):
    zoo = tmp_path / "zoo"
    source = write_choice(tmp_path / "style_choice.npy", ["CP", "TN1", "LC1"])
    assert style_choice_models(source) == ["CP", "LC1", "TN1", "general"]
    with pytest.raises(UnknownModel, match="CP, LC1, TN1, general"):
        import_style_choice(source, zoo)
    for name in ("CP", "TN1", "LC1", "general"):
        add_model(zoo / "cellpose" / name, tiny_network(), ModelCard(f"cellpose/{name}", "", 0, 0))

    import_style_choice(source, zoo)

    place = find_classifier("cellpose/auto", zoo)
    assert [c.model for c in place.card.clusters] == ["cellpose/CP", "cellpose/TN1"]
    assert place.card.scale == "diameter"
    assert len(load_classifier(place).styles) == 20
    assert set(place.models()) == {"cellpose/CP", "cellpose/TN1", "cellpose/general"}


def test_published_ids_do_not_collide_with_the_built_in_ones(tmp_path):
    add_model(tmp_path / "cellpose/nuclei", tiny_network(), ModelCard("cellpose/nuclei", "", 0, 0))

    assert find_model("cellpose/nuclei", tmp_path).card.id == "cellpose/nuclei"
    assert find_model("nuclei", tmp_path).card.id == "nuclei"


@pytest.mark.parametrize("name", ["cyto2", "cellpose/cyto2"])
def test_a_published_name_that_was_not_fetched_says_how_to_fetch_it(name, tmp_path):
    with pytest.raises(UnknownModel, match=r"models pull cyto2', then it is cellpose/cyto2"):
        find_model(name, tmp_path)
    with pytest.raises(UnknownModel, match=r"there is no model 'mine'; known: [^']*'?$"):
        find_model("mine", tmp_path)
