"""Find models and read their cards, without torch: what every report and the supervisor need.

A model is a folder with `weights.safetensors`, `card.json` and `log.jsonl`. An argument with a path
separator or a leading dot is a path, anything else is an id: never guessed, never replaced. Models
pulled from the published zoo have ids with one separator, `cellpose/NAME`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.files.atomic import write_json
from cellwatch.files.digests import file_sha256
from cellwatch.records import ModelCard
from cellwatch.zoo.fetchable import PUBLISHED

WEIGHTS = "weights.safetensors"
CARD = "card.json"
LOG = "log.jsonl"
CLASSIFIER = "auto"  # the name of those that choose a model
RUN = "run.json"  # in a run folder, that is to become a model
PUBLISHED_PREFIX = "cellpose/"
BUILTIN = Path(__file__).parent / "builtin"


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model lies.

    Attributes
    ----------
    path : Path
        A model folder, or a checkpoint file of Cellpose.
    card : ModelCard
    """

    path: Path
    card: ModelCard

    @property
    def is_checkpoint(self) -> bool:
        """Say whether this is a checkpoint file of Cellpose rather than a model folder."""
        return self.path.is_file()


def find_model(name: str, zoo: Path | None = None) -> ModelPlace:
    """Find the model that an argument names.

    Parameters
    ----------
    name : str
        An id, or a path to a model folder or to a Cellpose checkpoint.
    zoo : Path or None
        The station's own models; None: only the built-in ones are known.

    Raises
    ------
    UnknownModel
        When there is none; the message lists those there are.
    """
    if is_path(name):
        return _at_path(Path(name))
    if name.rsplit("/", 1)[-1] == CLASSIFIER:
        raise UnknownModel(
            f"'{name}' is not a model: it chooses one for each image (cellwatch zoo show {name}); "
            "name one of those that it chooses from"
        )
    for root in zoo_roots(zoo):
        folder = root / name
        if (folder / CARD).is_file():
            return ModelPlace(folder, read_card(folder))
    known = ", ".join(card.id for card in list_models(zoo)) or "none"
    raise UnknownModel(
        f"there is no model '{name}'; known: {known} (a path needs a separator, as in ./{name})"
        + _published(name)
    )


def _published(name: str) -> str:
    plain = name.removeprefix(PUBLISHED_PREFIX)
    if plain not in PUBLISHED:
        return ""
    return (
        f". '{plain}' is a model that Cellpose publishes: fetch it once with 'cellwatch models "
        f"pull {plain}', then it is {PUBLISHED_PREFIX}{plain}"
    )


def is_path(name: str) -> bool:
    """Say whether an argument names a path rather than an id."""
    if name.startswith(PUBLISHED_PREFIX) and name.count(os.sep) == 1:
        return False
    return os.sep in name or name.startswith(".")


def list_models(zoo: Path | None = None) -> list[ModelCard]:
    """Return the cards of all models that have an id: built-in, then the station's own."""
    return [
        read_card(card.parent)
        for root in zoo_roots(zoo)
        if root.is_dir()
        for card in sorted(root.rglob(CARD))
    ]


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model folder.

    Raises
    ------
    WeightsError
        When there is no card, or it is not one.
    """
    try:
        data = json.loads((folder / CARD).read_text(encoding="utf-8"))
        known = {field.name for field in fields(ModelCard)}
        if unknown := set(data) - known:
            raise WeightsError(f"{folder / CARD} has unknown keys: {', '.join(sorted(unknown))}")
        return ModelCard(
            **{**data, "data": tuple(data["data"]), "channels": tuple(data["channels"])}
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / CARD} cannot be read as a model's card: {error}") from error


def check_weights(place: ModelPlace) -> None:
    """See that a model's weights are those of its card.

    Raises
    ------
    WeightsError
        When they are not there, or were changed.
    """
    weights = place.path / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{place.path} has no {WEIGHTS}")
    found = file_sha256(weights)
    if found != place.card.sha256:
        raise WeightsError(
            f"{weights} was changed: its sha256 is {found}, the card says {place.card.sha256}; "
            "bring the file back from a copy, or train, add or pull the model again"
        )


def write_card(folder: Path, card: ModelCard) -> None:
    """Write a card, whole or not at all."""
    write_json(folder / CARD, asdict(card), indent=2)


def _at_path(path: Path) -> ModelPlace:
    if (path / CARD).is_file():
        return ModelPlace(path, read_card(path))
    if path.is_file():
        sha256 = file_sha256(path)
        # A checkpoint says nothing of its training but the diameters, which come with the weights.
        # Whether it saw nuclei beside the cells, `models add --nucleus` says: without, none is fed.
        card = ModelCard(path.name, sha256, 0.0, 0.0, channels=("cell",))
        return ModelPlace(path, card)
    if (path / RUN).is_file():
        raise UnknownModel(
            f"{path} is a training that has not ended; continue it: cellwatch train --resume {path}"
        )
    raise UnknownModel(f"{path} is neither a model folder (with {CARD}) nor a checkpoint file")


def zoo_roots(zoo: Path | None) -> Sequence[Path]:
    """Return where models with an id lie: the built-in ones, then the station's or the user's."""
    return (BUILTIN, zoo if zoo is not None else user_zoo())


def user_zoo() -> Path:
    """Return the folder of a user's own models: `$CELLWATCH_ZOO`, else in the XDG data folder."""
    if own := os.environ.get("CELLWATCH_ZOO"):
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "cellwatch" / "zoo"
