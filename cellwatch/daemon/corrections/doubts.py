"""What makes a correction doubtful: untouched labels, and ROIs that would fit better elsewhere."""

from dataclasses import replace

from cellwatch.core.alignment import alignment
from cellwatch.core.arrays import Bool, Int32
from cellwatch.core.labels import labels_digest
from cellwatch.core.matching import Edits
from cellwatch.records import CorrectionAsked, CorrectionRead
from cellwatch.storage.corrections.kept import KeptCorrection

FEW_ROIS = 5  # with fewer, nothing in common may be true
FEW_AGREE = 0.1  # of a correction's ROIs
MANY_AGREE = 0.5  # with so many it is of this image, as it lies
UNTOUCHED = "it is what was handed out: nothing was changed in it, and there is nothing to learn"
UNTOUCHED_REMEDY = "correct it and save it again"


def doubts_of(
    asked: CorrectionAsked, labels: Int32, before: Int32, was_found: Bool, done: Edits
) -> list[str]:
    """Return notes on a correction that is accepted, and that a person should look at again."""
    n_rois, n_before = int(labels.max(initial=0)), int(before.max(initial=0))
    if asked.is_empty and n_before >= FEW_ROIS:
        return [f"nothing is there by its name, and the model found {n_before} ROIs: is it right?"]
    if n_rois and n_before >= FEW_ROIS and was_found.mean() < FEW_AGREE:
        n_agree = f"{int(was_found.sum())} of {n_rois} ROIs"
        return [f"only {n_agree} agree with the model's: is it shifted, or of another image?"]
    if not (done.added or done.removed or done.changed) and n_rois:
        return ["nothing was changed in it; if you did correct it, save it again"]
    return []


def doubt_of(
    asked: CorrectionAsked, labels: Int32, kept: KeptCorrection, was_found: Bool
) -> CorrectionRead | None:
    """Return why a correction is rejected until a person confirms it; None: no doubt."""
    # What nobody drew, or drew elsewhere, is learned from only when a person says that it is right.
    n_rois = int(labels.max(initial=0))
    is_vouched = asked.is_confirmed or asked.is_mirrored or kept.checked is not None
    if is_vouched or not n_rois:
        return None
    # To the pixel: whoever redraws even one ROI has looked.
    if labels_digest(labels) in (*asked.given_sha256, labels_digest(kept.predicted)):
        return replace(_rejected_for(UNTOUCHED, UNTOUCHED_REMEDY), is_untouched=True)
    if n_rois < FEW_ROIS or was_found.mean() >= MANY_AGREE:
        return None
    fit = alignment(kept.plane, labels)
    if fit.is_elsewhere:
        return _rejected_for(
            f"its ROIs would fit the image far better {fit.told}",
            "look at both together; save the labels as they lie over this image",
        )
    if fit.is_faint and not was_found.any():
        return _rejected_for(
            "its ROIs have nothing in common with the image, nor with what the model found",
            "look whether it is of another image, plane or crop; name it after that",
        )
    return None


def _rejected_for(reason: str, remedy: str) -> CorrectionRead:
    return CorrectionRead(reason=reason, remedy=remedy, is_doubtful=True)
