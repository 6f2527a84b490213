"""What a paper has to say of an experiment's masks: numbers, models, corrections, settings."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.reports.doubts import NOVEL, UNSURE

NETWORK = "Pachitariu & Stringer (2022), Nature Methods 19, 1634, doi:10.1038/s41592-022-01663-4"
FLOWS = (
    "Stringer, Wang, Michaelos & Pachitariu (2021), Nature Methods 18, 100, "
    "doi:10.1038/s41592-020-01018-x"
)


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model with its settings that segmented images of an experiment.

    Attributes
    ----------
    target, model_id, sha256 : str
    images, rois : int
    params : mapping
        JSON.
    channels : tuple of str
    diameter : float or None, px
        Mean over its images.
    corrections, corrected_rois, corrected_images : int
        That it was trained on, on this station.
    annotators : tuple of str
    unseen_ap50 : float or None
        Mean over corrected images that it had not been trained on; None: there are none.
    unseen_images : int
    """

    target: str
    model_id: str
    sha256: str
    images: int
    rois: int
    params: dict[str, Any]  # Any: JSON
    channels: tuple[str, ...]
    diameter: float | None
    corrections: int
    corrected_rois: int
    corrected_images: int
    annotators: tuple[str, ...]
    unseen_ap50: float | None
    unseen_images: int


@dataclass(frozen=True, slots=True)
class ExperimentMethods:
    """What is known of how an experiment was segmented.

    Attributes
    ----------
    experiment : str
    images, bad, doubtful : int
        Segmented, without masks, and doubtful for whatever reason.
    first, last : str
        When the first and the last image arrived.
    version : str
        Of cellwatch.
    uses : list of ModelUse
    agreement : float or None
        Mean AP@0.5 of annotators with themselves; None: nobody looked twice.
    """

    experiment: str
    images: int
    bad: int
    doubtful: int
    first: str
    last: str
    version: str
    uses: list[ModelUse]
    agreement: float | None


def methods_of(db: sqlite3.Connection, watch: str, experiment: str) -> ExperimentMethods | None:
    """Return how an experiment of a watched folder was segmented; None: none of its images is."""
    of = [watch, path_text(experiment)]
    sql = """
        SELECT sum(state = 'done'), sum(id IN (SELECT id FROM failures)), min(arrived_at),
               max(arrived_at)
        FROM acquisitions WHERE watch = ? AND experiment = ? AND superseded_by IS NULL
    """
    images, bad, first, last = db.execute(sql, of).fetchone()
    if not images:
        return None
    row = db.execute("SELECT version FROM daemon WHERE id = 1").fetchone()
    done = """
        FROM acquisitions a JOIN targets t ON t.acquisition_id = a.id
        WHERE a.watch = ? AND a.experiment = ? AND a.superseded_by IS NULL AND a.state = 'done'
              AND t.state = 'done'
    """
    doubt = "(t.rois = 0 OR t.novelty > ? OR t.confidence < ?)"
    sql = f"SELECT count(DISTINCT a.id) {done} AND {doubt}"
    (doubtful,) = db.execute(sql, [*of, NOVEL, UNSURE]).fetchone()
    sql = f"""
        SELECT t.name, t.model_id, t.model_sha256, count(*), sum(t.rois), t.params, t.channels,
               avg(t.diameter) {done}
        GROUP BY t.name, t.model_id, t.model_sha256, t.params, t.channels
        ORDER BY t.name, count(*) DESC
    """
    uses = [_use(db, row) for row in db.execute(sql, of).fetchall()]
    sql = """
        SELECT avg(c.agreement) FROM corrections c JOIN acquisitions a ON a.id = c.acquisition_id
        WHERE c.kind = 'second_look' AND a.watch = ? AND a.experiment = ?
    """
    (agreement,) = db.execute(sql, of).fetchone()
    version = str(row[0]) if row else ""
    return ExperimentMethods(
        experiment, images, bad or 0, doubtful, first, last, version, uses, agreement
    )


