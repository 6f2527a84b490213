"""The wording of all messages stands in one place, where a change of it is seen."""

from tests.messages import SNAPSHOT, messages


def test_what_people_are_told_is_what_the_snapshot_says():
    told = "the wording has changed; if it is meant: python -m tests.messages"
    assert messages() == SNAPSHOT.read_text(encoding="utf-8"), told
