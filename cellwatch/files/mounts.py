"""On what kind of file system a path lies, as the kernel tells it."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# Between machines: no events of the kernel, times of another clock, locks that may not hold.
NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|afs|ceph|lustre|gpfs|beegfs|fuse\.(sshfs|s3fs|rclone|glusterfs))$"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the file system that holds a path, as `ext4` or `nfs4`; "": not known.

    Parameters
    ----------
    path : Path
        It need not be there yet: then its nearest parent's is returned.
    mounts : Path
        A table of mounts in the format of proc(5), mountinfo.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        real = path.resolve()
    except (OSError, RuntimeError):
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = Path(_OCTAL.sub(lambda m: chr(int(m[1], 8)), fields[4]))
        depth = len(point.parts)
        if depth >= best and (real == point or point in real.parents):  # a later one lies on top
            best, kind = depth, after.split()[0]
    return kind


def is_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Say whether a path lies on a file system that other machines write to."""
    return NETWORK.match(file_system_of(path, mounts)) is not None
