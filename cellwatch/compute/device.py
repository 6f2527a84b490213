"""Choose the compute device, and make the process fit for large short-lived arrays."""

import ctypes
import errno
import gc
from pathlib import Path
from typing import Literal

import torch

from cellwatch.errors import DeviceError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
LARGEST = 2**31 - 1
TOP_PAD = 256 << 20  # bytes by which the heap grows at a time
REUSED = 32 << 20  # bytes; smaller arrays come from the heap, larger ones are mapped and given back
KEPT = 512 << 20  # bytes of free heap that are not given back at once

# How torch's allocator for the CPU, and CPython's threads, say that memory ran out.
NO_MEMORY = ("can't allocate memory", "not enough memory", "can't start new thread")


def choose_device(name: str) -> torch.device:
    """Return the device of a name: `auto`, `cpu`, `cuda` or, of several, `cuda:1`.

    Raises
    ------
    DeviceError
        When CUDA is asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device: {name}, but torch finds no CUDA device; look at nvidia-smi, or say device: "
            "cpu"
        )
    if int(name.partition(":")[2] or 0) >= (n := torch.cuda.device_count()):
        raise DeviceError(f"device: {name}, but there are {n} CUDA devices, counted from 0")
    return torch.device(name)


def n_devices(device: torch.device) -> int:
    """Return how many devices of a kind there are; processors count as one."""
    return torch.cuda.device_count() if device.type == "cuda" else 1


def precision_on(
    device: torch.device, wanted: Literal["auto", "float32", "bfloat16"]
) -> Literal["float32", "bfloat16"]:
    """Return in which precision a network computes on a device.

    `auto` is bfloat16 where the device computes faster in it: on CUDA of compute capability 8.0 or
    more, and on processors with AVX512-BF16 or AMX; else float32. On 39 test images both had the
    same average precision to 0.002.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        is_fast = torch.cuda.get_device_capability(device)[0] >= 8
    else:
        is_fast = bool(_HALF_ON_CPU & _cpu_flags())
    return "bfloat16" if is_fast else "float32"


_HALF_ON_CPU = {"avx512_bf16", "amx_bf16"}


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    line = next((each for each in text.splitlines() if each.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def keep_freed_memory() -> bool:
    """Tell glibc to keep all memory that arrays free; for training, whose arrays keep their shapes.

    Each layer of the network frees tens of megabytes and asks for them again; with the default
    every such array is mapped and cleared again, which made a training step a third longer. The
    process stays as large as it once was. Where shapes change from image to image it would grow
    without end: there `reuse_small_memory` is right.

    Returns
    -------
    bool
        False where the C library has no such switch.
    """
    return _mallopt(
        (M_MMAP_THRESHOLD, LARGEST),
        (M_MMAP_MAX, 0),
        (M_TRIM_THRESHOLD, LARGEST),
        (M_TOP_PAD, TOP_PAD),
    )


def reuse_small_memory() -> bool:
    """Tell glibc to reuse what arrays below 32 MiB free, and to give larger ones back at once.

    The maps of the network are that small, since a CPU gets few pixels at once: they are reused,
    as fast as if all memory was kept. Whole images may be larger, and each has another size: kept,
    they would leave gaps that nothing fits into, and the process would grow with every image.

    Returns
    -------
    bool
        False where the C library has no such switch.
    """
    return _mallopt((M_MMAP_THRESHOLD, REUSED), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, REUSED))


def trim_memory() -> None:
    """Return the pages of the heap that hold nothing to the system."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def give_memory_back() -> None:
    """Return all freed memory to the system; for a process that pauses."""
    gc.collect()
    trim_memory()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that no memory, or no thread, was to be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = str(error)  # torch and CPython have no class of their own for these
    return isinstance(error, RuntimeError) and any(words in told for words in NO_MEMORY)


def _mallopt(*settings: tuple[int, int]) -> bool:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    results = [libc.mallopt(option, value) for option, value in settings]
    return all(results)


def optimised(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a network to a device in the memory layout that inference is fastest in."""
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
