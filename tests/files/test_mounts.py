from pathlib import Path

import pytest

from cellwatch.files.mounts import file_system_of, is_network

TABLE = """
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:44 / /mnt rw - tmpfs tmpfs rw
31 30 0:45 / /mnt/scope\\040one rw,relatime shared:8 - nfs4 server:/scope rw,vers=4.2
32 22 0:46 / /srv/share rw - cifs //pc/images rw
33 22 0:47 / /media/remote rw - fuse.sshfs anna@pc:/data rw
34 32 8:1 / /srv/share/local rw - xfs /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_shared"),
    [
        ("/data", "ext4", False),
        ("/mnt/other", "tmpfs", False),
        ("/mnt/scope one/day1/not yet there", "nfs4", True),
        ("/srv/share", "cifs", True),
        ("/srv/share/local/x", "xfs", False),
        ("/srv/shared", "ext4", False),
        ("/media/remote/a", "fuse.sshfs", True),
    ],
)
def test_f22_f66_the_file_system_of_a_path_is_that_of_the_deepest_mount(
    tmp_path, path, kind, is_shared
):
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)

    assert file_system_of(Path(path), table) == kind
    assert is_network(Path(path), table) is is_shared


def test_where_the_kernel_tells_nothing_no_path_is_on_a_network(tmp_path):
    assert file_system_of(tmp_path, tmp_path / "absent") == ""
    assert not is_network(tmp_path, tmp_path / "absent")
    assert file_system_of(tmp_path) != ""
