"""What the ledger knows: a row of each table as a frozen record.

Each field is the column of its name. Columns that hold JSON are parsed, `is_` columns are truth
values; None is SQLite's NULL. Times are UTC, ISO 8601. `storage/ledger/rows.py` reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cellwatch.records.correcting import CorrectionKind, CorrectionState, Crop, PlaneIndex
from cellwatch.records.segmenting import AcquisitionState
from cellwatch.records.training import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """An image file as the ledger knows it; paths are ledger text."""

    id: int
    watch: str
    path: str
    relative_path: str
    experiment: str
    fingerprint: str
    content_sha256: str | None
    size: int  # bytes
    mtime_ns: int
    format: str | None
    axes: str | None
    shape: tuple[int, ...] | None
    dtype: str | None
    pixel_size_um: float | None
    channels: tuple[str, ...] | None
    planes: int | None
    state: AcquisitionState
    state_since: str
    reason: str | None
    arrived_at: str
    queued_at: str | None
    started_at: str | None
    finished_at: str | None
    seconds: float | None
    attempts: int
    worker_deaths: int
    daemon_deaths: int
    retry_at: str | None
    lease_until: str | None
    claimed_by: str | None
    store: str | None
    place_key: str | None
    superseded_by: int | None
    stem: str | None = None
    priority: int = 0
    ctime_ns: int | None = None
    output_mark: str | None = None
    file_notes: tuple[str, ...] | None = None
    lacks: str | None = None
    compared_with: str | None = None
    moved_from: str | None = None
    former_store: str | None = None
    plate: str | None = None
    well: str | None = None
    field: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAcquisition(Acquisition):
    """An acquisition that people are shown.

    Attributes
    ----------
    n_targets : int
    flagged_why : str or None
        What people say of it who flagged it.
    """

    n_targets: int
    flagged_why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMasks:
    """The masks of one target of an acquisition, or their absence."""

    id: int
    acquisition_id: int
    name: str
    state: AcquisitionState
    model_id: str | None
    model_sha256: str | None
    params: Mapping[str, Any] | None  # Any: JSON
    channels: tuple[Mapping[str, Any], ...] | None  # Any: JSON
    rois: int | None
    diameter: float | None  # px
    notes: tuple[str, ...] | None
    finished_at: str | None
    novelty: float | None = None
    choice: Mapping[str, Any] | None = None  # Any: JSON
    confidence: float | None = None
    labels_sha256: str | None = None
    planes_apart: int = 0
    sharpness: float | None = None
    background: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at segmenting an acquisition."""

    id: int
    acquisition_id: int
    number: int
    device: str
    worker_pid: int | None
    started_at: str
    ended_at: str | None
    outcome: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedFlag:
    """What a person said of an image, as it was recorded."""

    id: int
    acquisition_id: int | None
    name: str
    why: str | None
    roi: int | None
    raised_by: str
    file: str | None
    mtime_ns: int | None
    raised_at: str
    lowered_at: str | None
    lowered_why: str | None
    is_lowered_by_correction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A part of an acquisition that was handed out to be corrected."""

    id: int
    acquisition_id: int
    target: str
    stem: str
    position: int
    t: int
    z: int
    crop: Crop | None
    is_mirrored: bool
    format: str
    folder: str
    checked_out_at: str
    handed_out: str | None = None
    plane_sha256: str | None = None
    labels_sha256: str | None = None
    short_id: str | None = None

    @property
    def plane(self) -> PlaneIndex:
        """Return which plane was handed out."""
        return PlaneIndex(self.position, self.t, self.z)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A dropped file and what it was found to be, whatever its state."""

    id: int
    file: str
    size: int  # bytes
    mtime_ns: int
    sha256: str | None
    received_at: str
    kind: CorrectionKind
    state: CorrectionState
    state_since: str
    reason: str | None
    remedy: str | None
    acquisition_id: int | None
    target: str | None
    group_name: str | None
    position: int | None
    t: int | None
    z: int | None
    crop: Crop | None
    annotator: str | None
    checkout_id: int | None
    format: str | None
    content_key: str | None
    folder: str | None
    model_id: str | None
    model_sha256: str | None
    rois: int | None
    predicted: int | None
    added: int | None
    removed: int | None
    changed: int | None
    ap50: float | None
    agreement: float | None
    minutes: float | None
    notes: tuple[str, ...] | None
    superseded_by: int | None
    pixels_sha256: str | None = None
    is_doubtful: bool = False
    confirmed_by: str | None = None
    confirmed_at: str | None = None
    is_in_region: bool = False
    is_blocked: bool = False
    is_taken_away: bool = False

    @property
    def plane(self) -> PlaneIndex:
        """Return which plane of its acquisition it is of; the first where that is not known."""
        return PlaneIndex(self.position or 0, self.t or 0, self.z or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCorrection(Correction):
    """A correction that applies to its part: what it is of, and what it says, is known.

    Attributes
    ----------
    said : int
        The id of the row with which its file first said the same; 0: not asked for.
    """

    acquisition_id: int
    target: str
    group_name: str
    position: int
    t: int
    z: int
    annotator: str
    content_key: str
    folder: str
    rois: int
    predicted: int
    added: int
    removed: int
    changed: int
    said: int = 0

    @property
    def plane_key(self) -> str:
        """Return which plane of which acquisition and target it is of."""
        place = (self.acquisition_id, self.target, self.position, self.t, self.z)
        return "/".join(map(str, place))

    @property
    def edits(self) -> int:
        """Return how many ROIs a person added, removed or changed."""
        return self.added + self.removed + self.changed


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableCorrection(ActiveCorrection):
    """An active correction with what a training asks of its image."""

    relative_path: str
    watch: str
    pixel_size_um: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCorrection(Correction):
    """A correction that people are shown, with its image; None: that is not known."""

    path: str | None
    relative_path: str | None
    watch: str | None
    side: Side | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A training of a group that waits, runs or ended."""

    id: int
    group_name: str
    kind: str
    local_date: str
    state: str
    started_at: str
    ended_at: str | None
    seconds: float | None
    folder: str | None
    job: Mapping[str, Any] | None  # Any: JSON, as `TrainJob.to_json` gives it
    model_id: str | None
    model_sha256: str | None
    reason: str | None
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A decision on a model: one that the gate or a person made, or a training without one."""

    id: int | None
    group_name: str
    verdict: str
    model_id: str | None
    model_sha256: str | None
    previous_id: str | None
    previous_sha256: str | None
    reason: str | None
    numbers: Mapping[str, Any] | None  # Any: JSON
    run_id: int | None
    decided_by: str | None
    decided_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The model that an experiment, or one file, keeps."""

    watch: str
    experiment: str
    target: str
    model_id: str
    model_sha256: str
    pinned_by: str
    pinned_at: str


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process, known again by its start, since process ids are given again.

    Attributes
    ----------
    pid : int
    started : str or None
        As the kernel gives it; None: not known.
    """

    pid: int
    started: str | None
