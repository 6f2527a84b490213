"""The command that says what correcting cost and gained, and whether more of it pays off."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import groups_meant, learning_station, ledger_of
from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table, tell
from cellwatch.errors import ExtraMissing
from cellwatch.storage.reports import learning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellwatch.storage.reports.learning import CorrectedImage, Night

PAYING = 0.02  # AP@0.5 that the last corrections brought: below it more hardly pays


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(effort)


@dataclass(frozen=True, slots=True)
class GroupEffort:
    """What correcting cost a group and gained it."""

    group: str
    images: "list[CorrectedImage]"
    nights: "list[Night]"
    ceiling: learning.Agreement
    verdict: str


def effort(
    group: Annotated[str, typer.Argument(help="Group; else all groups.")] = "",
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it into a .png, .pdf or .svg file.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what correcting cost and gained, and whether more of it pays off."""
    station = learning_station(config)
    found = []
    with ledger_of(station) as db:
        running = learning.running(db)
        for name in groups_meant(station, group):
            images, nights = learning.effort(db, name), learning.nights(db, name)
            is_training = running is not None and running.group_name == name
            said = verdict(images, nights, is_training=is_training)
            found.append(GroupEffort(name, images, nights, learning.agreement(db, name), said))
    if plot:
        _draw(found, plot)
    if as_json:
        print_json(found)
        return
    for facts in found:
        _show_effort(facts)


def verdict(
    images: "Sequence[CorrectedImage]",
    nights: "Sequence[Night]",
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
    images: "Sequence[CorrectedImage]",
    nights: "Sequence[Night]",
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


def _show_effort(facts: GroupEffort) -> None:
    typer.echo(f"{facts.group}: {facts.verdict}")
    rows = [
        [
            row.received_at[:10],
            row.relative_path,
            str(row.rois),
            f"+{row.added} -{row.removed} ~{row.changed}",
            "" if row.share is None else f"{row.share:.0%}",
            "" if row.minutes is None else f"{row.minutes:.0f}",
            f"{row.ap50:.3f}" + ("" if row.is_unseen else " (seen)"),
        ]
        for row in facts.images
    ]
    if rows:
        columns = ["day", "image", "ROIs", "by hand", "share", "minutes", "AP@0.5 before"]
        print_table("", columns, rows)
    nights = [
        [
            night.local_date,
            night.model_id or "",
            night.verdict or _ended(night),
            _scored(night.numbers),
            "" if night.seconds is None else f"{night.seconds / 60:.0f}",
        ]
        for night in facts.nights
    ]
    if nights:
        columns = ["night", "model", "verdict", "AP@0.5 on unseen images", "minutes"]
        print_table("", columns, nights)
    for night in facts.nights:
        if night.state == "failed":
            how = "" if _ended(night) == "cancelled" else "failed: "
            tell(f"{night.model_id or night.local_date} {how}{night.reason}")
    own = facts.ceiling.own
    if own is not None:
        tell(f"you agree with yourself at AP@0.5 {own:.3f}: no model can be better than that")


def _ended(night: "Night") -> str:
    return "cancelled" if night.is_cancelled else night.state


def _scored(numbers: "Mapping[str, Any] | None") -> str:  # Any: JSON
    if not numbers or "candidate" not in numbers:
        return ""
    low, high = numbers["interval_95"]
    return (
        f"{numbers['candidate']:.3f} against {numbers['incumbent']:.3f} "
        f"(gain {low:+.3f} to {high:+.3f})"
    )


def _draw(found: list[GroupEffort], path: Path) -> None:
    try:
        from cellwatch.workflows.effort_plot import draw_effort
    except ImportError as error:
        raise ExtraMissing("--plot needs matplotlib: pip install 'cellwatch[zoo]'") from error
    draw_effort([asdict(each) for each in found], path)
    tell(f"drew {path}")
