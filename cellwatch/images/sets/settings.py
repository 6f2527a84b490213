"""The text files of MetaMorph and MetaXpress: a line for each setting, `"NAME", value`."""

from pathlib import Path


def read_settings(file: Path) -> dict[str, str]:
    """Return the settings of a file; its descriptions may hold bytes of any encoding."""
    found = {}
    for line in file.read_text(encoding="latin-1").splitlines():
        key, _, value = line.partition(",")
        found[key.strip().strip('"')] = value.strip().strip('"')
    return found
