"""Keys that are right by themselves and wrong together: folders, groups, models."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from yaml.nodes import Node

from cellwatch.config.schema import Config, Target
from cellwatch.errors import CellwatchError
from cellwatch.zoo.classifiers import ClassifierPlace, find_either

ROLES = ("output", "state", "corrections", "flags")


Place = tuple[str | int, ...]
OWN_IN_STATE = ("models", "runs", "corrections", "backups", "damaged", "sessions")


def conflicts_in(config: Config, places: Mapping[Place, Node]) -> Iterator[tuple[Place, str]]:
    """Yield where keys contradict each other, and what to do."""
    if not config.watch:
        yield ("watch",), "watch names no folder; there is nothing to do"
    seen: dict[str, int] = {}
    for index, watch in enumerate(config.watch):
        at = ("watch", index)
        if watch.name in seen:
            yield at, f"two watched folders are named '{watch.name}'; give one another name"
        seen[watch.name] = index
        names = [target.name for target in watch.targets()]
        if len(set(names)) < len(names):
            yield (*at, "segment"), f"two targets have one name: {', '.join(names)}"
        if watch.folder.is_file():
            yield (*at, "folder"), f"{watch.folder} is a file; name the folder that it lies in"
        yield from _overlaps(config, index)
        yield from _unknown_models(config, index, places)
    yield from _mixed_roles(config)
    yield from _split_groups(config)


def _split_groups(config: Config) -> Iterator[tuple[Place, str]]:
    # One adapted model serves a whole group: its members must begin alike and be fed alike.
    first: dict[str, tuple[str, int]] = {}
    for index, watch in enumerate(config.watch):
        for target in watch.targets():
            group = watch.group_of(target)
            model, fed = first.setdefault(group, (target.model, _n_channels(target)))
            if (model, fed) != (target.model, _n_channels(target)):
                here = f"'{target.model}' fed {_n_channels(target)} channels"
                yield (
                    ("watch", index),
                    f"group '{group}' begins with '{model}' fed {fed} channels elsewhere and with "
                    f"{here} here; give its members one model (the default is auto), or "
                    "make two groups",
                )


def _n_channels(target: Target) -> int:
    return 1 if target.channels.nucleus is None else 2


def _unknown_models(
    config: Config, index: int, places: Mapping[Place, Node]
) -> Iterator[tuple[Place, str]]:
    for number, target in enumerate(config.watch[index].targets()):
        try:
            _models_there(target.model, config.zoo)
        except CellwatchError as error:
            said: tuple[Place, ...] = (
                ("watch", index, "segment", number, "model"),
                ("watch", index, "model"),
                ("defaults", "segment", number, "model"),
                ("defaults", "model"),
            )
            yield next((place for place in said if place in places), ("watch", index)), str(error)


def _models_there(name: str, zoo: Path) -> None:
    found = find_either(name, zoo)
    if isinstance(found, ClassifierPlace):
        found.models()


def _overlaps(config: Config, index: int) -> Iterator[tuple[Place, str]]:
    folder = config.watch[index].folder
    at: Place = ("watch", index, "folder")
    for other in config.watch[:index]:
        if _is_within(folder, other.folder) or _is_within(other.folder, folder):
            yield at, f"{folder} and {other.folder} overlap: an image would be taken twice"
    for key in ROLES:
        section = getattr(config, key)
        if section is None:
            continue
        if _is_within(section.folder, folder):
            yield at, f"{key} ({section.folder}) lies inside the watched folder {folder}"
        elif _is_within(folder, section.folder):
            yield at, f"the watched folder {folder} lies inside {key} ({section.folder})"


def _mixed_roles(config: Config) -> Iterator[tuple[Place, str]]:
    # Where two roles meet, cellwatch would take what it wrote itself for what a person gave it.
    names = {watch.name for watch in config.watch}
    taken = [(key, section.folder) for key in ROLES if (section := getattr(config, key))]
    for (key, folder), (other_key, other) in combinations(taken, 2):
        at: Place = (other_key, "folder")
        if _resolved_path(folder) == _resolved_path(other):
            yield at, f"{key} and {other_key} are one folder ({other}): give each its own"
        elif _is_within(other, folder) and not _has_room(folder, other, key, names):
            yield at, f"{other_key} ({other}) lies inside {key} ({folder}): give it a place beside"
        elif _is_within(folder, other) and not _has_room(other, folder, other_key, names):
            at = (key, "folder")
            yield at, f"{key} ({folder}) lies inside {other_key} ({other}): give it a place beside"


def _has_room(outer: Path, inner: Path, key: str, names: set[str]) -> bool:
    # Within state/ there is room beside its own folders, within output/ beside those of the masks.
    first = _resolved_path(inner).relative_to(_resolved_path(outer)).parts[0]
    if key == "state":
        return first not in OWN_IN_STATE
    return key == "output" and first not in names and not first.startswith(".")


def _is_within(inner: Path, outer: Path) -> bool:
    return _resolved_path(inner).is_relative_to(_resolved_path(outer))


def _resolved_path(folder: Path) -> Path:
    # Through links; one that leads in a circle is compared as it is written.
    try:
        return folder.resolve()
    except (OSError, RuntimeError):
        return folder
