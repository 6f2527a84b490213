"""The command that says what correcting cost and gained, and whether more of it pays off."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import groups_meant, learning_station, ledger_of
from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table, tell
from cellwatch.errors import ExtraMissing
from cellwatch.storage.reports import learning
from cellwatch.storage.reports.effort import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellwatch.storage.reports.learning import CorrectedImage, Night


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
