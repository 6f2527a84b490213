"""Masks that are in their place already are taken for a job's result, if they are that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.core.parameters import ALGORITHM_VERSION
from cellwatch.errors import MaskStoreError
from cellwatch.records import CONFIDENCE, Job, ModelChoice, Outcome, TargetResult
from cellwatch.storage.masks.store import StoreReport, check_store


def adopt(job: Job, store: Path, sha256: str, seconds: float) -> Outcome | None:
    """Return the outcome of a job whose masks lie in their place already; None: they do not.

    A worker that was killed between publishing and answering has done the work.

    Parameters
    ----------
    job : Job
    store : Path
    sha256 : str
        Of the image's file.
    seconds : float
        That were spent so far.
    """
    report = _checked(store)
    if report is None or not _is_same_work(job, report.provenance, sha256):
        return None
    said = report.provenance
    results = tuple(
        TargetResult(
            name=name,
            rois=report.rois[name],
            diameter=round(float(np.median(facts["diameters_px"])), 3),
            channels=tuple(facts["channels"]),
            notes=tuple(facts["notes"]),
            model_id=facts["model"]["id"],
            model_sha256=facts["model"]["sha256"],
            novelty=facts.get("novelty"),
            choice=choice_of(facts.get("choice")),
            confidence=facts.get(CONFIDENCE),
            planes_apart=facts.get("planes_apart", 0),
            precision=facts["params"].get("precision", ""),
            labels_sha256=facts["labels_sha256"],
            sharpness=facts.get("sharpness"),
            background=facts.get("background"),
            median_area=facts.get("median_area"),
            covered=facts.get("covered"),
            intensity=facts.get("intensity"),
            pixel_size_um=facts.get("pixel_size_um"),
        )
        for name, facts in said["targets"].items()
    )
    return Outcome(
        job.acquisition_id,
        planes=said["planes"],
        content_sha256=sha256,
        targets=results,
        seconds=said["seconds"] + seconds,
    )


def is_of_same_work(job: Job, store: Path, sha256: str) -> bool:
    """Say whether a whole mask store, of whatever image, is what a job would make."""
    report = _checked(store)
    return report is not None and _is_same_work(job, report.provenance, sha256)


def _checked(store: Path) -> StoreReport | None:
    if not store.exists():
        return None
    try:
        report = check_store(store)
    except MaskStoreError:
        return None
    return report if report.provenance and not report.problems else None


def _is_same_work(job: Job, said: dict[str, Any], sha256: str) -> bool:  # Any: JSON
    asked = {t.name: (t.model_sha256, _telling(t.params), ALGORITHM_VERSION) for t in job.targets}
    done = {
        name: (asked_for(facts), _telling(facts["params"]), facts["algorithm_version"])
        for name, facts in said["targets"].items()
    }
    if not job.former_store and any(CONFIDENCE not in each for each in said["targets"].values()):
        return False  # made before it was measured so; of an image that moved it is taken as it is
    declared = {"axes": job.axes, "pixel_size_um": job.pixel_size_um}
    if said.get("ome_zarr", "0.5") != job.ome_zarr:
        return False
    if said.get("lacks") and Path(said["lacks"]).exists():
        return False  # its metadata have come since
    return (
        said["source"]["sha256"] == sha256
        and said["include_image"] == job.include_image
        and said["declared"] == declared
        and asked == done
    )


def asked_for(facts: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the sha256 of what a job named: the model, or the classifier that chose it."""
    choice = facts.get("choice")  # stores of the first version have none
    return str(choice["classifier_sha256"] if choice else facts["model"]["sha256"])


def choice_of(said: Mapping[str, Any] | None) -> ModelChoice | None:  # Any: JSON
    """Read the choice of a model from provenance; None: the configuration named it."""
    return ModelChoice(**{**said, "neighbours": tuple(said["neighbours"])}) if said else None


def _telling(params: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    # What changes no label, or hardly one: masks are taken in the precision they were made in.
    return {key: v for key, v in params.items() if key not in ("batch_size", "precision")}
