"""Look into a network share by a child process: a share that hangs does not hang the daemon."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cellwatch.compute.guarded import Answered, Guarded, begin
from cellwatch.compute.pipe import Message, receive, send
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.watching import scanner
from cellwatch.watching.scanner import Place
from cellwatch.watching.settle import Sighting

MODULE = "cellwatch.daemon.share_lister"
SCAN_WITHIN_S = 300.0  # all files of a share
LOOK_WITHIN_S = 30.0  # one file


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

    def scan(
        self, root: Path, include: Sequence[str], exclude: Sequence[str], suffixes: Sequence[str]
    ) -> Iterator[Sighting]:
        """Return every wanted file, as `scanner.scan` does.

        Raises
        ------
        OSError
            When the share cannot be listed, or does not answer.
        """
        asked = {"include": list(include), "exclude": list(exclude), "suffixes": list(suffixes)}
        found = self._ask("scan", root, self._scan_within_s, **asked)
        return (Sighting(text_path(path), *facts) for path, *facts in found["files"])

    def look(
        self,
        root: Path,
        relative: str,
        include: Sequence[str],
        exclude: Sequence[str],
        suffixes: Sequence[str],
    ) -> Sighting | None:
        """Return one wanted file as it is now, as `scanner.look` does; None also: no answer."""
        asked = {"include": list(include), "exclude": list(exclude), "suffixes": list(suffixes)}
        try:
            (found,) = self._ask(
                "look", root, self._look_within_s, relative=path_text(relative), **asked
            )["files"]
        except (OSError, ValueError):
            return None
        path, *facts = found
        return Sighting(text_path(path), *facts)

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
            return bool(self._ask("bare", folder, self._look_within_s)["is_bare"])
        except OSError:
            return True

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


def answer_to(question: Message) -> Message:
    """Answer one question."""
    root = Path(text_path(question["root"]))
    if question["kind"] == "place":
        return {"place": scanner.place_of(root)}
    if question["kind"] == "bare":
        return {"is_bare": scanner.is_bare(root)}
    how = [question["include"], question["exclude"], question["suffixes"]]
    if question["kind"] == "look":
        seen = scanner.look(root, text_path(question["relative"]), *how)
        return {"files": [_facts(seen)] if seen else []}
    try:
        return {"files": [_facts(seen) for seen in scanner.scan(root, *how)]}
    except OSError as error:
        return {"error": error.strerror or str(error)}


def _facts(seen: Sighting) -> list[str | int | None]:
    return [path_text(seen.path), seen.size, seen.mtime_ns, seen.ctime_ns]


def main() -> None:
    """Answer until the input ends."""
    questions, replies = begin()
    while (question := receive(questions)) is not None:
        send(replies, answer_to(question))


if __name__ == "__main__":
    main()
