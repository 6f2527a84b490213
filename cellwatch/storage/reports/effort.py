"""Whether more correcting pays off, in one sentence."""

from collections.abc import Sequence

from cellwatch.storage.reports.learning import CorrectedImage, Night

PAYING = 0.02  # AP@0.5 that the last corrections brought: below it more hardly pays


def verdict(
    images: Sequence[CorrectedImage],
    nights: Sequence[Night],
    *,
    is_training: bool = False,
) -> str:
    """Say in one sentence whether more annotation still pays.

    Examples
    --------
    >>> verdict([], [])
    'nothing was corrected yet: three to five images are enough to begin'
    """
    if not images:
        return "nothing was corrected yet: three to five images are enough to begin"
    last = nights[-1] if nights else None
    numbers = (last.numbers if last else None) or {}
    is_scored = "candidate" in numbers
    said = last.verdict if last else None
    if last and (said == "declined" or (said == "inconclusive" and is_scored)):
        return f"the last training is not used ({said}): {last.told}"
    if not is_scored:
        return _without_a_score(images, nights, is_training=is_training)
    gain = numbers["gain"]
    shares = [image.share for image in images if image.share is not None]
    by_hand = f"{shares[-1]:.0%} of the ROIs of the last image were done by hand"
    if gain >= PAYING:
        return f"it still pays: the last training gained {gain:+.3f} AP@0.5; {by_hand}"
    return (
        f"it hardly pays any more: the last training gained {gain:+.3f} AP@0.5; {by_hand}. "
        "Correct images of another kind, or only those that are flagged"
    )


def _without_a_score(
    images: Sequence[CorrectedImage],
    nights: Sequence[Night],
    *,
    is_training: bool,
) -> str:
    if is_training:
        which = "another" if nights else "the first"
        return f"{which} training is under way (cellwatch status)"
    if nights:
        last = nights[-1]
        if last.is_cancelled:
            return f"the last training was {last.told}: cellwatch retrain --now begins another"
        return f"the last training proves nothing ({last.verdict or 'failed'}): {last.told}"
    wanted = "" if len(images) > 1 else "correct another image, then: "
    return f"no training was judged yet; {wanted}wait for the night, or cellwatch retrain --now"
