"""Paths as text that SQLite and JSON can hold, also those whose bytes are no UTF-8.

A name that decodes is kept as it is. One that does not becomes `raw:` and its bytes, those that are
not plain ASCII as `%XX`, and can be opened again from that.
"""

import os
import re

RAW = "raw:"


def path_text(path: str) -> str:
    r"""Return a path as text without undecodable characters.

    Examples
    --------
    >>> path_text("/scope/a.tif"), path_text("/scope/a\udcff.tif")
    ('/scope/a.tif', 'raw:/scope/a%FF.tif')
    """
    if not path.startswith(RAW) and not re.search("[\ud800-\udfff]", path):
        return path
    plain = (chr(b) if 32 < b < 127 and b != ord("%") else f"%{b:02X}" for b in os.fsencode(path))
    return RAW + "".join(plain)


def readable(text: str) -> str:
    r"""Return text for people, with bytes that are no UTF-8 written as `\xNN`.

    Examples
    --------
    >>> print(readable("unknown: a\udcff.tif"))
    unknown: a\xff.tif
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    r"""Return text whose control characters are written out: it is one line, and gives no orders.

    Examples
    --------
    >>> print(printable("a\nb \x1b[31m.tif"))
    a\nb \x1b[31m.tif
    """
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)


# Those of ASCII and Latin-1, line ends of Unicode, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def text_path(text: str) -> str:
    """Return the path that `path_text` was given."""
    if not text.startswith(RAW):
        return text
    data = text[len(RAW) :].encode("ascii")
    return os.fsdecode(re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), data))
