"""Rows become records: the columns of a query, read into the fields of a frozen dataclass."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from cellwatch.records import Crop

if TYPE_CHECKING:
    from sqlite_utils import Database  # slow to import, and commands read rows

Ledger: TypeAlias = Union["Database", sqlite3.Connection]
Record = TypeVar("Record")
# What queries of acquisitions add where a pause matters; `reports/pauses.py` has the keys.
NOT_PAUSED = (
    "NOT EXISTS (SELECT 1 FROM station WHERE key IN ('paused:', 'paused:' || acquisitions.watch))"
)
Parser = Callable[[Any], Any]  # Any: what SQLite holds, and what a field holds


def records(db: Ledger, kind: type[Record], sql: str, values: Sequence[Any] = ()) -> list[Record]:
    """Run a query and return its rows as records.

    Parameters
    ----------
    db : Database or sqlite3.Connection
    kind : type
        A frozen dataclass; a column that none of its fields is named after is left out. A field
        with a default may lack its column: in a ledger of an earlier version.
    sql : str
    values : sequence
        Bound to the marks of the query.
    """
    cursor = db.execute(sql, list(values))
    names = [name for name, *_ in cursor.description]
    parse = _parsers(kind)  # type: ignore[arg-type]  # a class is hashable
    read = [(at, name, parse[name]) for at, name in enumerate(names) if name in parse]
    return [kind(**{name: of(row[at]) for at, name, of in read}) for row in cursor.fetchall()]


def first(db: Ledger, kind: type[Record], sql: str, values: Sequence[Any] = ()) -> Record | None:
    """Run a query and return its first row as a record; None: it has none."""
    return next(iter(records(db, kind, sql, values)), None)


@cache
def _parsers(kind: type) -> dict[str, Parser]:
    hints = get_type_hints(kind)
    return {field.name: _parser(hints[field.name]) for field in fields(kind)}


def _parser(hint: Any) -> Parser:  # Any: a type
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    (one,) = [each for each in kinds if each is not NoneType]
    parse = _parser_of(one)
    return lambda value: None if value is None else parse(value)


def _parser_of(kind: Any) -> Parser:  # Any: a type
    if kind is bool:
        return bool
    if kind is Crop:
        return lambda text: Crop(**json.loads(text))
    if get_origin(kind) is tuple:
        return lambda text: tuple(json.loads(text))
    if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        return json.loads
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind
    return lambda value: value
