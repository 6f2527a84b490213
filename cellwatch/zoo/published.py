"""The published zoo of Cellpose: names, addresses, and how a file is fetched once and pinned.

Nothing here runs unless a person asks for a download. A file's sha256 is recorded when it first
comes and enforced ever after.
"""

import ipaddress
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from cellwatch.errors import DownloadError
from cellwatch.files.atomic import write_json
from cellwatch.files.digests import file_sha256

SITE = "https://www.cellpose.org/models"
PINS = "pins.json"
CHUNK = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS = 3


def fetch(
    name: str,
    folder: Path,
    mirror: str = SITE,
    on_bytes: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Download a file, continuing where an earlier attempt stopped; refuse another than was pinned.

    Nothing is pinned here: that waits until the file has proved to be a model.

    Parameters
    ----------
    name : str
        Of the file.
    folder : Path
        Where it and the pins are kept.
    mirror : str
        Address of the folder that holds it: https, or http on this machine.
    on_bytes : callable
        Gets the bytes that are there and the bytes in all (0: not known).

    Returns
    -------
    Path
        `NAME.download` in the folder.

    Raises
    ------
    DownloadError
        When it cannot be fetched, or is not the file that was pinned.
    """
    address = f"{checked_address(mirror)}/{name}"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    _fetch_all(address, partial, on_bytes)
    try:
        check_pin(name, partial, folder)
    except DownloadError:
        _forget(partial)  # another try begins again
        raise
    done = folder / f"{name}.download"  # a model folder of the same name may lie beside it
    partial.replace(done)
    partial.with_name(f"{partial.name}.etag").unlink(missing_ok=True)
    return done


def _fetch_all(address: str, partial: Path, on_bytes: Callable[[int, int], None]) -> None:
    for attempt in range(ATTEMPTS):
        try:
            _fetch_rest(address, partial, on_bytes)
            return
        except DownloadError:
            raise
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and partial.exists():
                _forget(partial)  # all of it had come, or the file became shorter
                continue
            raise DownloadError(
                f"{address}: {error.code} {error.reason}; look at the name and the --mirror"
            ) from error
        except (OSError, HTTPException) as error:
            if attempt + 1 == ATTEMPTS:
                raise DownloadError(
                    f"{address} cannot be downloaded: {error}; the part that arrived is kept: try "
                    "again, or download the file elsewhere and give it with --from-file"
                ) from error
    raise DownloadError(f"{address} cannot be downloaded: the server refuses to send parts of it")


def check_pin(name: str, path: Path, folder: Path) -> str:
    """Return the sha256 of a file, refusing another one than was pinned under its name.

    Raises
    ------
    DownloadError
        When the file is not the one that was pinned; both hashes are named.
    """
    pins_path = folder / PINS
    pins = _pins(folder)
    found = file_sha256(path)
    if pins.get(name, found) != found:
        raise DownloadError(
            f"{name} is not the file that was downloaded first: its sha256 is {found}, the one "
            f"recorded in {pins_path} is {pins[name]}; if you trust the new file, remove that line "
            "and the folder of the model, and pull again"
        )
    return found


def pin(name: str, path: Path, folder: Path) -> None:
    """Record the sha256 of a file that proved to be a model; another is refused ever after.

    Raises
    ------
    DownloadError
        When another one was pinned.
    """
    found = check_pin(name, path, folder)
    folder.mkdir(parents=True, exist_ok=True)
    pins = dict(sorted({**_pins(folder), name: found}.items()))
    write_json(folder / PINS, pins, writer=str(os.getpid()))


def _pins(folder: Path) -> dict[str, str]:
    path = folder / PINS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_name(f"{partial.name}.etag").unlink(missing_ok=True)


def checked_address(address: str) -> str:
    """Return an address without a trailing slash, if a file may be fetched from it.

    Raises
    ------
    DownloadError
        When it is neither https nor on this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return address.rstrip("/")
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return address.rstrip("/")
    raise DownloadError(f"{address} is not https, so its files cannot be trusted")


def _fetch_rest(address: str, partial: Path, on_bytes: Callable[[int, int], None]) -> None:
    etag = partial.with_name(f"{partial.name}.etag")
    there = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "cellwatch"}
    if there and etag.exists():
        headers |= {"Range": f"bytes={there}-", "If-Range": etag.read_text(encoding="utf-8")}
    request = urllib.request.Request(address, headers=headers)
    with _opener().open(request, timeout=TIMEOUT_S) as answer:
        is_rest = answer.status == HTTPStatus.PARTIAL_CONTENT
        there = there if is_rest else 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length else 0
        if given := answer.headers.get("ETag"):
            etag.write_text(given, encoding="utf-8")
        else:
            etag.unlink(missing_ok=True)
        with partial.open("ab" if is_rest else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                there += len(chunk)
                on_bytes(there, total)
    if total and there != total:
        raise OSError(f"{there} of {total} bytes came")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: HTTPMessage, newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        checked_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SafeRedirects())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
