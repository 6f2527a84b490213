"""Commands on what was corrected: list, show, withdraw, confirm, import, export, audit."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.cli.client import ask, ledger_of, read_station, refuse_station_folder, show
from cellwatch.cli.console import ConfigOption, JsonOption, print_json, print_table, progress, tell
from cellwatch.errors import EXIT_FAILED, BadTrainingData, RequestRefused, UsageError
from cellwatch.records import CorrectionKind, CorrectionState, ListedCorrection, Side
from cellwatch.storage.ledger.path_text import text_path
from cellwatch.storage.reports import corrections as reports
from cellwatch.storage.reports import learning

if TYPE_CHECKING:
    from cellwatch.config.schema import Config

app = typer.Typer(
    help="Corrections: list, show, withdraw, confirm, import, export, audit.", no_args_is_help=True
)


def register(parent: typer.Typer) -> None:
    """Add these commands."""
    parent.add_typer(app, name="corrections")


@app.command("list")
def corrections_list(
    group: Annotated[str, typer.Option(help="Only this group.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Include superseded and withdrawn ones.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dropped corrections, newest first.

    Of several corrections that cover the same pixels, one is used.
    """
    from cellwatch.storage.ledger.precedence import ids_in_effect

    station = read_station(config)
    _refuse_unknown_group(station, group)
    with ledger_of(station) as db:
        in_effect = ids_in_effect(db, station.retrain.lead)
        rows = reports.corrections(db, group, is_every=every)
    if as_json:
        print_json([_with_use(row, in_effect) for row in rows])
        return
    table = [
        [
            str(row.id),
            row.file,
            _state_text(row, in_effect),
            row.group_name or "",
            "" if row.rois is None else str(row.rois),
            "" if row.ap50 is None else f"{row.ap50:.3f}",
            " ".join((row.reason or "").split()),
        ]
        for row in rows
    ]
    print_table("", ["id", "file", "state", "group", "ROIs", "AP@0.5", "reason"], table)


