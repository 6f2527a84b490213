"""Find the configuration file, and the state folder in it; light, so that `status` starts fast."""

import os
from pathlib import Path

import yaml

from cellwatch.errors import ConfigError

VARIABLE = "CELLWATCH_CONFIG"
NAME = "config.yaml"
MODELS = "models"  # below the state folder: the station's own
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_config(given: Path | None) -> Path:
    """Return the configuration file to use: the one given, $CELLWATCH_CONFIG, or ./config.yaml.

    Raises
    ------
    ConfigError
        When there is none; the places looked at are named.
    """
    named = os.environ.get(VARIABLE)
    if given is not None:
        if given.is_file():
            return given
        if given.is_dir():
            raise ConfigError(f"{given} is a folder; name the file: --config {given / NAME}")
        raise ConfigError(f"there is no configuration file at {given}")
    if named:
        if Path(named).is_file():
            return Path(named)
        raise ConfigError(f"${VARIABLE} names {named}, and there is no file there")
    if Path(NAME).is_file():
        return Path(NAME)
    raise ConfigError(
        f"no configuration: looked at --config, ${VARIABLE} and {Path(NAME).absolute()}; "
        "make a station with: cellwatch init DIR"
    )


def state_folder(path: Path) -> Path:
    """Return the state folder that a configuration names, without judging the rest of it.

    Raises
    ------
    ConfigError
        When the file cannot be read or names none.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
        folder = Path(raw["state"]["folder"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} names no state folder; see: cellwatch config check --config {path}"
        ) from error
    return Path(os.path.normpath(path.absolute().parent / folder.expanduser()))