def _use(db: sqlite3.Connection, row: Any) -> ModelUse:  # Any: a row
    target, model, sha256, images, rois, params, channels, diameter = row
    sql = """
        SELECT count(*), coalesce(sum(c.rois), 0), count(DISTINCT c.content_key),
               group_concat(DISTINCT nullif(c.annotator, ''))
        FROM trained_on t JOIN corrections c ON c.id = t.correction_id WHERE t.model_sha256 = ?
    """
    n, corrected, of_images, annotators = db.execute(sql, [sha256]).fetchone()
    sql = "SELECT avg(ap50), count(*) FROM scores WHERE model_sha256 = ?"
    ap50, n_unseen = db.execute(sql, [sha256]).fetchone()
    fed = tuple(c["name"] or f"channel {c['index']}" for c in json.loads(channels or "[]"))
    who = tuple(sorted((annotators or "").split(","))) if annotators else ()
    return ModelUse(
        target, model, sha256, images, rois or 0, json.loads(params or "{}"), fed, diameter,
        n, corrected, of_images, who, ap50, n_unseen,
    )  # fmt: skip


def paragraph(said: ExperimentMethods, parents: dict[str, tuple[str, ...]]) -> str:
    """Return the methods of an experiment as text for a paper, in Markdown.

    Parameters
    ----------
    said : ExperimentMethods
    parents : dict of str to tuple of str
        By model id: the models that it was trained from, its own first.
    """
    first, last = said.first[:10], said.last[:10]
    days = f"on {first}" if first == last else f"between {first} and {last}"
    lines = [
        f"Images of experiment '{said.experiment}' (n = {said.images}), received {days}, were "
        f"segmented with cellwatch {said.version}, which implements Cellpose 2.0 [1, 2]."
    ]
    lines += [_sentence(use, parents.get(use.model_id, ())) for use in said.uses]
    if said.agreement is not None:
        lines.append(
            f"Annotators who corrected an image twice agreed with themselves at AP@0.5 = "
            f"{said.agreement:.2f}."
        )
    if said.doubtful or said.bad:
        lines.append(
            f"{said.doubtful} images were marked as doubtful (no ROI found, unlike the training "
            f"images, or low confidence), and {said.bad} could not be segmented."
        )
    lines.append("Masks were not edited after segmentation unless stated otherwise.")
    return " ".join(lines) + f"\n\n[1] {NETWORK}\n[2] {FLOWS}\n"


def _sentence(use: ModelUse, parents: tuple[str, ...]) -> str:
    params = use.params
    text = (
        f"{use.rois} {use.target} in {use.images} images were found by the model '{use.model_id}' "
        f"(sha256 {use.sha256[:16]}…)"
    )
    if len(parents) > 1:
        text += f", trained from '{parents[1]}'"
    if use.corrections:
        by = f" by {', '.join(use.annotators)}" if use.annotators else ""
        text += (
            f" on {use.corrected_rois} ROIs in {use.corrections} corrections of "
            f"{use.corrected_images} images{by}"
        )
    if use.unseen_ap50 is not None:
        text += (
            f"; on corrected images of this microscope that it had not been trained on "
            f"(n = {use.unseen_images}, of any experiment, mostly corrected from proposed masks), "
            f"its average precision at an IoU of 0.5 was {use.unseen_ap50:.2f}"
        )
    fed = " and ".join(use.channels) or "the only channel"
    normal = params.get("normalise") or {}
    limits = f"{normal.get('low', 1):g} to {normal.get('high', 99):g}"
    return (
        f"{text}. Its input was {fed}, normalised to the percentiles {limits}; diameter "
        f"{params.get('diameter', 'auto')} (mean {use.diameter or 0:.1f} px), flow threshold "
        f"{params.get('flow_threshold')}, cell probability threshold "
        f"{params.get('cellprob_threshold')}, minimal size {params.get('min_size')}, computed in "
        f"{params.get('precision', 'float32')}."
    )
