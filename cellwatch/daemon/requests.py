"""Carry out what a person asked for through a command."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cellwatch.config.schema import Config, Target, Watch
from cellwatch.daemon import answering, desk
from cellwatch.daemon import nights as training
from cellwatch.daemon.choice import ANOTHER_FOR_GROUP, Place, named_model
from cellwatch.daemon.lineup import Group, groups_of, job_of, why_not_yet
from cellwatch.errors import RequestRefused, UnknownModel
from cellwatch.records import AskedRun, Verdict
from cellwatch.storage import flags, looks, promotions, reviews, runs, standing, weighing
from cellwatch.storage.corrections import answers
from cellwatch.storage.ledger import transaction
from cellwatch.storage.pathtext import path_text, text_path
from cellwatch.storage.promotions import Decision, ModelName
from cellwatch.storage.requests import Answer, Request
from cellwatch.storage.stems import stem_key
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import ClassifierPlace

Said = Mapping[str, Any]  # Any: JSON
CANCELLED = "cancelled"  # begins the reason of a run that somebody gave up


def carry_out(
    db: Database, config: Config, nights: training.Nights, request: Request, now: datetime
) -> Answer:
    """Do what was asked.

    Raises
    ------
    CellwatchError
        When it cannot be done; the text says why and what to do.
    """
    kinds: dict[str, Callable[[], Answer]] = {
        "flag": lambda: _flag(db, request, now),
        "unflag": lambda: _unflag(db, request, now),
        "checkout": lambda: _checkout(db, request.arguments, now),
        "withdraw": lambda: _withdraw(db, config, request.arguments, now),
        "confirm": lambda: _confirm(db, request, now),
        "retrain": lambda: _retrain(nights, request.arguments, now),
        "cancel": lambda: _cancel(nights, request, now),
        "session": lambda: _session(db, config, nights, request.arguments, now),
        "promote": lambda: _promote(db, config, nights, request, now),
        "rollback": lambda: _rollback(db, config, nights, request, now),
        "rerun": lambda: _rerun(db, config, nights, request, now),
    }
    if request.kind not in kinds:
        raise RequestRefused(f"this daemon does not know '{request.kind}'; is it an older one?")
    return kinds[request.kind]()


def _flag(db: Database, request: Request, now: datetime) -> Answer:
    said = request.arguments
    flag = flags.Flag(said["name"], said.get("why", ""), said.get("roi"), request.asked_by)
    _require_roi(db, flag)
    found = flags.raise_flag(db, flag, now) or []
    text = f"flagged {said['name']}"
    if len(found) > 1:
        paths = [str(db.table("acquisitions").get(key)["path"]) for key in found]
        text += f": {len(found)} images of this name, {', '.join(paths)}"
    if not found:
        text += f"; it waits for the image, which is not known yet{_likely(db, flag.name)}"
    return Answer(True, text, {"found": found})


def _likely(db: Database, name: str) -> str:
    near = flags.resembling(db, name)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _require_roi(db: Database, flag: flags.Flag) -> None:
    found = flags.acquisitions_named(db, flag.name) if flag.roi else []
    marks = ",".join("?" * len(found))
    sql = f"SELECT max(rois) FROM targets WHERE state = 'done' AND acquisition_id IN ({marks})"
    (most,) = db.execute(sql, found).fetchone()
    if flag.roi and most is not None and flag.roi > most:
        raise RequestRefused(f"{flag.name} has {most} ROIs; there is no ROI {flag.roi}")


def _unflag(db: Database, request: Request, now: datetime) -> Answer:
    name = request.arguments["name"]
    taken = flags.lower_flag(db, name, f"unflagged by {request.asked_by}", now)
    if not taken:
        known = flags.acquisitions_named(db, name, is_every=True)
        raise RequestRefused(f"{name} has no flag{'' if known else _likely(db, name)}")
    return Answer(True, f"took {taken} flag{'s' if taken > 1 else ''} off {name}", {"flags": taken})


def _checkout(db: Database, said: Said, now: datetime) -> Answer:
    with transaction(db):
        for made in said["made"]:
            row = {**made, "stem": path_text(stem_key(f"{made['stem']}.x"))}
            db.table("checkouts").insert({**row, "checked_out_at": now.isoformat()})
    return Answer(True, f"took {len(said['made'])} out", {})


def _withdraw(db: Database, config: Config, said: Said, now: datetime) -> Answer:
    taken = standing.withdraw(db, int(said["id"]), now)
    if taken is None:
        raise RequestRefused(_why_not_standing(db, int(said["id"])))
    row, back = taken
    text = f"correction {row['id']} ({row['file']}) is withdrawn"
    if back is not None:
        text += f"; correction {back['id']} ({back['file']}: {back['rois']} ROIs) stands again"
    counting = weighing.counting_ids(db, config.retrain.lead)
    rivals = weighing.above(db, back["id"]) if back else weighing.sharing(db, row["id"])
    others = [rival for rival in rivals if rival["id"] in counting]
    if model := runs.in_training(db, row["id"]):
        text += f"; {model}, now in training, learns from it still (cellwatch retrain --cancel)"
    if row["kind"] == "region" and (under := looks.with_region(db, row["id"])):
        text += f"; all of {answering.named(under)} counts again, also what it did not mark"
    if others:
        text += f"; on its pixels counts what is said by {answering.named(others)}"
    if config.corrections is not None:
        if standing.is_latest_of_file(db, row["id"]):
            answers.take_back(config.corrections.folder / text_path(row["file"]))
        answering.answer_part(db, config.corrections.folder, row["id"])
    return Answer(True, text, {"stands_again": back["id"] if back else None})


def _confirm(db: Database, request: Request, now: datetime) -> Answer:
    key = int(request.arguments["id"])
    row = reviews.confirm(db, key, request.asked_by, now)
    if row is None:
        raise RequestRefused(
            f"correction {key} is not one that waits for a word: only the latest drop of a file "
            "that was rejected for a doubt can be confirmed (cellwatch corrections list)"
        )
    text = f"correction {key} ({row['file']}) is confirmed: it is read again, and learned from"
    return Answer(True, text, {"id": key})


def _why_not_standing(db: Database, key: int) -> str:
    row = next(db.table("corrections").rows_where("id = ?", [key]), None)
    if row is None:
        return f"there is no correction {key}; see: cellwatch corrections list --all"
    if row["superseded_by"] is not None:
        return (
            f"correction {key} does not count: correction {row['superseded_by']} took its place; "
            "to have it count again, save its file again"
        )
    return f"correction {key} does not count: it is {row['state']}"


def _retrain(nights: training.Nights, said: Said, now: datetime) -> Answer:
    wanted = [said["group"]] if said.get("group") else _with_news(nights)
    busy = [] if said.get("group") else [g for g in wanted if training.is_asked(nights, g)]
    wanted = [group for group in wanted if group not in busy]
    if busy and not wanted:
        raise RequestRefused(f"{', '.join(busy)}: being trained now, or waiting for it")
    if not wanted:
        waiting = "" if _all_taken_in(nights) else "; dropped files wait until the daemon runs"
        text = f"no group has new corrections{waiting}; name one to train it all the same"
        raise RequestRefused(text)
    date = now.astimezone().date().isoformat()
    for group in wanted:
        training.ask_for(nights, AskedRun(group, said.get("kind", "asked"), date), now)
    text = f"{', '.join(wanted)} will be trained"
    text += f"; {', '.join(busy)}: being trained now, or waiting for it" if busy else ""
    return Answer(True, text, {"groups": wanted})


def _all_taken_in(nights: training.Nights) -> bool:
    folder = folder_of(nights.config)
    return not folder.is_dir() or desk.all_answered(nights.db, folder)


def _cancel(nights: training.Nights, request: Request, now: datetime) -> Answer:
    said = request.arguments
    group, reason = said.get("group") or "", f"{CANCELLED} by {request.asked_by}"
    rows = runs.give_up(nights.db, group, said["runs"], reason, now)
    if not rows:
        of = f" of '{group}'" if group else ""
        raise RequestRefused(f"no training{of} is under way or waits")
    groups = list(dict.fromkeys(row["group_name"] for row in rows))
    text = f"the training of {', '.join(groups)} is given up; the corrections stay, and the model"
    return Answer(True, text, {"groups": groups, "folders": [r["folder"] for r in rows]})


def _session(
    db: Database, config: Config, nights: training.Nights, said: Said, now: datetime
) -> Answer:
    group = _group(config, said["group"])
    asked = AskedRun(group.name, "session", now.astimezone().date().isoformat())
    job = job_of(db, 0, asked, group, config, nights.configured, now)
    return Answer(True, f"'{group.name}' trains within a session", {"job": job.to_json()})


def _with_news(nights: training.Nights) -> list[str]:
    quiet = "no new corrections"
    return [g for g in nights.groups if why_not_yet(nights.db, g, nights.config) != quiet]


def _promote(
    db: Database, config: Config, nights: training.Nights, request: Request, now: datetime
) -> Answer:
    model = request.arguments["model"]
    group = _group(config, request.arguments.get("group") or _group_in(model, config))
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


def _rollback(
    db: Database, config: Config, nights: training.Nights, request: Request, now: datetime
) -> Answer:
    group = _group(config, request.arguments["group"])
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


def _is_configured(model: str, group: Group, nights: training.Nights) -> bool:
    # A classifier is no model to promote: it is in use when nothing is promoted over it.
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


def _rerun(
    db: Database, config: Config, nights: training.Nights, request: Request, now: datetime
) -> Answer:
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
    return Answer(
        True,
        f"{images} of '{experiment}' will be done again with {models}, behind new images",
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


def training_place(
    nights: training.Nights, group: str, configured: str
) -> ModelPlace | ClassifierPlace:
    """Return the model that a group uses now."""
    used = promotions.in_use(nights.db, group)
    place = nights.configured[configured]
    if used is None:
        return place
    return named_model(used.model, place, nights.config, f"'{group}' uses", ANOTHER_FOR_GROUP)


def _meant(name: str, configured: Place, config: Config) -> ModelPlace:
    # A model that the configuration names by its path, or its classifier chooses among, has an id.
    if isinstance(configured, ClassifierPlace):
        if name in {cluster.model for cluster in configured.card.clusters}:
            return find_model(name, configured.zoo)
    elif configured.card.id == name:
        return configured
    return find_model(name, config.zoo)


def _experiment(db: Database, experiment: str, watch: str | None) -> tuple[str, str]:
    sql = "SELECT DISTINCT watch FROM acquisitions WHERE experiment = ?"
    found = [name for (name,) in db.execute(sql, [path_text(experiment)]).fetchall()]
    found = [name for name in found if watch in (None, name)]
    if not found:
        raise RequestRefused(
            f"there is no experiment '{experiment}'; cellwatch explain IMAGE names an image's"
        )
    if len(found) > 1:
        raise RequestRefused(
            f"'{experiment}' is an experiment in {', '.join(found)}; say which with --watch"
        )
    return found[0], experiment


def _group(config: Config, name: str) -> Group:
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


def _used_now(db: Database, group: Group, nights: training.Nights) -> ModelName | None:
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


def folder_of(config: Config) -> Path:
    """Return the corrections folder.

    Raises
    ------
    RequestRefused
        When the station has none.
    """
    if config.corrections is None:
        raise RequestRefused(
            "the configuration has no corrections folder; add corrections: {folder: corrections}"
        )
    return config.corrections.folder
