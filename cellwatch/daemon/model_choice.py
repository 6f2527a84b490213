"""Which model segments an acquisition: its experiment's, else its group's, else the configured one.

Here the two lines of the daemon meet: what was promoted, and what is claimed.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlite_utils import Database

from cellwatch.config.schema import Config, Target, Watch
from cellwatch.errors import UnknownModel, WeightsError
from cellwatch.records import Outcome
from cellwatch.storage.ledger import lookup, promotions
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.promotions import ModelName
from cellwatch.storage.ledger.queue import Claim
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import ClassifierPlace

Place = ModelPlace | ClassifierPlace
DAEMON = "cellwatch"
ANOTHER_FOR_IT = ", or choose another: cellwatch rerun EXPERIMENT --model ID"
ANOTHER_FOR_GROUP = ", or choose another: cellwatch models promote ID --group GROUP"


def models_for(
    db: Database, claim: Claim, watched: Watch, config: Config, configured: Mapping[str, Place]
) -> dict[str, Place]:
    """Return the model of each target of a claim, pinning it where the configuration says so.

    Parameters
    ----------
    db : Database
    claim : Claim
    watched : Watch
    config : Config
    configured : mapping of str to Place
        The models that the configuration names, by that name.

    Raises
    ------
    UnknownModel
        When an experiment was begun with a model that is not there any more; no other takes its
        place.
    """
    found: dict[str, Place] = {}
    for target in watched.targets():
        if target.name not in claim.targets:
            continue
        named = promotions.pinned(db, claim.watch, pin_key(config, claim), target.name)
        if named is not None:
            found[target.name] = named_model(named, configured[target.model], config)
            continue
        found[target.name] = current_model(db, watched, target, config, configured)
    return found


def pin_models(
    db: Database, claim: Claim, models: Mapping[str, Place], config: Config, now: datetime
) -> None:
    """Fix the models of a claim for its experiment; one that a style is to choose waits for it."""
    if config.retrain.pin == "none":
        return
    with transaction(db):
        for target, place in models.items():
            if isinstance(place, ModelPlace):
                name = ModelName(place.card.id, place.card.sha256)
                promotions.pin(db, (claim.watch, pin_key(config, claim), target), name, DAEMON, now)


def pin_chosen(db: Database, claim: Claim, outcome: Outcome, config: Config, now: datetime) -> None:
    """Fix the model that the style of an experiment's first image chose; a blank chooses none."""
    if config.retrain.pin == "none":
        return
    with transaction(db):
        for result in outcome.targets:
            if result.choice is not None and result.choice.neighbours:
                name = ModelName(result.model_id, result.model_sha256)
                place = (claim.watch, pin_key(config, claim), result.name)
                promotions.pin(db, place, name, DAEMON, now)


def pin_key(config: Config, claim: Claim) -> str:
    """Return what keeps its model: the experiment, or the one file, also when it grows.

    With `pin: none` nothing is pinned but by a person's rerun: file by file.
    """
    return claim.experiment if config.retrain.pin == "experiment" else claim.path


def redo_if_repinned(
    db: Database, claim: Claim, outcome: Outcome, config: Config, now: datetime
) -> bool:
    """Queue an image again whose experiment a person gave another model while it was segmented."""
    started = lookup.last_started(db, claim.acquisition_id)
    for result in outcome.targets:
        place = (claim.watch, pin_key(config, claim), result.name)
        name = promotions.repinned_since(db, place, started)
        if name is not None and name.sha256 != result.model_sha256:
            promotions.queue_again(db, claim.acquisition_id, now)
            return True
    return False


def current_model(
    db: Database,
    watched: Watch,
    target: Target,
    config: Config,
    configured: Mapping[str, Place],
) -> Place:
    """Return what a new experiment is segmented with: the group's promoted model goes first."""
    used = promotions.in_use(db, watched.group_of(target))
    if used is None:
        return configured[target.model]
    whose = f"the group '{watched.group_of(target)}' uses"
    return named_model(used.model, configured[target.model], config, whose, ANOTHER_FOR_GROUP)


def named_model(
    name: ModelName,
    configured: Place,
    config: Config,
    whose: str = "its experiment is segmented with",
    else_do: str = ANOTHER_FOR_IT,
) -> ModelPlace:
    """Find a model by its id and weights: as the configuration has it, or in the station's zoo.

    Parameters
    ----------
    name : ModelName
    configured : ModelPlace or ClassifierPlace
        Of a classifier, wherever it lies, the models of its clusters are looked among too.
    config : Config
    whose, else_do : str
        Begin and end of what is said where it is missing.

    Raises
    ------
    UnknownModel
        When it is not there, or is another now.
    """
    try:
        if isinstance(configured, ClassifierPlace):
            own = configured.model_of(name.sha256)
        else:
            own = configured if configured.card.sha256 == name.sha256 else None
        place = own or find_model(name.id, config.zoo)
    except (UnknownModel, WeightsError) as error:
        raise UnknownModel(
            f"{whose} the model '{name.id}', which is not there any more ({error}); put it back"
            f"{else_do}"
        ) from error
    if place.card.sha256 != name.sha256:
        raise UnknownModel(
            f"{whose} the model '{name.id}' of sha256 {name.sha256[:12]}, and {place.path} has "
            f"{place.card.sha256[:12]}; put the right one back{else_do}"
        )
    return place
