"""The command that compares mask stores with the ledger."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.console import ConfigOption, JsonOption, print_json, progress, tell
from cellwatch.config.locate import find_config
from cellwatch.errors import EXIT_FAILED, UsageError
from cellwatch.files.publish import HALF, OLD
from cellwatch.storage.ledger.path_text import path_text
from cellwatch.storage.reports import doubts, station, stories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellwatch.records import Acquisition
    from cellwatch.storage.masks.store import StoreReport
    from cellwatch.storage.reports.stories import AcquisitionStory


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(verify)


def verify(
    config: ConfigOption = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest of a simulation: what must be there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every mask store with the ledger. Exit code 1 if anything is wrong."""
    from cellwatch.config.parse import read_config

    checked = read_config(find_config(config))
    problems: list[str] = []
    with station.reader(checked.state.folder / station.LEDGER) as db:
        rows = [row for row in stories.finished(db) if row.acquisition.superseded_by is None]
        paths = stories.by_path(db) if manifest else {}
        n_outdated = doubts.n_outdated(db)
    with progress("checking", len(rows)) as advance:
        for row in rows:
            problems += _problems_of(row, has_tiff="tif" in checked.output.also)
            advance()
    problems += _leftovers(checked.output.folder)
    if manifest:
        problems += _against_manifest(manifest, paths)
    if as_json:
        print_json({"stores": len(rows), "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        tell(f"{len(rows)} mask stores checked, {len(problems)} problems")
        if n_outdated:
            tell(f"{n_outdated} more: masks of earlier contents of files that were changed since")
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _problems_of(story: "AcquisitionStory", *, has_tiff: bool) -> list[str]:
    from cellwatch.storage.masks.label_tiff import check_label_tiffs
    from cellwatch.storage.masks.store import check_store

    store = Path(story.acquisition.former_store or story.acquisition.store or "")
    report = check_store(store)
    if report.problems:
        return [f"{store}: {problem}" for problem in report.problems]
    problems = [f"{store}: {each}" for each in _strange(story, report)]
    if has_tiff:
        problems += check_label_tiffs(store, list(report.rois))
    for target in story.targets:
        stored = report.rois.get(target.name)
        if stored != target.rois:
            found = f"{stored} {target.name}, the ledger says {target.rois}"
            problems.append(f"{store}: {found}")
    return problems


def _strange(story: "AcquisitionStory", report: "StoreReport") -> list[str]:
    # What a store says of itself against what the ledger has: another station may have written it.
    problems = []
    source = report.provenance.get("source", {}).get("sha256")
    if story.acquisition.content_sha256 not in (None, "", source):
        problems.append("it was made from another image than the ledger says")
    for target in story.targets:
        facts = report.provenance["targets"].get(target.name, {})
        if target.labels_sha256 not in (None, "", facts.get("labels_sha256")):
            problems.append(f"the labels of '{target.name}' are not those that the ledger has")
    return problems


def _leftovers(output: Path) -> list[str]:
    left = (p for p in output.rglob(".*") if HALF in p.name or OLD in p.name)
    return [f"{path}: left over from a write that was cut off" for path in left]


def _against_manifest(manifest: Path, known: "Mapping[str, Sequence[Acquisition]]") -> list[str]:
    try:
        images = json.loads(manifest.read_text(encoding="utf-8"))["images"]
        listed = [(image["path"], image["fate"], image) for image in images]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{manifest} is not a manifest of a simulation: {error}") from error
    return [
        f"{path}: {problem}"
        for path, fate, image in listed
        for problem in _differences(fate, image, known.get(path_text(path), ()))
    ]


def _differences(
    fate: str, image: dict[str, Any], rows: "Sequence[Acquisition]"
) -> list[str]:  # Any: JSON
    # Between an image as it was simulated and what the ledger has of its path.
    current = [row for row in rows if row.superseded_by is None]
    states = [row.state.value for row in current]
    if fate == "aborted":
        return ["it was never finished, and is done"] if "done" in states else []
    if states != ["done"]:
        return [f"{', '.join(states) or 'unknown'}, not done once"]
    problems = []
    if current[0].content_sha256 != image["sha256"]:
        problems.append("what was segmented is not what was written last")
    if current[0].planes != image["planes"]:
        problems.append(f"{current[0].planes} planes, {image['planes']} were written")
    earlier = sum(row.superseded_by is not None and row.finished_at is not None for row in rows)
    if earlier > image.get("earlier", 0):
        problems.append(f"{earlier} results of contents that it did not have for long")
    return problems
