"""Look into a network share by a child process: a share that hangs does not hang the daemon."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from cellwatch.compute.guarded import Answered, Guarded, begin
from cellwatch.compute.pipe import Message, receive, send
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.watching import scanner
from cellwatch.watching.names import FileFilter
from cellwatch.watching.scanner import Place
from cellwatch.watching.settle import Sighting

MODULE = "cellwatch.daemon.share_lister"
SCAN_WITHIN_S = 300.0  # all files of a share
LOOK_WITHIN_S = 30.0  # one file
PAGE = 10_000  # files in one message


class ShareLister:
    """A `Lister` whose questions a child process answers within their time.

    Parameters
    ----------
    scan_within_s, look_within_s : float
    """

    def __init__(
        self, scan_within_s: float = SCAN_WITHIN_S, look_within_s: float = LOOK_WITHIN_S
    ) -> None:
        self._child = Guarded(MODULE)
        self._scan_within_s, self._look_within_s = scan_within_s, look_within_s

    def scan(self, root: Path, wanted: FileFilter) -> Iterator[Sighting]:
        """Yield every wanted file, as `scanner.scan` does.

        Raises
        ------
        OSError
            When the share cannot be listed, or does not answer.
        """
        found = self._ask("scan", root, self._scan_within_s, wanted=asdict(wanted))
        while found["files"]:
            yield from (Sighting(text_path(path), *facts) for path, *facts in found["files"])
            found = self._ask("more", root, self._scan_within_s)

    def look(self, root: Path, relative: str, wanted: FileFilter) -> Sighting | None:
        """Return one wanted file as it is now, as `scanner.look` does.

        Raises
        ------
        OSError
            When the share does not answer.
        """
        asked = {"relative": path_text(relative), "wanted": asdict(wanted)}
        found = self._ask("look", root, self._look_within_s, **asked)["files"]
        if not found:
            return None
        path, *facts = found[0]
        return Sighting(text_path(path), *facts)

    def is_gone(self, root: Path, relative: str) -> bool:
        """Say whether a file is certainly not there; False where there is no answer."""
        asked = {"relative": path_text(relative)}
        try:
            return bool(self._ask("gone", root, self._look_within_s, **asked)["is_gone"])
        except OSError:
            return False

    def place_of(self, folder: Path) -> Place | None:
        """Return the device and inode of a folder; None: it is not there, or does not answer."""
        try:
            place = self._ask("place", folder, self._look_within_s)["place"]
        except OSError:
            return None
        return (place[0], place[1]) if place else None

    def is_bare(self, folder: Path) -> bool:
        """Say whether a folder holds nothing at all; so does one that does not answer."""
        try:
            return bool(self._ask("place", folder, self._look_within_s)["is_bare"])
        except OSError:
            return True

    def unread_in(
        self, root: Path, exclude: Sequence[str], looks_like: Sequence[str]
    ) -> dict[str, list[str]]:
        """Return files that look like images and are not read; none where there is no answer."""
        asked = {"exclude": list(exclude), "suffixes": list(looks_like)}
        try:
            found = self._ask("unread", root, self._scan_within_s, **asked)["unread"]
        except OSError:
            return {}
        return {suffix: [text_path(path)] * n for suffix, (path, n) in found.items()}

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _ask(self, kind: str, root: Path, seconds: float, **more: object) -> Message:
        question = {"kind": kind, "root": path_text(str(root)), **more}
        asked: Answered = self._child.ask(question, seconds)
        if asked.message is None:
            how = f"it does not answer within {seconds:g} s" if asked.is_late else asked.how
            raise OSError(how)
        if asked.message.get("error"):
            raise OSError(str(asked.message["error"]))
        return asked.message


class Answers:
    """What the child knows from one question to the next: the files that it found."""

    def __init__(self) -> None:
        self._found: list[list[str | int | None]] = []

    def to(self, question: Message) -> Message:
        """Answer one question; of a scan some thousand files at a time."""
        root, kind = Path(text_path(question["root"])), question["kind"]
        if kind in ("scan", "more"):
            return self._scanned(root, question)
        if kind == "look":
            wanted = FileFilter(**question["wanted"])
            seen = scanner.look(root, text_path(question["relative"]), wanted)
            return {"files": [_facts(seen)] if seen else []}
        if kind == "gone":
            return {"is_gone": scanner.is_gone(root, text_path(question["relative"]))}
        if kind == "unread":
            found = scanner.unread_in(root, question["exclude"], question["suffixes"])
            said = {suffix: (path_text(each[0]), len(each)) for suffix, each in found.items()}
            return {"unread": said}
        return {"place": scanner.place_of(root), "is_bare": scanner.is_bare(root)}

    def _scanned(self, root: Path, question: Message) -> Message:
        if question["kind"] == "scan":
            wanted = FileFilter(**question["wanted"])
            try:
                self._found = [_facts(seen) for seen in scanner.scan(root, wanted)][::-1]
            except OSError as error:
                return {"error": error.strerror or str(error)}
        return {"files": self._page()}

    def _page(self) -> list[list[str | int | None]]:
        return [self._found.pop() for _ in range(min(PAGE, len(self._found)))]


def _facts(seen: Sighting) -> list[str | int | None]:
    return [path_text(seen.path), seen.size, seen.mtime_ns, seen.ctime_ns]


def main() -> None:
    """Answer until the input ends."""
    questions, replies = begin()
    answers = Answers()
    while (question := receive(questions)) is not None:
        send(replies, answers.to(question))


if __name__ == "__main__":
    main()
