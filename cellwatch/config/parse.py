"""Read a configuration file; report every problem at once, each with line, column and remedy."""

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cellwatch.config.conflicts import Place, conflicts_in
from cellwatch.config.locate import LOADER
from cellwatch.config.schema import Config, Watch
from cellwatch.errors import ConfigError
from cellwatch.images import aborted
from cellwatch.images.sets import pattern
from cellwatch.zoo.cards import is_path

EXAMPLES = {
    "output": "; write output: {folder: masks}",
    "state": "; write state: {folder: state}",
    "watch": "; write watch: and below it   - folder: images",
    "folder": "; write folder: and the path of a folder",
}


def read_config(path: Path) -> Config:
    """Read and check a configuration; from then on files belong together as it says.

    Parameters
    ----------
    path : Path
        Relative folders in it are relative to its own folder.

    Raises
    ------
    ConfigError
        With every problem found, one to a line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    config = parse_config(text, str(path), path.absolute().parent)
    # For every reader of images in this process and its children.
    pattern.declare({watched.folder: watched.files for watched in config.watch})
    aborted.declare(w.folder for w in config.watch if w.interrupted == "process")
    return config


def parse_config(text: str, source: str, base: Path) -> Config:
    """Do what `read_config` does, for text.

    Parameters
    ----------
    text : str
    source : str
        How messages call the file.
    base : Path
        To which relative folders are relative.
    """
    try:
        node = yaml.compose(text, Loader=LOADER)
        raw = yaml.load(text, Loader=LOADER)
        _refuse_cycles(node, ())
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}:{_yaml_problem(error, text)}") from error
    if not isinstance(node, MappingNode) or not isinstance(raw, dict):
        raise ConfigError(
            f"{source}: a configuration is a mapping with the keys watch, output, state"
        )
    places = dict(_places(node, ()))
    problems = [f"{source}:{_at(places, where)}: {what}" for where, what in _duplicates(node, ())]
    config: Config | None = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += [
            f"{source}:{_at(places, _known(places, e['loc']))}: {_explain(e)}"
            for e in error.errors()
        ]
        config = _without_errors(raw, error)
    if config is not None:
        config = _resolved(config, base)
        problems += [
            f"{source}:{_at(places, where)}: {what}" for where, what in conflicts_in(config, places)
        ]
    if problems or config is None:
        raise ConfigError("\n".join(sorted(problems, key=_line)))
    return config


def _refuse_cycles(node: Node | None, above: tuple[int, ...]) -> None:
    if id(node) in above:
        raise ValueError("an anchor (&) is used within itself")
    inside = (*above, id(node))
    if isinstance(node, MappingNode):
        for _, value in node.value:
            _refuse_cycles(value, inside)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            _refuse_cycles(value, inside)


def _without_errors(raw: dict[str, Any], error: ValidationError) -> Config | None:
    # What lies beside the wrong keys is checked too, so that all problems are reported at once.
    rest = deepcopy(raw)
    for each in error.errors():
        parent: Any = rest  # Any: what YAML gave
        for part in each["loc"][:-1]:
            if not isinstance(parent, dict | list):
                return None
            try:
                parent = parent[part]  # type: ignore[index]  # a key of a mapping or an index
            except (KeyError, IndexError, TypeError):
                return None
        if isinstance(parent, dict):
            parent.pop(each["loc"][-1], None)
    try:
        return Config.model_validate(rest)
    except ValidationError:
        return None


def _yaml_problem(error: Exception, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    line = text.splitlines()[mark.line : mark.line + 1] if mark else []
    if any("\t" in each[: len(each) - len(each.lstrip())] for each in line):
        what += "; indent with spaces, not with a tab"
    return f"{mark.line + 1}:{mark.column + 1}: {what}" if mark else f" {what}"


def _places(node: Node, at: Place) -> Iterator[tuple[Place, Node]]:
    yield at, node
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key
            for place, child in _places(value, (*at, key.value)):
                if place != (*at, key.value):
                    yield place, child
    elif isinstance(node, SequenceNode):
        for index, child in enumerate(node.value):
            yield from _places(child, (*at, index))


def _duplicates(node: Node, at: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(node, MappingNode):
        seen: dict[str, Node] = {}
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value in seen:
                line = seen[key.value].start_mark.line + 1
                yield (*at, key.value), f"'{key.value}' appears twice (first on line {line})"
            seen[key.value] = key
            yield from _duplicates(value, (*at, key.value))
    elif isinstance(node, SequenceNode):
        for index, child in enumerate(node.value):
            yield from _duplicates(child, (*at, index))


def _known(places: dict[Place, Node], where: Place) -> Place:
    while where and where not in places:
        where = where[:-1]
    return where


def _at(places: dict[Place, Node], where: Place) -> str:
    mark = places[_known(places, where)].start_mark
    return f"{mark.line + 1}:{mark.column + 1}"


def _line(problem: str) -> tuple[int, int]:
    numbers = re.search(r":(\d+):(\d+):", problem)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _explain(error: Any) -> str:  # Any: pydantic's ErrorDetails
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        near = get_close_matches(key, _keys_at(error["loc"][:-1]), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{key}'{hint}"
    if error["type"] == "missing":
        example = EXAMPLES.get(str(error["loc"][-1]), "")
        return f"'{where}' is missing{example}"
    if error["type"] in ("tuple_type", "list_type"):
        return f"{where}: write a list: each entry on a line of its own, behind a dash"
    if error["type"] == "float_parsing":
        return f"{where}: '{error['input']}' is not a number"
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {what[0].lower()}{what[1:]}"


def _keys_at(where: Place) -> list[str]:
    model: type[BaseModel] = Config
    for part in where:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        model = next(iter(_models_in(annotation)), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # Any: a type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _resolved(config: Config, base: Path) -> Config:
    said = {key: getattr(config.defaults, key) for key in config.defaults.model_fields_set}
    watches = tuple(_resolved_watch(watch, said, base) for watch in config.watch)
    changes: dict[str, Any] = {"watch": watches}  # Any: values of the model
    for key in ("output", "state", "corrections", "flags"):
        section = getattr(config, key)
        if section is not None:
            changes[key] = section.model_copy(update={"folder": _absolute(section.folder, base)})
    changes["paths"] = {said: _absolute(folder, base) for said, folder in config.paths.items()}
    replay = tuple(_absolute(folder, base) for folder in config.retrain.replay)
    changes["retrain"] = config.retrain.model_copy(update={"replay": replay})
    return config.model_copy(update=changes)


def _resolved_watch(watch: Watch, said: dict[str, Any], base: Path) -> Watch:
    changes = {key: value for key, value in said.items() if key not in watch.model_fields_set}
    changes["folder"] = _absolute(watch.folder, base)
    changes["model"] = _model(changes.get("model", watch.model), base)
    segment = changes.get("segment", watch.segment)
    changes["segment"] = tuple(
        target.model_copy(update={"model": _model(target.model, base)})
        if "model" in target.model_fields_set
        else target
        for target in segment
    )
    if "name" not in watch.model_fields_set:
        changes["name"] = changes["folder"].name or "watch"
    return watch.model_copy(update=changes)


def _model(name: str, base: Path) -> str:
    return str(_absolute(Path(name), base)) if is_path(name) else name


def _absolute(folder: Path, base: Path) -> Path:
    return Path(os.path.normpath(base / folder.expanduser()))
