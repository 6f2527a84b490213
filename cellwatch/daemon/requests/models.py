"""What people ask for that concerns models: promote one, go back, do an experiment again."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config, Target, Watch
from cellwatch.daemon.model_choice import ANOTHER_FOR_GROUP, Place, named_model
from cellwatch.daemon.retraining.nights import Nights
from cellwatch.daemon.retraining.selection import Group, groups_of
from cellwatch.errors import RequestRefused, UnknownModel
from cellwatch.files.members import is_there
from cellwatch.records import Verdict
from cellwatch.storage.ledger import lookup, promotions
from cellwatch.storage.ledger.database import transaction
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.promotions import Decision, ModelName
from cellwatch.storage.ledger.requests import Answer, Request
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import ClassifierPlace

Said = Mapping[str, Any]  # Any: JSON


def promote(
    db: Database, config: Config, nights: Nights, request: Request, now: datetime
) -> Answer:
    """Put a model into use for a group, whatever the gate said."""
    model = request.arguments["model"]
    group = group_named(config, request.arguments.get("group") or _group_in(model, config))
    if _is_configured(model, group, nights):
        return _go_back_to_configuration(db, group, request, Verdict.BY_HAND, now)
    place = _meant(model, nights.configured[group.target.model], config)
    before = _used_now(db, group, nights)
    name = ModelName(place.card.id, place.card.sha256)
    _require_held(name, nights.configured[group.target.model], config, place.path)
    if before == name:
        raise RequestRefused(f"'{group.name}' uses '{model}' already")
    warned = promotions.why_not_used(db, group.name, name.id)
    reason = request.arguments.get("why") or f"chosen by {request.asked_by}"
    _decide(
        db,
        Decision(group.name, Verdict.BY_HAND, name, before, reason, {}, None, request.asked_by),
        now,
    )
    return Answer(
        True,
        f"'{group.name}' uses '{model}' for new experiments; those that have begun keep theirs "
        f"(cellwatch rerun EXPERIMENT){f'; the gate had {warned}' if warned else ''}",
        {"group": group.name, "model": model, "before": before.id if before else None},
    )


def rollback(
    db: Database, config: Config, nights: Nights, request: Request, now: datetime
) -> Answer:
    """Go back to what a group used before, or to what the configuration names."""
    group = group_named(config, request.arguments["group"])
    used = promotions.in_use(db, group.name)
    before = promotions.before_current(db, group.name)
    if used is None:
        raise RequestRefused(
            f"nothing was promoted for '{group.name}' that could be taken back: it uses "
            f"'{group.target.model}', as the configuration says"
        )
    if before is None:
        return _go_back_to_configuration(db, group, request, Verdict.ROLLED_BACK, now)
    whose = f"'{group.name}' would go back to"
    named_model(before, nights.configured[group.target.model], config, whose, ANOTHER_FOR_GROUP)
    reason = request.arguments.get("why") or f"taken back by {request.asked_by}"
    decision = Decision(
        group.name, Verdict.ROLLED_BACK, before, used.model, reason, {}, None, request.asked_by
    )
    _decide(db, decision, now)
    return Answer(
        True,
        f"'{group.name}' uses '{before.id}' again, not '{used.model.id}'",
        {"group": group.name, "model": before.id, "before": used.model.id},
    )


def _is_configured(model: str, group: Group, nights: Nights) -> bool:
    # A classifier is not a model to promote: it is in use when nothing is promoted over it.
    place = nights.configured[group.target.model]
    return isinstance(place, ClassifierPlace) and model in (group.target.model, place.card.id)


def _go_back_to_configuration(
    db: Database, group: Group, request: Request, verdict: Verdict, now: datetime
) -> Answer:
    configured = group.target.model
    used = promotions.in_use(db, group.name)
    if used is None:
        raise RequestRefused(f"'{group.name}' uses '{configured}' already")
    what = "taken back" if verdict == Verdict.ROLLED_BACK else "chosen"
    reason = request.arguments.get("why") or f"{what} by {request.asked_by}"
    model = promotions.CONFIGURED
    decision = Decision(group.name, verdict, model, used.model, reason, {}, None, request.asked_by)
    _decide(db, decision, now)
    return Answer(
        True,
        f"'{group.name}' uses '{configured}' again, as the configuration says, not "
        f"'{used.model.id}'; experiments that have begun keep theirs",
        {"group": group.name, "model": configured, "before": used.model.id},
    )


def rerun(db: Database, config: Config, nights: Nights, request: Request, now: datetime) -> Answer:
    """Queue a whole experiment again with one model."""
    said = request.arguments
    watch, experiment = _experiment(db, said["experiment"], said.get("watch"))
    watched = next((w for w in config.watch if w.name == watch), None)
    if watched is None:
        raise RequestRefused(f"the folder '{watch}' is not watched any more")
    pins: dict[str, ModelName | None] = {}
    named = set()
    for target in _targets_meant(watched, said):
        group = groups_of(config)[watched.group_of(target)]
        if said.get("model") and not _is_configured(said["model"], group, nights):
            model: Place = _meant(said["model"], nights.configured[target.model], config)
        else:
            model = training_place(nights, group.name, target.model)
            _require_chooser(said.get("model"), model, group)
        named.add(model.card.id)
        if isinstance(model, ClassifierPlace):
            pins[target.name] = None
            continue
        name = ModelName(model.card.id, model.card.sha256)
        _require_held(name, nights.configured[target.model], config, model.path)
        pins[target.name] = name
    is_by_file = config.retrain.pin != "experiment"
    place = (watch, experiment)
    n = promotions.rerun(db, place, pins, request.asked_by, now, is_by_file=is_by_file)
    models = ", ".join(sorted(named))
    images = "1 image" if n == 1 else f"{n} images"
    gone = sum(not is_there(Path(text_path(path))) for path in promotions.queued(db, place))
    lacking = f"; {gone} of them cannot be, their files are not there" if gone else ""
    return Answer(
        True,
        f"{images} of '{experiment}' will be done again with {models}, behind new images{lacking}",
        {"watch": watch, "experiment": experiment, "images": n, "models": models},
    )


def _require_chooser(wanted: str | None, model: Place, group: Group) -> None:
    if wanted and isinstance(model, ModelPlace):
        raise RequestRefused(
            f"'{group.name}' uses '{model.card.id}', which was promoted, not '{wanted}'; go back "
            f"first: cellwatch models rollback {group.name}"
        )


def _targets_meant(watched: Watch, said: Said) -> list[Target]:
    # One model for several targets would find the same thing under two names.
    targets = watched.targets()
    names = ", ".join(target.name for target in targets)
    meant = [t for t in targets if said.get("target") in (None, "", t.name)]
    if not meant:
        raise RequestRefused(f"there is no target '{said['target']}'; there are {names}")
    if said.get("model") and len(meant) > 1:
        raise RequestRefused(
            f"'{watched.name}' has the targets {names}; say which is to be found with "
            f"'{said['model']}': --target {meant[0].name}"
        )
    return meant


def training_place(nights: Nights, group: str, configured: str) -> ModelPlace | ClassifierPlace:
    """Return the model that a group uses now."""
    used = promotions.in_use(nights.db, group)
    place = nights.configured[configured]
    if used is None:
        return place
    return named_model(used.model, place, nights.config, f"'{group}' uses", ANOTHER_FOR_GROUP)


def _meant(name: str, configured: Place, config: Config) -> ModelPlace:
    # A model that the configuration names by its path, or its classifier chooses among, has an id.
    if isinstance(configured, ClassifierPlace):
        if name in {model for model, _ in configured.offered()}:
            return find_model(name, configured.zoo)
    elif configured.card.id == name:
        return configured
    return find_model(name, config.zoo)


def _experiment(db: Database, experiment: str, watch: str | None) -> tuple[str, str]:
    folders = lookup.folders_of_experiment(db, experiment)
    found = [name for name in folders if watch in (None, name)]
    if not found:
        raise RequestRefused(
            f"there is no experiment '{experiment}'; cellwatch explain IMAGE names an image's"
        )
    if len(found) > 1:
        raise RequestRefused(
            f"'{experiment}' is an experiment in {', '.join(found)}; say which with --watch"
        )
    return found[0], experiment


def group_named(config: Config, name: str) -> Group:
    """Return a group of the configuration; a name that it does not have is refused."""
    groups = groups_of(config)
    if name not in groups:
        raise RequestRefused(f"there is no group '{name}'; there are {', '.join(groups)}")
    return groups[name]


def _group_in(model: str, config: Config) -> str:
    # Of a nightly id, GROUP-YYYYMMDD-N; else of the only group there is.
    groups = groups_of(config)
    nightly = model.rsplit("-", 2)[0]
    if nightly in groups:
        return nightly
    if len(groups) == 1:
        return next(iter(groups))
    raise RequestRefused(f"say for which group: --group {' or '.join(groups)}")


def _used_now(db: Database, group: Group, nights: Nights) -> ModelName | None:
    used = promotions.in_use(db, group.name)
    if used is not None:
        return used.model
    place = nights.configured[group.target.model]
    if isinstance(place, ClassifierPlace):
        return promotions.base_of(db, group.name)
    return ModelName(place.card.id, place.card.sha256)


def _decide(db: Database, decision: Decision, now: datetime) -> None:
    with transaction(db):
        promotions.decide(db, decision, now)


def _require_held(name: ModelName, configured: Place, config: Config, place: Path) -> None:
    # What is used by its id must be found by it, by every later claim.
    try:
        named_model(name, configured, config)
    except UnknownModel as error:
        raise RequestRefused(
            f"'{name.id}' ({place}) is not in the station's zoo; copy its folder to "
            f"{config.zoo / name.id} first, or add a checkpoint: cellwatch models add FILE --id ID"
        ) from error
