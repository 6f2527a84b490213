"""A claim and the configuration make a job: what a worker needs, and what is recorded of it."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from cellwatch.config.schema import Config, Watch
from cellwatch.records import Job, ModelCard, TargetJob
from cellwatch.storage.ledger.queue import Claim
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.classifiers import ClassifierPlace, find_either

ZEROS_TIMES_SETTLE = 10  # of the settle time


def models_of(config: Config) -> dict[str, ModelPlace | ClassifierPlace]:
    """Find every model and classifier that a configuration names, and all that these choose from.

    Raises
    ------
    UnknownModel
        When one is not there.
    """
    names = {target.model for watched in config.watch for target in watched.targets()}
    found = {name: find_either(name, config.zoo) for name in names}
    for place in found.values():
        if isinstance(place, ClassifierPlace):
            place.models()
    return found


def cards_of(place: ModelPlace | ClassifierPlace) -> list[ModelCard]:
    """Return the cards of the models that a job with this model or classifier may use."""
    if isinstance(place, ClassifierPlace):
        return [model.card for model in place.models().values()]
    return [place.card]


def why_no_job(claim: Claim, watched: Watch | None) -> str:
    """Say what the configuration lacks to do a claim's work; "" when it lacks nothing."""
    names = [target.name for target in watched.targets()] if watched else []
    lacking = [name for name in claim.targets if name not in names]
    if watched is not None and not lacking:
        return ""
    what = f"target '{lacking[0]}' of " if watched else ""
    return f"{what}watched folder '{claim.watch}' is not in the configuration any more"


def job_for(
    claim: Claim,
    watched: Watch,
    config: Config,
    models: Mapping[str, ModelPlace | ClassifierPlace],
    *,
    are_zeros_final: bool = True,
    twin: str = "",
) -> Job:
    """Return the job of a claim; `models` gives the one of each target."""
    targets = []
    for target in watched.targets():
        if target.name not in claim.targets:
            continue
        place = models[target.name]
        params = target.params().to_json()
        if claim.worker_deaths:  # lighter: fewer tiles at a time, which changes no result
            params["batch_size"] = 1
        targets.append(
            TargetJob(
                name=target.name,
                model_id=place.card.id,
                model_folder=str(place.path),
                model_sha256=place.card.sha256,
                channels=target.choice(),
                params=params,
            )
        )
    return Job(
        acquisition_id=claim.acquisition_id,
        path=claim.path,
        fingerprint=claim.fingerprint,
        store=claim.store,
        targets=tuple(targets),
        axes=watched.axes,
        pixel_size_um=watched.pixel_size,
        include_image=config.output.include_image,
        also=config.output.also,
        root=str(watched.folder),
        are_zeros_final=are_zeros_final,
        compared_with=claim.compared_with,
        is_alone=is_alone(claim, models, config),
        former_store=claim.former_store,
        twin=twin,
        has_preview=config.output.preview,
        ome_zarr=config.output.ome_zarr,
    )


def is_alone(
    claim: Claim, models: Mapping[str, ModelPlace | ClassifierPlace], config: Config
) -> bool:
    """Say whether a worker may have nothing else in hand while it does a claim.

    Something died while it was in hand before, or its style is to choose the model of the images
    that come after it.
    """
    return bool(claim.worker_deaths or claim.daemon_deaths) or is_choosing(models, config)


def is_choosing(models: Mapping[str, ModelPlace | ClassifierPlace], config: Config) -> bool:
    """Say whether the style of an image chooses the model of its whole experiment."""
    is_chosen = any(isinstance(place, ClassifierPlace) for place in models.values())
    return is_chosen and config.retrain.pin == "experiment"


def has_to_wait(
    claim: Claim,
    here: Sequence[Claim],
    elsewhere: Sequence[Claim],
    *,
    is_alone: bool,
    is_choosing: bool,
) -> bool:
    """Say whether a claim must wait until other jobs have been recorded.

    Parameters
    ----------
    claim : Claim
    here, elsewhere : sequence of Claim
        What its worker and the other workers have in hand.
    is_alone, is_choosing : bool
        As the functions of these names say.
    """
    # What is being made or written now is of the same content, or has the same place.
    if any(_are_entangled(claim, other) for other in (*here, *elsewhere)):
        return True
    # What the daemon died over has the whole station to itself.
    if any(other.daemon_deaths for other in elsewhere) or (claim.daemon_deaths and elsewhere):
        return True
    # The style of an experiment's first image is to choose the model of all of them.
    of_one = (claim.watch, claim.experiment)
    is_chosen_there = any((other.watch, other.experiment) == of_one for other in elsewhere)
    return (is_alone and bool(here)) or (is_choosing and is_chosen_there)


def _are_entangled(claim: Claim, other: Claim) -> bool:
    places = {claim.store, claim.former_store} & {other.store, other.former_store}
    return bool(places - {""}) or claim.fingerprint == other.fingerprint


def are_zeros_final(claim: Claim, watched: Watch, now: datetime) -> bool:
    """Say whether an image of nothing but zeros has stood still for so long that it is one.

    Some programs allocate a file first, and fill it later.
    """
    if not claim.queued_at:
        return True
    waited = now - datetime.fromisoformat(claim.queued_at)
    return waited.total_seconds() >= ZEROS_TIMES_SETTLE * watched.settle_s


def plane_of(claim: Claim) -> int:
    """Return the number of pixels of one plane of a claim; 0 where it is not known."""
    sides = [n for axis, n in zip(claim.axes, claim.shape, strict=False) if axis in "YX"]
    return math.prod(sides) if sides else 0


def facts_of(job: Job) -> dict[str, dict[str, str]]:
    """Return what is recorded of each target beside its result."""
    return {
        target.name: {
            "params": json.dumps(target.params),
        }
        for target in job.targets
    }
