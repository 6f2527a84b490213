"""Bring models from elsewhere into a zoo, and take models out for Cellpose."""

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from cellwatch.core.diameter import SizeModel
from cellwatch.core.network import CPNet
from cellwatch.core.styles import classifier_of
from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.files.digests import file_sha256
from cellwatch.records import ClassifierCard, ClusterCard, ModelCard
from cellwatch.zoo.cards import CARD, PUBLISHED_PREFIX, find_model
from cellwatch.zoo.catalog import add_model, load_model
from cellwatch.zoo.classifiers import CARD as CLASSIFIER_CARD
from cellwatch.zoo.classifiers import add_classifier
from cellwatch.zoo.limited import in_child
from cellwatch.zoo.stylefile import StyleFacts
from cellwatch.zoo.weights import load_network, save_checkpoint

STYLE_NETWORK = f"{PUBLISHED_PREFIX}general"  # gave the published styles
PUBLISHED_CHANNELS = ("cell", "nucleus")


def import_checkpoint(
    source: Path,
    folder: Path,
    model_id: str,
    *,
    diam_mean: float | None = None,
    size_model: Path | None = None,
    channels: tuple[str, ...] = PUBLISHED_CHANNELS,
    origin: str = "",
) -> ModelCard:
    """Make a model folder of a Cellpose checkpoint; its weights stay in full precision.

    Parameters
    ----------
    source : Path
        The checkpoint.
    folder : Path
        Must not hold a model yet.
    model_id : str
    diam_mean : float or None, px
        For files that do not say.
    size_model : Path or None
        A `size_*.npy` file of Cellpose.
    channels : tuple of str
        What the inputs were in training.
    origin : str
        Where it comes from, for the card.

    Raises
    ------
    WeightsError
        When a file is not what it should be, or the folder holds a model already.
    """
    if (folder / CARD).exists():
        raise WeightsError(f"{folder} holds a model already; models are never overwritten")
    with tempfile.TemporaryDirectory(prefix="cellwatch-") as scratch:
        safe = Path(scratch) / "weights.safetensors"
        note = in_child("checkpoint", source, safe, *([str(diam_mean)] if diam_mean else []))
        network = load_network(safe)
        styles = None
        if size_model:
            styles = StyleFacts(size=_size_model(size_model, Path(scratch)))
            _refuse_another_width(styles, network, size_model)
    card = ModelCard(
        id=model_id,
        sha256="",
        diam_mean=0.0,
        diam_labels=0.0,
        channels=channels,
        source=f"{origin or source.name}, sha256 {file_sha256(source)}"
        + (f"; {note}" if note else ""),
    )
    return add_model(folder, network, card, styles=styles, is_half=False)


def import_style_choice(source: Path, zoo: Path, origin: str = "") -> ClassifierCard:
    """Make a classifier `cellpose/auto` of Cellpose's `style_choice.npy`.

    Parameters
    ----------
    source : Path
    zoo : Path
        Must hold the published models that it chooses from, and `cellpose/general`.
    origin : str

    Raises
    ------
    UnknownModel
        When some of them are not there; all are named.
    WeightsError
        When the file is not a choice of styles.
    """
    folder = zoo / PUBLISHED_PREFIX / "auto"
    if (folder / CLASSIFIER_CARD).exists():
        raise WeightsError(f"{folder} holds a classifier already; it is never overwritten")
    styles, clusters, models = _style_choice(source)
    ids = [f"{PUBLISHED_PREFIX}{name}" for name in models]
    lacking = [name for name in {STYLE_NETWORK, *ids} if not (zoo / name / CARD).is_file()]
    if lacking:
        names = ", ".join(sorted(name.removeprefix(PUBLISHED_PREFIX) for name in lacking))
        raise UnknownModel(f"{source} chooses from models that are not in {zoo}: {names}")
    used, numbers = np.unique(clusters, return_inverse=True)
    counts = np.bincount(numbers)
    cards = [
        ClusterCard(
            models[label],
            ids[label],
            find_model(ids[label], zoo).card.sha256,
            int(counts[number]),
        )
        for number, label in enumerate(used)
    ]
    card = ClassifierCard(
        id=f"{PUBLISHED_PREFIX}auto",
        sha256="",
        styles_sha256="",
        style_model=STYLE_NETWORK,
        style_model_sha256=find_model(STYLE_NETWORK, zoo).card.sha256,
        clusters=tuple(cards),
        images=tuple(f"published style {n}" for n in range(len(styles))),
        recipe={"source": f"{origin or source.name}, sha256 {file_sha256(source)}"},
        scale="diameter",
    )
    return add_classifier(folder, classifier_of(styles, numbers.astype(np.int64)), card)


def style_choice_models(source: Path) -> list[str]:
    """Return the names of the published models that a choice of styles needs."""
    _, _, models = _style_choice(source)
    return sorted({*models, STYLE_NETWORK.removeprefix(PUBLISHED_PREFIX)})


def export_checkpoint(model: str, zoo: Path | None, target: Path) -> None:
    """Write a model as a checkpoint that Cellpose 3.1.1.3 loads.

    Raises
    ------
    WeightsError
        When the file is there already.
    """
    if target.exists():
        raise WeightsError(f"{target} exists; name a file that does not")
    place = find_model(model, zoo)
    network = load_model(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    save_checkpoint(network, aside)
    aside.rename(target)


def _size_model(source: Path, scratch: Path) -> SizeModel:
    safe = scratch / "size.safetensors"
    in_child("size", source, safe)
    arrays = load_file(safe)
    return SizeModel(
        weights=arrays["A"],
        style_mean=arrays["smean"],
        diam_mean=float(arrays["diam_mean"][0]),
        log_mean=float(arrays["ymean"][0]),
    )


def _refuse_another_width(styles: StyleFacts, network: CPNet, source: Path) -> None:
    wanted = network.config.widths[-1]
    if styles.size and len(styles.size.weights) != wanted:
        raise WeightsError(
            f"{source} is the size model of another network: it has {len(styles.size.weights)} "
            f"weights, the network's styles have {wanted} values"
        )


def _style_choice(source: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    with tempfile.TemporaryDirectory(prefix="cellwatch-") as scratch:
        safe = Path(scratch) / "styles.safetensors"
        in_child("styles", source, safe)
        with safe_open(safe, framework="np") as file:
            models = json.loads(file.metadata()["models"])
            styles, labels = file.get_tensor("styles"), file.get_tensor("labels")
    lengths = np.linalg.norm(styles, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise WeightsError(f"{source}: a style is zero")
    return (styles / lengths).astype(np.float32), labels, models
