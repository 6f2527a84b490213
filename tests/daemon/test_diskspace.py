import logging
from pathlib import Path

from cellwatch.daemon import diskspace
from cellwatch.daemon.diskspace import DiskSpace, free_bytes


def test_f61_a_disk_that_is_nearly_full_pauses_and_one_with_room_does_not(tmp_path):
    space, free = DiskSpace(), free_bytes(tmp_path)

    assert free_bytes(tmp_path / "not/yet/there") == free_bytes(tmp_path) > 0
    told = space.why_none(tmp_path, 2.0 * free, tmp_path, 0.0)
    assert "are to stay free" in told
    assert str(tmp_path) in told
    assert space.why_none(tmp_path, 1.0, tmp_path, 1.0) == told  # it is not asked each time
    assert space.why_none(tmp_path, 1.0, tmp_path, 11.0) == ""
    assert space.room_text.endswith(f" GB free for masks in {tmp_path}")


def test_f95_the_disk_of_the_microscope_is_warned_of_once_an_hour(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(diskspace, "free_bytes", lambda folder: 3_000_000)
    space = DiskSpace()
    with caplog.at_level(logging.WARNING):
        for second in range(0, 7300, 20):
            space.warn([Path("/scope")], 500e6, float(second))

    assert len(caplog.records) == 3
    assert "the microscope writes to (/scope) has 3 MB left" in caplog.text
