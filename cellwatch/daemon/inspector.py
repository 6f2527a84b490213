"""The inspector: a process without torch that looks into files that arrive, under limits.

It says whether a file is whole, what it is and what it holds. A file whose header would take
gigabytes, or for ever, ends the inspector and nothing else.
"""

import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from cellwatch.compute.guarded import Guarded, begin, limit_memory
from cellwatch.compute.pipe import Message, receive, send
from cellwatch.errors import UnreadableImage
from cellwatch.images.suffixes import INDICES, suffix_of
from cellwatch.records import ImageInfo
from cellwatch.storage.ledger.path_text import path_text, text_path

MODULE = "cellwatch.daemon.inspector"
MEMORY = 3 << 29  # bytes of address space: headers and tags, never pixels
IDLE_S = 600.0  # without a question; then the process ends
SECONDS = 60.0  # for one file
SET_SECONDS = 900.0  # to look into all files of a set
STORE_SECONDS = 600.0  # to read a mask store whole


class Inspector:
    """The inspecting process as a thread of the supervisor sees it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._child = Guarded(MODULE)
        self._seconds = seconds
        self._asked_at = 0.0

    def why_not_whole(self, path: Path) -> str:
        """Say why a file is not complete; "" when it is."""
        answer, trouble = self._ask("whole", path)
        return str(answer["reason"]) if answer is not None else trouble

    def index_of(self, path: Path) -> Path | None:
        """Return the file that lists the set to which a file belongs; None: to none."""
        answer, _ = self._ask("index", path)
        return Path(text_path(answer["index"])) if answer is not None and answer["index"] else None

    def inspect(self, path: Path, axes: str) -> tuple[str, ImageInfo]:
        """Return the fingerprint of a file and what it holds; a `reason` says what is wrong."""
        answer, trouble = self._ask("describe", path, axes)
        if answer is None:
            return "", ImageInfo(str(path), whole=False, reason=trouble)
        said = answer["info"]
        paths = {key: text_path(said[key]) for key in ("path", "lacks")}
        return str(answer["fingerprint"]), ImageInfo.from_json({**said, **paths})

    def images_in(self, path: Path, *, is_given_up: bool = False) -> tuple[list[Path], str]:
        """Return the images of a file, and "" or why they cannot be told.

        Of a set that is given up, those that are read as far as they are whole are among them.
        """
        answer, trouble = self._ask("given up" if is_given_up else "members", path)
        if answer is None:
            return [path], trouble
        return [Path(text_path(name)) for name in answer["images"]], str(answer["reason"])

    def store_problems(self, store: Path) -> tuple[str, ...]:
        """Return what is wrong with a mask store; nothing where it could not be looked into."""
        asked = self._child.ask({"kind": "store", "path": path_text(str(store))}, STORE_SECONDS)
        return tuple(asked.message["problems"]) if asked.message is not None else ()

    def close_if_idle(self) -> None:
        """End the process if it was not asked for a while: to start it takes a quarter second."""
        if time.monotonic() - self._asked_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _ask(self, kind: str, path: Path, axes: str = "") -> tuple[Message | None, str]:
        self._asked_at = time.monotonic()
        question = {"kind": kind, "path": path_text(str(path)), "axes": axes}
        seconds = SET_SECONDS if suffix_of(path.name) in INDICES else self._seconds
        how = ""
        for _ in range(2):  # somebody else may have killed the first
            asked = self._child.ask(question, seconds)
            if asked.message is not None:
                return asked.message, ""
            if asked.is_late:
                return None, f"its header took longer than {seconds:g} s to read"
            how = asked.how
        return None, f"the process that read its header died ({how})"


def answer_to(question: Message) -> Message:
    """Answer one question, whatever the file makes its readers raise."""
    path = Path(text_path(question["path"]))
    if question["kind"] == "store":
        return {"problems": list(_store_problems(path))}
    limit_memory(MEMORY)
    try:
        if question["kind"] == "whole":
            return {"reason": _why_not_whole(path)}
        if question["kind"] in ("members", "given up"):
            return _images_in(path, is_given_up=question["kind"] == "given up")
        if question["kind"] == "index":
            return {"index": _index_of(path)}
        return _described(path, str(question["axes"]))
    except MemoryError:
        reason = f"its header takes more than {MEMORY >> 20} MiB of memory to read"
        broken = ImageInfo(path_text(str(path)), whole=False, reason=reason)
        described = {"fingerprint": "", "info": asdict(broken)}
        return {"reason": reason, "images": [path_text(str(path))], "index": "", **described}


def _why_not_whole(path: Path) -> str:
    from cellwatch.images.whole import why_not_whole

    return why_not_whole(path)


def _index_of(path: Path) -> str:
    from cellwatch.images import sets

    index = sets.index_of(path)
    return path_text(str(index)) if index is not None and index != path else ""


def _images_in(path: Path, *, is_given_up: bool) -> Message:
    from cellwatch.images import images_in

    try:
        images = images_in(path, is_given_up=is_given_up)
        return {"images": [path_text(str(each)) for each in images], "reason": ""}
    except UnreadableImage as error:
        return {"images": [path_text(str(path))], "reason": error.reason}


def _described(path: Path, axes: str) -> Message:
    from cellwatch.images import describe
    from cellwatch.images.identity import fingerprint

    name = ""
    try:
        name = fingerprint(path)
        info = describe(path, axes)
    except UnreadableImage as error:
        name, info = "", ImageInfo(str(path), whole=False, reason=error.reason)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  a broken file may make its reader raise anything
        reason = f"cannot be read: {type(error).__name__}: {error}"
        name, info = "", ImageInfo(str(path), whole=False, reason=reason)
    info = replace(info, path=path_text(info.path), lacks=path_text(info.lacks))
    return {"fingerprint": name, "info": asdict(info)}


def _store_problems(path: Path) -> tuple[str, ...]:
    from cellwatch.storage.masks.label_tiff import DIFFER, check_label_tiffs
    from cellwatch.storage.masks.store import check_store

    with suppress(MemoryError):
        report = check_store(path)
        changed = check_label_tiffs(path, list(report.rois)) if not report.problems else []
        # A TIFF that is not there is no edit: somebody took it, or none was asked for.
        return (*report.problems, *(text for text in changed if DIFFER in text))
    return ()


def main() -> None:
    """Answer until the input ends."""
    questions, replies = begin()
    while (question := receive(questions)) is not None:
        send(replies, answer_to(question))


if __name__ == "__main__":
    main()
