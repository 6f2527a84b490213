"""Tables of measurements beside mask stores: one row for each ROI in each plane.

A table is a CSV file, `NAME_measurements.csv`, or with pyarrow (the extra `tables`) Parquet.
"""

import csv
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.core.measure import Column, measure
from cellwatch.errors import ExtraMissing
from cellwatch.files.publish import written_aside
from cellwatch.files.stems import stem_of
from cellwatch.images import Planes

KINDS = ("csv", "parquet")
LENGTHS = ("diameter", "y", "x")  # columns that are given in µm too
DIGITS = 6

Table = dict[str, Column]


def measured(
    labels: Mapping[str, NDArray[np.int32]],
    image: Planes,
    pixel_size_um: float | None,
    confidences: Mapping[str, Sequence[NDArray[np.float64]]] | None = None,
) -> Table:
    """Measure the ROIs of all planes of an acquisition.

    Parameters
    ----------
    labels : mapping of str to (P, T, Z, Y, X) int32
        By target.
    image : Planes
    pixel_size_um : float or None
        None: lengths are given in px alone.
    confidences : mapping of str to sequence of (n,) float64, or None
        By target: of the ROIs of each plane, in the order of their labels; None, and a target that
        has none: they are not known.

    Returns
    -------
    dict of str to (n,) arrays
        `target`, `position`, `t`, `z`, then the columns of `cellwatch.core.measure.measure`,
        `confidence` (NaN: not known), for each other target `in_` and its name: the label of its
        ROI that holds more than half of this one (0: none does); and `area_um2`, `diameter_um`,
        `y_um`, `x_um` where the pixel size is known.
    """
    tables = []
    for target, volume in labels.items():
        known = (confidences or {}).get(target, ())
        for number, at in enumerate(np.ndindex(*volume.shape[:3])):
            table = measure(volume[at], list(image.plane(*at)), image.info.channels)
            n = len(table["label"])
            where = {"target": np.array([target] * n, object)}
            where |= {k: np.full(n, i) for k, i in zip(("position", "t", "z"), at, strict=True)}
            each = known[number] if number < len(known) else ()
            sure = np.asarray(each) if len(each) == n else np.full(n, np.nan)
            planes = {other: volumes[at] for other, volumes in labels.items()}
            tables.append(
                {**where, **table, "confidence": sure, **_held_by(target, planes, table["label"])}
            )
    whole = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    return whole if pixel_size_um is None else {**whole, **_in_um(whole, pixel_size_um)}


def _held_by(target: str, planes: Mapping[str, NDArray[np.int32]], numbers: Column) -> Table:
    # For each other target the ROI that holds most of this one's; its own column stays 0.
    if len(planes) == 1:
        return {}
    mine = planes[target]
    found: Table = {}
    inside = mine > 0
    area = np.bincount(mine[inside], minlength=int(mine.max(initial=0)) + 1)
    for other, theirs in planes.items():
        holders = np.zeros(len(area), np.int64)
        if other != target and inside.any():
            base = int(theirs.max(initial=0)) + 1
            keys = mine[inside].astype(np.int64) * base + theirs[inside]
            found_keys, n_pixels = np.unique(keys, return_counts=True)
            ours, holder = np.divmod(found_keys, base)
            is_most = (holder > 0) & (2 * n_pixels > area[ours])
            holders[ours[is_most]] = holder[is_most]
        found[f"in_{other}"] = holders[np.asarray(numbers, np.int64)]
    return found


def _in_um(table: Table, pixel_size_um: float) -> Table:
    in_px = {name: np.asarray(table[f"{name}_px"], np.float64) for name in ("area", *LENGTHS)}
    lengths = {f"{name}_um": in_px[name] * pixel_size_um for name in LENGTHS}
    return {"area_um2": in_px["area"] * pixel_size_um**2, **lengths}


def table_beside(store: Path, kind: str) -> Path:
    """Return where the table of a mask store lies."""
    return store.with_name(f"{stem_of(store.name.removesuffix('.zarr'))}_measurements.{kind}")


def write_table(path: Path, table: Table, superseded: Path) -> None:
    """Write a table, whole or not at all, by the ending of its name.

    Raises
    ------
    ExtraMissing
        When it is Parquet and pyarrow is not installed.
    """
    with written_aside(path, superseded) as aside:
        if path.suffix == ".parquet":
            arrow, parquet = _pyarrow()
            columns = {name: arrow.array(column.tolist()) for name, column in table.items()}
            parquet.write_table(arrow.table(columns), aside)
            return
        with aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*(map(_told, column) for column in table.values()), strict=True))


def read_table(path: Path) -> Iterator[dict[str, Any]]:  # Any: numbers and text
    """Yield the rows of a table.

    Raises
    ------
    ExtraMissing
        When it is Parquet and pyarrow is not installed.
    """
    if path.suffix == ".parquet":
        _, parquet = _pyarrow()
        yield from parquet.read_table(path).to_pylist()
        return
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    if path.suffix == ".parquet":
        return list(_pyarrow()[1].read_schema(path).names)
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def csv_to_parquet(source: Path, out: Path) -> None:
    """Convert a table, some megabytes at a time."""
    _, parquet = _pyarrow()
    open_csv = importlib.import_module("pyarrow.csv").open_csv
    with open_csv(source) as reader, parquet.ParquetWriter(out, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _told(value: object) -> object:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return f"{value:.{DIGITS}g}" if np.isfinite(value) else ""
    return value


def _pyarrow() -> tuple[Any, Any]:  # Any: modules without types
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ExtraMissing(
            "tables in Parquet need pyarrow: pip install 'cellwatch[tables]', or write csv"
        ) from error
