"""Whose masks an output folder holds: a mark in it, so that two stations never share one."""

import json
import uuid
from pathlib import Path

from cellwatch.errors import ConfigError

MARK = "cellwatch-station.json"  # in the output folder
IDENTITY = "station-id"  # in the state folder


def claim_output(output: Path, state: Path) -> None:
    """Mark an output folder as that of a station.

    Raises
    ------
    ConfigError
        When another station has marked it; nothing is changed then.
    OSError
        When it cannot be written.
    """
    own = _identity(state)
    mark = output / MARK
    said = _read(mark)
    if said.get("station") == own:
        return
    if said and Path(str(said.get("state", ""))) != state.resolve():
        raise ConfigError(
            f"the output folder {output} holds the masks of another station, whose state folder is "
            f"{said.get('state')}: two stations in one folder replace each other's masks. Give "
            f"this one an output: of its own; if the other one is gone, remove {mark}"
        )
    output.mkdir(parents=True, exist_ok=True)
    aside = output / f".{MARK}.{uuid.uuid4().hex[:8]}.partial"
    facts = {"station": own, "state": str(state.resolve())}
    aside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    aside.replace(mark)


def _identity(state: Path) -> str:
    place = state / IDENTITY
    try:
        return place.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        state.mkdir(parents=True, exist_ok=True)
        made = uuid.uuid4().hex
        place.write_text(f"{made}\n", encoding="ascii")
        return made


def _read(mark: Path) -> dict[str, str]:
    try:
        return dict(json.loads(mark.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
