"""Whose masks an output folder holds: a mark in it, so that two stations never share one."""

import json
import socket
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
        When it cannot be read or written.
    """
    own = _identity(state)
    mark = output / MARK
    said = _read(mark)
    if said.get("station") == own:
        return
    # The same state folder on the same machine is this station, begun again with a new ledger.
    place = (str(state.resolve()), _machine())
    if said and (said.get("state", ""), said.get("machine", place[1])) != place:
        raise ConfigError(
            f"the output folder {output} holds the masks of another station, whose state folder is "
            f"{said.get('state')} on {said.get('machine', 'this machine')}: two stations in one "
            "folder replace each other's masks. Give "
            f"this one an output: of its own; if the other one is gone, remove {mark}"
        )
    output.mkdir(parents=True, exist_ok=True)
    aside = output / f".{MARK}.{uuid.uuid4().hex[:8]}.partial"
    facts = {"station": own, "state": place[0], "machine": place[1]}
    aside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    aside.replace(mark)


def _machine() -> str:
    return socket.gethostname()


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
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return {}  # there is none, or one that was cut short: nothing claims the folder
