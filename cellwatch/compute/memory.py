"""How much memory a job needs and the machine has: asked before pixels are decoded."""

import math
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cellwatch.core.parameters import SegmentationParams
from cellwatch.errors import TooLittleMemory
from cellwatch.records import ImageInfo

# Bytes for each pixel of a plane while it is segmented: the plane and what is made of it in
# float32, flows, labels, and the end points of its foreground. Measured, with nuclei at the
# network's own diameter: 95 on 4,096 px squared, 125 on 2,048, some of it the network's own maps.
BYTES_A_PIXEL = 100
BYTES_ENLARGED = 60  # for each further pixel of a plane that is enlarged for the network
USUAL_MEAN = 30.0  # px; to which most networks bring their ROIs
SHARE = 0.8  # of what is free: the microscope's own software needs some
ALWAYS = 1 << 30  # bytes that any machine is taken to have
# Bytes up to which an acquisition of several planes is read as a whole; a larger one is read plane
# by plane, and its labels lie in a file.
PIXELS_IN_MEMORY = 256 << 20
LABELS_IN_MEMORY = 512 << 20
# Bytes that decoding may take on top of what a file declares: for itself, and for the threads that
# write the last image meanwhile, which reserve more than they use.
HEADROOM = 4 << 30


def free_memory() -> int:
    """Return the bytes that this process can still take, of the machine or of its control group."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:") * 1024
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        # Pages of files that were read are listed as used, and are released when they are needed.
        used -= _cgroup_stat("inactive_file") + _cgroup_stat("active_file")
        available = min(available, max(0, limit - used))
    return available


def all_memory() -> int:
    """Return the bytes of the machine, or of the control group of this process."""
    total = _field(Path("/proc/meminfo"), "MemTotal:") * 1024
    limit = _cgroup("memory.max")
    return total if limit is None else min(total, limit)


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    return _field(Path("/proc/self/status"), "VmRSS:") * 1024


def needed(
    info: ImageInfo, targets: Sequence[SegmentationParams] = (), *, has_store: bool = True
) -> int:
    """Return about how many bytes it takes to segment an image.

    Parameters
    ----------
    info : ImageInfo
    targets : sequence of SegmentationParams
        How each target is segmented: small cells are enlarged, and so is the plane they lie in.
    has_store : bool
        Whether the image is written into a mask store: that takes a part of it once more.
    """
    pixels = int(np.prod(info.shape, dtype=object))
    plane = int(np.prod([n for a, n in zip(info.axes, info.shape, strict=True) if a in "YX"]))
    n_planes = max(1, pixels // max(1, plane))
    decoded = pixels * np.dtype(info.dtype).itemsize
    if is_read_by_planes(info):
        decoded //= n_planes
    labels = min(n_planes * plane * 4, LABELS_IN_MEMORY) * max(1, len(targets))
    enlarged = max((_zoom(params, info.pixel_size_um) ** 2 for params in targets), default=0.0)
    at_work = plane * (BYTES_A_PIXEL + max(0.0, enlarged - 1) * BYTES_ENLARGED)
    if any(params.normalisation.over == "acquisition" for params in targets):
        at_work += 2 * n_planes * plane * 4  # all planes in float32, and stacked
    return int(decoded * (2 if has_store else 1) + labels + at_work)


def is_read_by_planes(info: ImageInfo) -> bool:
    """Say whether an acquisition is too large to have all of its planes in memory."""
    sides = [n for axis, n in zip(info.axes, info.shape, strict=True) if axis not in "YXCS"]
    decoded = int(np.prod(info.shape, dtype=object)) * np.dtype(info.dtype).itemsize
    return math.prod(sides) > 1 and decoded > PIXELS_IN_MEMORY


def _zoom(params: SegmentationParams, pixel_size_um: float | None) -> float:
    # By which a plane is enlarged, as far as the configuration tells.
    is_known = params.diameter.unit == "px" or pixel_size_um
    diameter = params.diameter.in_px(pixel_size_um) if is_known else None
    return USUAL_MEAN / diameter if diameter else 1.0


def require_memory(info: ImageInfo, targets: Sequence[SegmentationParams] = ()) -> None:
    """Refuse an image that would take more memory than there is.

    Raises
    ------
    TooLittleMemory
        With what it needs and what there is; `is_hopeless` when the whole machine is too small.
    """
    wanted = needed(info, targets)
    if wanted <= ALWAYS:
        return
    most, free = int(all_memory() * SHARE), int(free_memory() * SHARE)
    if wanted > most:
        raise TooLittleMemory(
            f"to segment it takes about {_gib(wanted)}, and this machine has {_gib(most)} for it "
            f"(shape {info.shape}, {info.dtype}); crop it or save fewer planes in a file",
            is_hopeless=True,
        )
    if wanted > free:
        raise TooLittleMemory(
            f"to segment it takes about {_gib(wanted)}, and {_gib(free)} are free now; it is tried "
            "again when other programs have ended",
            is_hopeless=False,
        )


@contextmanager
def decoding_within(info: ImageInfo) -> Iterator[None]:
    """Let the block take the memory that a file declares, and some; more is a MemoryError."""
    decoded = int(np.prod(info.shape, dtype=object)) * np.dtype(info.dtype).itemsize
    mapped = _field(Path("/proc/self/status"), "VmSize:") * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + 4 * decoded + HEADROOM
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 1 << 40 if name.startswith("Mem") else 0


def _cgroup(name: str) -> int | None:
    # Version 2, of the group that systemd made for the unit; None: there is no limit.
    try:
        return int(_group().joinpath(name).read_text(encoding="ascii").strip())
    except (OSError, ValueError, IndexError):
        return None


def _cgroup_stat(name: str) -> int:
    try:
        return _field(_group() / "memory.stat", f"{name} ")
    except (OSError, IndexError):
        return 0


def _group() -> Path:
    line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    return Path("/sys/fs/cgroup", line.rpartition(":")[2].lstrip("/"))


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
