"""Load models and add new ones; a model folder never changes after it was added."""

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from cellwatch.core.network import CPNet
from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.files.atomic import flush, put_in_place
from cellwatch.records import ModelCard
from cellwatch.zoo.cards import (
    BUILTIN,
    CARD,
    LOG,
    WEIGHTS,
    ModelPlace,
    check_weights,
    find_model,
    is_path,
    read_card,
    write_card,
)
from cellwatch.zoo.limited import in_child
from cellwatch.zoo.stylefile import STYLES, StyleFacts, load_styles, save_styles
from cellwatch.zoo.weights import load_network, save_network

_IDS = re.compile(r"(cellpose/)?[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def load_model(place: ModelPlace) -> CPNet:
    """Load a model's network, in evaluation mode, in float32.

    Raises
    ------
    WeightsError
        When the weights are not those of the card, or not this network key for key.
    """
    if place.is_checkpoint:
        return _of_checkpoint(place.path)
    check_weights(place)
    return load_network(place.path / WEIGHTS)


def _of_checkpoint(path: Path) -> CPNet:
    # A pickle: this process never reads it.
    with tempfile.TemporaryDirectory(prefix="cellwatch-") as scratch:
        safe = Path(scratch) / WEIGHTS
        in_child("checkpoint", path, safe)
        return load_network(safe)


def style_facts_of(place: ModelPlace) -> StyleFacts:
    """Return what a model knows of styles: nothing, when it came without.

    Raises
    ------
    WeightsError
        When the file is not that of the card.
    """
    if not place.card.styles_sha256:
        return StyleFacts()
    return load_styles(place.path / STYLES, place.card.styles_sha256)


def add_model(
    folder: Path,
    network: CPNet,
    card: ModelCard,
    log: Path | None = None,
    *,
    styles: StyleFacts | None = None,
    is_half: bool = True,
) -> ModelCard:
    """Write a model folder; it is complete when its card is there.

    Parameters
    ----------
    folder : Path
        Must not hold a model yet.
    network : CPNet
    card : ModelCard
        Its `sha256` and diameters are taken from what is written.
    log : Path or None
        The training log to keep with it.
    styles : StyleFacts or None
        What it knows of styles; None: nothing.
    is_half : bool
        Whether the large tensors are stored in float16.

    Returns
    -------
    ModelCard
        As it was written.
    """
    if (folder / CARD).exists():
        raise WeightsError(f"{folder} holds a model already; models are never overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, STYLES):
        (folder / name).unlink(missing_ok=True)  # without a card it was never a model
    sha256 = save_network(network, folder / WEIGHTS, is_half=is_half)
    if log is not None and log.resolve() != (folder / LOG).resolve():
        shutil.copyfile(log, folder / LOG)
    card = replace(
        card,
        sha256=sha256,
        styles_sha256=save_styles(styles, folder / STYLES) if styles else "",
        diam_mean=network.config.diam_mean,
        diam_labels=network.config.diam_labels,
    )
    write_card(folder, card)
    return card


def hold_model(name: str, zoo: Path, kept_free: re.Pattern[str] | None = None) -> str:
    """Return the id under which a zoo holds a model; one named by its path is copied into it.

    Parameters
    ----------
    name : str
        An id or a path.
    zoo : Path
    kept_free : pattern or None
        Ids that the zoo's own networks are to have.

    Raises
    ------
    UnknownModel
        When there is no such model.
    WeightsError
        When the zoo holds another model of that id, its id is kept free, or the path is a bare
        checkpoint.
    """
    place = _find_anywhere(name, zoo)
    if kept_free and kept_free.fullmatch(place.card.id):
        raise WeightsError(
            f"the id of {name} is '{place.card.id}', and so is a network called that is to be "
            "trained here; rename the set's folder, or give the model another id"
        )
    if not is_path(name) and place.path in (BUILTIN / name, zoo / name):
        return name
    if place.is_checkpoint:
        raise WeightsError(f"{name} is a bare checkpoint; first: cellwatch models add {name}")
    target = zoo / place.card.id
    for there in (BUILTIN / place.card.id, target):
        if not (there / CARD).exists():
            continue
        if read_card(there).sha256 != place.card.sha256:
            raise WeightsError(f"'{place.card.id}' is another model ({there}) than {name}")
        return place.card.id
    if not _IDS.fullmatch(place.card.id):
        raise WeightsError(f"{place.path / CARD}: '{place.card.id}' cannot be an id in a zoo")
    copy_model(place, target, place.card.id)
    return place.card.id


def copy_model(place: ModelPlace, target: Path, model_id: str) -> ModelCard:
    """Copy a model folder, under another id; all else of its card stays.

    Raises
    ------
    WeightsError
        When its weights are not those of its card, or there is a model already.
    """
    check_weights(place)
    if (target / CARD).exists():
        raise WeightsError(f"{target} holds a model already; models are never overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in (WEIGHTS, STYLES, LOG):
        if (place.path / name).exists():
            shutil.copyfile(place.path / name, aside / name)  # its content alone, not its rights
            flush(aside / name)
    card = replace(place.card, id=model_id)
    write_card(aside, card)
    put_in_place(aside, target)
    return card


def _find_anywhere(name: str, zoo: Path) -> ModelPlace:
    # In the zoo and among the built-in models, else among the user's own.
    try:
        return find_model(name, zoo)
    except UnknownModel:
        return find_model(name)
