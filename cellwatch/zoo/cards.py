"""Find models and read their cards, without torch: what every report and the supervisor need.

A model is a folder with `weights.safetensors`, `card.json` and `log.jsonl`. An argument with a path
separator or a leading dot is a path, anything else is an id: never guessed, never replaced. Models
pulled from the published zoo have ids with one separator, `cellpose/NAME`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.records import ModelCard
from cellwatch.zoo.whole import put_in_place

WEIGHTS = "weights.safetensors"
CARD = "card.json"
LOG = "log.jsonl"
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
    for root in zoo_roots(zoo):
        folder = root / name
        if (folder / CARD).is_file():
            return ModelPlace(folder, read_card(folder))
    known = ", ".join(card.id for card in list_models(zoo)) or "none"
    raise UnknownModel(
        f"there is no model '{name}'; known: {known} (a path needs a separator, as in ./{name})"
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
        raise WeightsError(f"{folder} is no model folder: {error}") from error


def write_card(folder: Path, card: ModelCard) -> None:
    """Write a card, whole or not at all."""
    aside = folder / f".{CARD}.partial"
    aside.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    put_in_place(aside, folder / CARD)


def _at_path(path: Path) -> ModelPlace:
    if (path / CARD).is_file():
        return ModelPlace(path, read_card(path))
    if path.is_file():
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        # A checkpoint says nothing of its training but the diameters, which come with the weights.
        # Whether it saw nuclei beside the cells, `models add --nucleus` says: without, none is fed.
        card = ModelCard(path.name, sha256, 0.0, 0.0, channels=("cell",))
        return ModelPlace(path, card)
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
