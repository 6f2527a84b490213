"""The command that puts the measurements of many images into one table."""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from cellwatch.cli.client import ledger_of, read_station
from cellwatch.cli.console import ConfigOption, complain, counted, tell
from cellwatch.errors import UsageError

if TYPE_CHECKING:
    from cellwatch.storage.reports.station import Segmented

NONE_SEGMENTED = "no image of an experiment '{}' is segmented (cellwatch status)"
FIRST = ("watch", "experiment", "path", "plate", "well", "field")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(measurements)


def measurements(
    experiment: Annotated[str, typer.Option(help="Only this experiment.")] = "",
    since: Annotated[
        str, typer.Option(help="Only images segmented since then, such as 2026-11-30.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .csv or .parquet.")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="One row for each image and target, not each ROI.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write one row for each ROI: image, place, size, shape and intensities. Without --out: CSV.

    Each image's own table lies beside its masks (output: also: [csv]); this puts them together.
    --images needs no such tables: the ledger records the number and the size of the ROIs.
    """
    station = read_station(config)
    if images:
        with ledger_of(station) as db:
            _write_images(db, out, experiment, _moment(since))
        return
    with ledger_of(station) as db:
        found = list(_tables(db, experiment, _moment(since)))
    if experiment and not found and not since:
        raise UsageError(NONE_SEGMENTED.format(experiment))
    tables = [(row, path) for row, path in found if path is not None]
    if out is None:
        _write_csv(sys.stdout, tables)
    else:
        _into(out, lambda file: _write_csv(file, tables))
    if n_without := len(found) - len(tables):
        of = counted(n_without, "image")
        complain(f"{of} without a table: segmented without `also: [csv]`; rerun the experiment")
    tell(f"{counted(len(tables), 'image')}{f' into {out}' if out else ''}")


def _write_images(
    db: Any,  # Any: sqlite3.Connection
    out: Path | None,
    experiment: str,
    since: str,
) -> None:
    from cellwatch.storage.reports.image_table import COLUMNS, image_rows

    rows = image_rows(db, experiment, since)
    first = next(rows, None)  # a ledger that lacks something says so before a file is written
    if first is None and experiment and not since:
        raise UsageError(NONE_SEGMENTED.format(experiment))

    def write(file: TextIO) -> int:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        n = 0
        for row in chain([first] if first else [], rows):
            writer.writerow(["" if value is None else value for value in row])
            n += 1
        return n

    n = write(sys.stdout) if out is None else _into(out, write)
    tell(f"{counted(n, 'row')}{f' into {out}' if out else ''}")


def _into(out: Path, write: Callable[[TextIO], int]) -> int:
    # Aside first; Parquet is made of that CSV file, some megabytes at a time.
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{out}: name a .csv or a .parquet file")
    from cellwatch.storage.masks.measurements import csv_to_parquet

    aside = out.with_name(f".{out.name}.csv")
    try:
        with aside.open("w", encoding="utf-8", newline="") as file:
            n = write(file)
        if out.suffix == ".csv":
            aside.replace(out)
        else:
            csv_to_parquet(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return n


def _moment(since: str) -> str:
    if not since:
        return ""
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise UsageError(f"--since: '{since}' is not a date such as 2026-11-30") from error
    from cellwatch.storage.ledger.acquisitions import iso

    return iso(moment.astimezone())


def _tables(
    db: Any,  # Any: sqlite3.Connection
    experiment: str,
    since: str,
) -> Iterator[tuple["Segmented", Path | None]]:
    from cellwatch.storage.masks.measurements import KINDS, table_beside
    from cellwatch.storage.reports import station

    for row in station.segmented_since(db, experiment, since):
        places = (table_beside(Path(row.store), kind) for kind in KINDS)
        yield row, next((place for place in places if place.is_file()), None)


def _write_csv(file: TextIO, tables: list[tuple["Segmented", Path]]) -> int:
    # Twice through the files: what columns there are, then the rows; memory stays flat.
    from cellwatch.storage.masks.measurements import columns_of

    columns = list(dict.fromkeys(name for _, path in tables for name in columns_of(path)))
    csv.writer(file, lineterminator="\n").writerow([*FIRST, *columns])
    for row, path in tables:
        where = ["" if (v := getattr(row, name)) is None else v for name in FIRST]
        if path.suffix == ".csv" and columns_of(path) == columns:
            _copy_rows(file, where, path)
        else:
            _write_rows(file, where, path, columns)
    return len(tables)


def _copy_rows(file: TextIO, where: list[str], path: Path) -> None:
    # Of a table that has all columns in their order: its lines as they are, ten times as fast.
    start = io.StringIO()
    csv.writer(start, lineterminator="").writerow(where)
    before = f"{start.getvalue()},"
    with path.open(encoding="utf-8", newline="") as table:
        next(csv.reader(table), None)
        file.writelines(f"{before}{line.rstrip()}\n" for line in table)


def _write_rows(file: TextIO, where: list[str], path: Path, columns: list[str]) -> None:
    from cellwatch.storage.masks.measurements import read_table

    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    start = io.StringIO()
    csv.writer(start, lineterminator="").writerow(where)
    for one in read_table(path):
        file.write(f"{start.getvalue()},")
        writer.writerow(one)
