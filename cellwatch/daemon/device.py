"""Choose the compute device, and make the process fit for large short-lived arrays."""

import ctypes
from typing import Literal

import torch

from cellwatch.errors import DeviceError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
LARGEST = 2**31 - 1
TOP_PAD = 256 << 20  # bytes by which the heap grows at a time


def choose_device(name: str) -> torch.device:
    """Return the device of a name: `auto`, `cpu` or `cuda`.

    Raises
    ------
    DeviceError
        When CUDA is asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device: cuda, but torch finds no CUDA device; look at nvidia-smi, or say device: cpu"
        )
    return torch.device(name)


def precision_on(
    device: torch.device, wanted: Literal["auto", "float32", "bfloat16"]
) -> Literal["float32", "bfloat16"]:
    """Return in which precision a network trains; `auto`: bfloat16 on CUDA, else float32.

    A processor with AVX512-BF16 or AMX trains twice as fast in bfloat16, others much slower: there
    a person chooses.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if device.type == "cuda" else "float32"


def keep_freed_memory() -> bool:
    """Tell glibc to keep the memory that arrays free, instead of giving it back at once.

    Each layer of the network frees tens of megabytes and asks for them again; with the default
    every such array is mapped and cleared anew, which made a training step a third longer. The
    price is a process that stays as large as it once was.

    Returns
    -------
    bool
        False where the C library has no such switch.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    settings = (
        (M_MMAP_THRESHOLD, LARGEST),
        (M_MMAP_MAX, 0),
        (M_TRIM_THRESHOLD, LARGEST),
        (M_TOP_PAD, TOP_PAD),
    )
    results = [libc.mallopt(option, value) for option, value in settings]
    return all(results)


def optimised(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a network to a device in the memory layout that inference is fastest in."""
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
