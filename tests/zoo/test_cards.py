import json

import pytest

from cellwatch.core.parameters import Diameter
from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.records import ModelCard
from cellwatch.zoo.cards import CARD, WEIGHTS, find_model, list_models, read_card
from cellwatch.zoo.catalog import add_model, load_model
from cellwatch.zoo.weights import save_checkpoint
from tests.conftest import tiny_network


@pytest.fixture
def zoo(tmp_path):
    add_model(tmp_path / "zoo" / "mine", tiny_network(), ModelCard("mine", "", 0, 0, steps=3))
    return tmp_path / "zoo"


def test_a_model_is_found_by_id_and_by_path(zoo):
    by_id = find_model("mine", zoo)
    by_path = find_model(str(zoo / "mine"))

    assert by_id.card == by_path.card
    assert by_id.card.diam_mean == 17
    assert load_model(by_id).config.widths == (4, 4, 8, 8)
    assert "mine" in [card.id for card in list_models(zoo)]


def test_an_unknown_model_is_an_error_that_lists_the_known(zoo):
    with pytest.raises(UnknownModel, match=r"no model 'yours'; known: .*mine"):
        find_model("yours", zoo)
    with pytest.raises(UnknownModel, match="neither a model folder"):
        find_model("./nowhere", zoo)


def test_a_checkpoint_file_is_a_model(tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "CP_2026")

    place = find_model(str(tmp_path / "CP_2026"))

    assert place.is_checkpoint
    assert not place.card.has_nucleus  # as `models add` has it without --nucleus
    assert load_model(place).config.diam_mean == 17


def test_changed_weights_are_refused_with_both_hashes(zoo):
    weights = zoo / "mine" / WEIGHTS
    was = read_card(zoo / "mine").sha256
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(WeightsError, match=f"was changed: its sha256 is .*{was}"):
        load_model(find_model("mine", zoo))


def test_a_model_is_never_overwritten(zoo):
    before = (zoo / "mine" / CARD).read_bytes()

    with pytest.raises(WeightsError, match="never overwritten"):
        add_model(zoo / "mine", tiny_network(1), ModelCard("mine", "", 0, 0))
    assert (zoo / "mine" / CARD).read_bytes() == before


def test_a_card_with_unknown_keys_is_refused(zoo):
    card = json.loads((zoo / "mine" / CARD).read_text())
    (zoo / "mine" / CARD).write_text(json.dumps({**card, "colour": "blue"}))

    with pytest.raises(WeightsError, match="unknown keys: colour"):
        read_card(zoo / "mine")


def test_the_built_in_model_is_small_and_whole():
    place = find_model("nuclei")

    assert (place.path / WEIGHTS).stat().st_size <= 14_000_000
    assert place.card.channels == ("cell",)
    assert place.card.steps > 0
    assert all(entry["licence"] for entry in place.card.data)
    assert load_model(place).config.diam_mean == place.card.diam_mean == 17
    assert Diameter.parse("model").rule == "model"
