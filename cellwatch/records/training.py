"""The facts of training: what a run is made of, what it proves, and what is decided by it.

They reach the trainer and come back as JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cellwatch.records.correcting import Crop


class Side(StrEnum):
    """What an acquisition's corrections are for, once and for all."""

    TRAIN = "train"
    HELD_OUT = "held_out"


class Verdict(StrEnum):
    """What was decided of a model for a group."""

    PROMOTED = "promoted"
    PROVISIONAL = "provisional"  # promoted on little evidence; the next corrections judge it
    CONFIRMED = "confirmed"
    REVOKED = "revoked"
    DECLINED = "declined"
    INCONCLUSIVE = "inconclusive"
    BY_HAND = "by_hand"
    ROLLED_BACK = "rolled_back"

    @property
    def is_in_use(self) -> bool:
        """Say whether the decision put the model it names into use."""
        return self not in (Verdict.DECLINED, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A model by which something was done.

    Attributes
    ----------
    id, sha256 : str
    folder : str
    """

    id: str
    sha256: str
    folder: str


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """A correction as the trainer takes it.

    Attributes
    ----------
    correction_id : int
    content_key : str
        Of its acquisition.
    name : str
        For logs and the card.
    watch : str
        The watched folder it comes from.
    folder : str
        Where its arrays lie.
    side : Side
    pixel_size_um : float or None
        None: not known.
    plane_key : str
        Which plane of which acquisition and target; "": not known, and shared with none.
    crop : Crop or None
        None: all of the plane.
    """

    correction_id: int
    content_key: str
    name: str
    watch: str
    folder: str
    side: Side
    pixel_size_um: float | None = None
    plane_key: str = ""
    crop: Crop | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrainingItem":
        """Read what `asdict` wrote."""
        crop = data.get("crop")
        return cls(**{**data, "side": Side(data["side"]), "crop": Crop(**crop) if crop else None})


@dataclass(frozen=True, slots=True)
class AskedRun:
    """Why a training run was begun.

    Attributes
    ----------
    group : str
    kind : "night", "asked" or "session"
    local_date : str
        ISO; of the station's own clock.
    """

    group: str
    kind: str
    local_date: str


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One night's work for one group; a trainer needs nothing else and never opens the ledger.

    Attributes
    ----------
    run_id : int
    group, kind : str
    folder : str
        The run folder: the only place that the trainer writes to.
    model_id : str
        What the candidate is called.
    base, incumbent : UsedModel
    predecessor : UsedModel or None
        What was in use before a provisional incumbent; None: the incumbent is not provisional.
    items : tuple of TrainingItem
        By rising weight: where two cover the same pixels, the later in this order is used.
    seen : mapping of str to tuple of str
        By sha256 of a model: the content keys that it was trained on.
    earlier : mapping of str to (str, int)
        By a correction's id: what the twin of the incumbent that was not trained on it found there
        (as `Evidence.found`), and its false positives.
    plan : mapping
        `FitPlan` as JSON.
    params : mapping
        `SegmentationParams` as JSON: how the station segments this group's images.
    rule : mapping
        `PromotionRule` as JSON.
    budget_s : float
        Of running time.
    device : str
    memory_share : float
        Of the GPU.
    channels : int
        How many the base is fed.
    base_data : tuple of str
        Folders of pairs that are replayed among the corrections.
    let_in_by : tuple of str
        Content keys by which a provisional incumbent was let in: others confirm or revoke it.
    """

    run_id: int
    group: str
    kind: str
    folder: str
    model_id: str
    base: UsedModel
    incumbent: UsedModel
    predecessor: UsedModel | None
    items: tuple[TrainingItem, ...]
    seen: Mapping[str, tuple[str, ...]]
    earlier: Mapping[str, tuple[str, int]]
    plan: Mapping[str, Any]
    params: Mapping[str, Any]
    rule: Mapping[str, Any]
    budget_s: float
    device: str
    memory_share: float
    channels: int
    base_data: tuple[str, ...] = ()
    let_in_by: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrainJob":
        """Read what `to_json` wrote."""
        items = tuple(TrainingItem.from_json(item) for item in data["items"])
        before = data["predecessor"]
        return cls(
            **{
                **data,
                "base": UsedModel(**data["base"]),
                "incumbent": UsedModel(**data["incumbent"]),
                "predecessor": UsedModel(**before) if before else None,
                "items": items,
                "seen": {key: tuple(value) for key, value in data["seen"].items()},
                "earlier": {key: (str(f), int(n)) for key, (f, n) in data["earlier"].items()},
                "base_data": tuple(data["base_data"]),
                "let_in_by": tuple(data.get("let_in_by", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """One model's score on one correction that it was not trained on.

    Attributes
    ----------
    kind : "test_then_train", "held_out" or "cross_fit"
    model_id, model_sha256 : str
    correction_id : int
    content_key : str
    average_precision, average_precision_75 : float
    true_positives, false_positives, false_negatives : int
        At IoU 0.5.
    found : str
        Of each true ROI, in order, 1 when it was found and 0 when not.
    """

    kind: str
    model_id: str
    model_sha256: str
    correction_id: int
    content_key: str
    average_precision: float
    average_precision_75: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    found: str


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run came to.

    Attributes
    ----------
    model_id, model_sha256 : str
        Of the candidate.
    trained_on : mapping of str to tuple of int
        By sha256 of each network trained in the run: the corrections that it saw.
    scores : tuple of Evidence
    verdict : Verdict
    reason : str
    numbers : mapping
        JSON: what the decision rests on.
    confirmation : Verdict or None
        Of a provisional incumbent; None: it was not, or there is nothing to judge it by.
    confirmation_reason : str
    seconds : float
        Running time.
    damaged : mapping of str to str
        By id, the corrections that were left out since what is kept of them cannot be read: why.
    """

    model_id: str
    model_sha256: str
    trained_on: Mapping[str, tuple[int, ...]]
    scores: tuple[Evidence, ...]
    verdict: Verdict
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    confirmation: Verdict | None = None
    confirmation_reason: str = ""
    seconds: float = 0.0
    damaged: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrainReport":
        """Read what `to_json` wrote."""
        judged = data["confirmation"]
        return cls(
            **{
                **data,
                "trained_on": {k: tuple(v) for k, v in data["trained_on"].items()},
                "scores": tuple(Evidence(**score) for score in data["scores"]),
                "verdict": Verdict(data["verdict"]),
                "confirmation": Verdict(judged) if judged else None,
            }
        )