@app.command("show")
def corrections_show(
    key: Annotated[int, typer.Argument(metavar="ID", help="Id, as `corrections list` shows it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known about one correction."""
    from cellwatch.storage.ledger.precedence import above, ids_in_effect

    station = read_station(config)
    with ledger_of(station) as db:
        row = reports.correction(db, key)
        if row is None:
            raise RequestRefused(f"there is no correction {key}; see: cellwatch corrections list")
        facts = _with_use(row, ids_in_effect(db, station.retrain.lead))
        facts["scores"] = [asdict(score) for score in reports.scores_of(db, key)]
        facts["preceded_by"] = [other.id for other in above(db, key)]
    if as_json:
        print_json(facts)
        return
    shown = {k: v for k, v in facts.items() if v not in (None, [], (), "")}
    print_table("", ["", str(key)], [[name, str(value)] for name, value in shown.items()])


@app.command("withdraw")
def corrections_withdraw(
    key: Annotated[int, typer.Argument(metavar="ID", help="Id, as `corrections list` shows it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a correction: no later training uses it. The file stays where it is."""
    show(ask(read_station(config), "withdraw", {"id": key}), as_json=as_json)


@app.command("confirm")
def corrections_confirm(
    key: Annotated[
        int, typer.Argument(metavar="ID", help="Id, as the .rejected.txt file shows it.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Confirm a dropped file that was rejected because of a doubt, so that it is accepted.

    A doubt means: nothing was changed, or the ROIs seem to lie elsewhere in the image.
    """
    show(ask(read_station(config), "confirm", {"id": key}), as_json=as_json)


@app.command("import")
def corrections_import(
    folder: Annotated[
        Path, typer.Argument(help="Folder of existing masks with the names of this project.")
    ],
    config: ConfigOption = None,
) -> None:
    """Copy existing masks, with their sub-folders, into the corrections folder.

    The daemon answers each file, also those whose image it does not know. Existing files of the
    same name are left alone.
    """
    from cellwatch.daemon.requests.corrections import folder_of
    from cellwatch.storage.corrections.kept import content_digest
    from cellwatch.storage.corrections.names import read_name

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    target = folder_of(read_station(config))
    if not target.is_dir():
        raise RequestRefused(f"the corrections folder {target} is not there; is its disk mounted?")
    found = [p for p in _files_in(folder) if read_name(p.name) is not None]
    if not found:
        raise RequestRefused(f"{folder} holds no file named as a correction (NAME_masks.tif ...)")
    copied = others = 0
    with progress("importing", len(found)) as advance:
        for path in found:
            place = target / path.relative_to(folder)
            if place.exists():
                is_same = content_digest(place) == content_digest(path)
                others += not is_same
                what = "is there already" if is_same else "is another file; move one of them away"
                tell(f"{path} is not copied: {place} {what}")
            else:
                _copy(path, place)
                copied += 1
            advance()
    tell(f"copied {copied} into {target}; the answers lie beside them within seconds of each")
    if others:
        raise typer.Exit(EXIT_FAILED)


@app.command("export")
def corrections_export(
    folder: Annotated[Path, typer.Argument(help="Folder for the pairs; created if needed.")],
    group: Annotated[str, typer.Option(help="Only this group.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write the active corrections as pairs NAME_img.tif and NAME_masks.tif, to train on.

    Where only a part was checked, NAME_region.tif marks it. Held-out corrections go to the
    sub-folder held_out: a model that is trained on them cannot be judged by them. Corrections that
    are not used because another covers the same pixels go to the sub-folder others. Pairs of an
    earlier export that are no longer active move to the sub-folder .superseded.
    """
    from cellwatch.storage.corrections.export import write_image, write_tiff
    from cellwatch.storage.corrections.export_manifest import SUPERSEDED, Exported
    from cellwatch.storage.corrections.kept import read_kept
    from cellwatch.storage.ledger.precedence import ids_in_effect

    station = read_station(config)
    refuse_station_folder(station, folder, "the folder")
    with ledger_of(station) as db:
        in_effect = ids_in_effect(db, station.retrain.lead)
        active = [row for row in reports.corrections(db) if _is_asked(row)]
    places = {row.id: _exported(row, in_effect) for row in active}
    rows = [row for row in active if group in ("", row.group_name)]
    folder.mkdir(parents=True, exist_ok=True)
    written = Exported(folder, station.state.folder)
    if moved := written.set_aside(set(places.values())):
        tell(f"{moved} files of corrections that are no longer active are in {folder / SUPERSEDED}")
    damaged = 0
    with progress("exporting", len(rows)) as advance:
        for row in rows:
            try:
                kept = read_kept(Path(row.folder or ""))
            except BadTrainingData as error:
                damaged += 1
                tell(f"correction {row.id} ({row.file}) is left out: {error}")
                advance()
                continue
            place = written.place(places[row.id])
            write_image(place("_img.tif"), kept.plane, is_rgb=False)
            write_tiff(place("_empty.tif" if kept.is_empty else "_masks.tif"), kept.labels)
            if kept.checked is not None:
                write_tiff(place("_region.tif"), kept.checked.astype("int32"))
            advance()
    written.remember()
    tell(f"wrote {len(rows) - damaged} pairs to {folder}")
    if damaged:
        raise typer.Exit(EXIT_FAILED)


@app.command("audit")
def corrections_audit(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove from the ledger that no score used an image its network was trained on."""
    from cellwatch.storage.ledger.database import open_ledger
    from cellwatch.storage.ledger.training_runs import leaks

    station = read_station(config)
    with ledger_of(station) as db:
        n_scores, n_networks = learning.n_audited(db)
    ledger = open_ledger(station.state.folder)
    try:
        found = leaks(ledger)
    finally:
        ledger.close()
    if as_json:
        print_json({"scores": n_scores, "networks": n_networks, "leaks": found})
    else:
        for row in found:
            typer.echo(f"{row.problem}: {row.model_id} on {row.file}")
        tell(f"{n_scores} scores of {n_networks} trained networks checked, {len(found)} leaks")
    if found:
        raise typer.Exit(EXIT_FAILED)


def _exported(row: ListedCorrection, in_effect: set[int]) -> Path:
    # Where a pair lies below the folder, and the beginning of its names.
    name = f"{row.id:05d}-{Path(text_path(row.relative_path or '')).stem}"
    if row.side == Side.HELD_OUT:
        return Path("held_out") / name
    return Path(name) if row.id in in_effect else Path("others") / name


def _is_asked(row: ListedCorrection) -> bool:
    # Whether it can be used by itself: no region, no second look, no rejected file.
    return row.state.is_active and row.kind == CorrectionKind.LABELS


def _with_use(row: ListedCorrection, in_effect: set[int]) -> dict[str, Any]:  # Any: JSON
    # "is_in_effect": null where the question does not arise.
    return {**asdict(row), "is_in_effect": row.id in in_effect if _is_asked(row) else None}


def _refuse_unknown_group(station: "Config", group: str) -> None:
    with ledger_of(station) as db:
        known = reports.groups_corrected(db)
    known |= {watched.group_of(t) for watched in station.watch for t in watched.targets()}
    if group and group not in known:
        listed = ", ".join(sorted(known))
        raise RequestRefused(f"there is no group '{group}'; there are {listed}")


def _state_text(row: ListedCorrection, in_effect: set[int]) -> str:
    if row.kind == CorrectionKind.SECOND_LOOK and row.state == CorrectionState.TRAINABLE:
        return "second look"
    is_set_aside = _is_asked(row) and row.id not in in_effect
    return f"{row.state}, another applies" if is_set_aside else str(row.state)


def _files_in(folder: Path) -> list[Path]:
    # A zarr of labels is one file of this folder, whatever lies in it.
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() or path.suffix.lower() == ".zarr":
            found.append(path)
        elif path.is_dir() and not path.is_symlink():
            found += _files_in(path)
    return found


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.partial")
    if path.is_dir():
        shutil.copytree(path, aside)
    else:
        shutil.copyfile(path, aside)
    aside.rename(place)
