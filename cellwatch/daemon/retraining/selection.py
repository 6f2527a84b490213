"""What a group's next training is made of: corrections with their sides, the base, the rivals."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from sqlite_utils import Database

from cellwatch.config.schema import Config, Target, Watch
from cellwatch.daemon.model_choice import ANOTHER_FOR_GROUP, Place, named_model
from cellwatch.errors import UnknownModel
from cellwatch.records import (
    AskedRun,
    Side,
    TrainableCorrection,
    TrainingItem,
    TrainJob,
    UsedModel,
    Verdict,
)
from cellwatch.storage.ledger import corrections, lookup, promotions, service, training_runs
from cellwatch.storage.ledger.dropped_files import crop_text
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.ledger.precedence import in_effect
from cellwatch.storage.ledger.promotions import ModelName
from cellwatch.training.gate_evidence import PromotionRule
from cellwatch.training.plans import FitPlan, schedule_named
from cellwatch.zoo.cards import ModelPlace, find_model
from cellwatch.zoo.classifiers import ClassifierPlace, find_either

HELD_OUT_FROM = 8  # corrected acquisitions
HELD_OUT_ONE_IN = 5
KEY = "held_out_key"


@dataclass(frozen=True, slots=True)
class Group:
    """A group as the configuration has it.

    Attributes
    ----------
    name : str
    members : tuple of (Watch, Target)
    """

    name: str
    members: tuple[tuple[Watch, Target], ...]

    @property
    def target(self) -> Target:
        """Return the target whose model and parameters represent all of them."""
        return self.members[0][1]


def groups_of(config: Config) -> dict[str, Group]:
    """Return the groups of a configuration, by name."""
    found: dict[str, list[tuple[Watch, Target]]] = {}
    for watched in config.watch:
        for target in watched.targets():
            found.setdefault(watched.group_of(target), []).append((watched, target))
    return {name: Group(name, tuple(members)) for name, members in found.items()}


def unserved(db: Database | sqlite3.Connection, config: Config) -> list[str]:
    """Say of each group that no target belongs to any more what that means.

    A folder's group has another name as soon as a second target, a new name of the folder or of
    the group is configured: its model and its corrections are not carried over by themselves.
    """
    known = groups_of(config)
    return [
        f"the group '{name}' has corrections or a model of its own, and no target belongs to it "
        f"now ({', '.join(known)}): nothing is segmented with that model, nor trained from them. "
        f"If it was renamed, write group: {name} beside the target that continues it"
        for name in promotions.groups_with_work(db)
        if name not in known
    ]


def overruled(db: Database | sqlite3.Connection, config: Config) -> list[str]:
    """Name the groups that keep their promoted model though the configuration names another."""
    told = []
    for name, group in groups_of(config).items():
        used, base = promotions.in_use(db, name), promotions.base_of(db, name)
        if used is None or base is None:
            continue
        configured = group.target.model
        place = find_either(configured, config.zoo)
        if isinstance(place, ModelPlace) and place.card.id not in (base.id, used.model.id):
            told.append(
                f"group '{name}' uses '{used.model.id}', which learned from '{base.id}', while the "
                f"configuration names '{configured}'; to use that: cellwatch models rollback {name}"
            )
    return told


def why_not_yet(db: Database, group: str, config: Config) -> str:
    """Say why a night would be wasted on a group; "" when enough has come."""
    new = training_runs.new_rois(db, group, config.retrain.lead)
    if not new:
        return "no new corrections"
    wanted = config.retrain.min_new_rois
    if new < wanted:
        return (
            f"{new} of {wanted} new ROIs (retrain.min_new_rois; drawn or taken away); "
            f"{wanted - new} more"
        )
    return ""


def job_of(
    db: Database,
    run_id: int,
    asked: AskedRun,
    group: Group,
    config: Config,
    configured: Mapping[str, Place],
    now: datetime,
) -> TrainJob:
    """Put a training together, deciding for good on which side new acquisitions are.

    Raises
    ------
    UnknownModel
        When the base or the model in use is not there any more.
    """
    rows = in_effect(corrections.trainable(db, group.name), config.retrain.lead)
    sides = sides_for(db, group.name, rows, now)
    sizes = {watched.name: watched.pixel_size for watched, _ in group.members}
    items = tuple(_item(row, sides[row.content_key], sizes.get(row.watch)) for row in rows)
    base = _base(db, group, rows, config, configured, now)
    used = promotions.in_use(db, group.name)
    incumbent = base if used is None else _used(used.model, group, config, configured)
    predecessor = None
    let_in_by: tuple[str, ...] = ()
    if used is not None and used.verdict == Verdict.PROVISIONAL:
        predecessor = _used(used.previous, group, config, configured) if used.previous else base
        let_in_by = training_runs.judged_in(db, used.run_id)
    rivals = [incumbent, *([predecessor] if predecessor else [])]
    # The trainer resolves `auto` on its device.
    precision = config.retrain.precision or config.precision
    channels = min(len(find_card(base).card.channels), _most_fed(db, rows))
    return TrainJob(
        run_id=run_id,
        group=group.name,
        kind=asked.kind,
        folder=str(config.state.folder / "runs" / f"{run_id:05d}"),
        model_id=_model_id(db, asked),
        base=base,
        incumbent=incumbent,
        predecessor=predecessor,
        let_in_by=let_in_by,
        items=items,
        seen={rival.sha256: training_runs.seen_by(db, rival.sha256) for rival in rivals},
        earlier=training_runs.twins_found(db, incumbent.id),
        plan={**asdict(_plan(items, config)), "precision": precision},
        params={**group.target.params().to_json(), "precision": config.precision},
        rule=asdict(PromotionRule()),
        budget_s=config.retrain.budget,
        device=config.device[0],
        memory_share=config.retrain.gpu_memory,
        channels=channels,
        base_data=tuple(str(folder) for folder in config.retrain.replay),
    )


def sides_for(
    db: Database, group: str, rows: Sequence[TrainableCorrection], now: datetime
) -> dict[str, Side]:
    """Return on which side each acquisition is, deciding for those that are new.

    From the eighth corrected acquisition on a keyed hash of the content puts about one in five of
    the new ones on the held-out side. A content keeps its side for good: no name, crop, plane or
    later drop moves it. The key is this station's own, so nobody can guess the side.
    """
    decided = corrections.sides(db, group)
    by_date = sorted(rows, key=lambda row: row.id)
    contents = list(dict.fromkeys(row.content_key for row in by_date))
    key = service.secret(db, KEY)
    fresh: dict[str, Side] = {}
    for number, content in enumerate(contents, start=1):
        if content in decided:
            continue
        is_held = number >= HELD_OUT_FROM and _hash(key, content) % HELD_OUT_ONE_IN == 0
        fresh[content] = Side.HELD_OUT if is_held else Side.TRAIN
    corrections.decide_sides(db, group, fresh, now)
    return corrections.sides(db, group)


def find_card(model: UsedModel) -> ModelPlace:
    """Return the model folder of a model that is used."""
    return find_model(str(Path(model.folder).absolute()))


def _item(
    row: TrainableCorrection,
    side: Side,
    pixel_size_um: float | None,
) -> TrainingItem:
    crop = f" crop {crop_text(row.crop)}" if row.crop else ""
    plane = f" p{row.position} t{row.t} z{row.z}" if row.t or row.z else ""
    return TrainingItem(
        correction_id=row.id,
        content_key=row.content_key,
        name=f"{text_path(row.relative_path)}{plane}{crop}",
        watch=row.watch,
        folder=row.folder,
        side=side,
        pixel_size_um=pixel_size_um or row.pixel_size_um,
        plane_key=row.plane_key,
        crop=row.crop,
    )


def _base(
    db: Database,
    group: Group,
    rows: Sequence[TrainableCorrection],
    config: Config,
    configured: Mapping[str, Place],
    now: datetime,
) -> UsedModel:
    place = configured[group.target.model]
    frozen = promotions.base_of(db, group.name)
    if frozen is None:
        if isinstance(place, ClassifierPlace):
            first = _most_chosen(place, rows)
        else:
            first = ModelName(place.card.id, place.card.sha256)
        frozen = promotions.freeze_base(db, group.name, first, now)
    return _used(frozen, group, config, configured, is_base=True)


def _most_chosen(place: ClassifierPlace, rows: Sequence[TrainableCorrection]) -> ModelName:
    # What segmented most of the corrected images; of equals the largest cluster's.
    offered = {sha256: model for model, sha256 in place.offered()}
    sizes = {cluster.model_sha256: cluster.images for cluster in place.card.clusters}
    counts = Counter(row.model_sha256 for row in rows if row.model_sha256 in offered)
    best = max(offered, key=lambda sha256: (counts[sha256], sizes.get(sha256, 0)))
    return ModelName(offered[best], best)


def _used(
    name: ModelName,
    group: Group,
    config: Config,
    configured: Mapping[str, Place],
    *,
    is_base: bool = False,
) -> UsedModel:
    does, else_do = ("begins with", "") if is_base else ("is judged by", ANOTHER_FOR_GROUP)
    whose = f"every training of '{group.name}' {does}"
    place = named_model(name, configured[group.target.model], config, whose, else_do)
    if place.is_checkpoint:
        raise UnknownModel(
            f"'{place.path}' is a bare checkpoint, which cannot be the base of a group; add it to "
            "the zoo first: cellwatch models add FILE --id NAME --zoo STATION/state/models"
        )
    return UsedModel(place.card.id, place.card.sha256, str(place.path))


def _most_fed(db: Database, rows: Sequence[TrainableCorrection]) -> int:
    # As the station feeds them: without a choice, two channels of two.
    fed = [lookup.n_channels_fed(db, row.acquisition_id, row.target) for row in rows]
    return max([1, *fed])


def _plan(items: tuple[TrainingItem, ...], config: Config) -> FitPlan:
    wanted = config.retrain
    n_images = sum(item.side == Side.TRAIN for item in items)
    schedule = schedule_named(wanted.schedule)
    return FitPlan(
        wanted.schedule,
        schedule.epochs,
        images_per_epoch=max(8, n_images),
        min_rois=1,
        is_balanced=bool(wanted.replay),
    )


def _model_id(db: Database, asked: AskedRun) -> str:
    prefix = f"{asked.group}-{asked.local_date.replace('-', '')}-"
    return f"{prefix}{training_runs.models_named(db, prefix) + 1}"


def _hash(key: bytes, content: str) -> int:
    return int.from_bytes(hashlib.blake2b(content.encode(), key=key, digest_size=8).digest(), "big")
