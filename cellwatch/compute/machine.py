"""Examine a machine: device, memory, kernels, and the libraries that read instruments' files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import torch

from cellwatch import __version__
from cellwatch.compute.device import choose_device, n_devices, precision_on
from cellwatch.compute.memory import all_memory, free_memory
from cellwatch.errors import DeviceError
from cellwatch.images.suffixes import WITH_LIBRARY

NVIDIA = Path("/proc/driver/nvidia/version")  # there when its driver is loaded
LEAST_MEMORY = 4 << 30  # bytes; a plane of 4,096 px squared takes 1.6 GiB while it is segmented


class Verdict(StrEnum):
    """What is to be done about a finding: nothing, perhaps something, something."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing.

    Attributes
    ----------
    subject : str
    verdict : Verdict
    text : str
        What is so.
    remedy : str
        What to do about it; "": nothing.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


def examine_machine(
    devices: Sequence[str] = ("auto",), precision: str = "auto", state: Path | None = None
) -> Iterator[Finding]:
    """Look at the machine.

    Parameters
    ----------
    devices : sequence of str
        As the configuration names them.
    precision : str
        The same: `auto`, `float32` or `bfloat16`.
    state : Path or None
        Where compiled kernels may be kept; None: in the user's home.
    """
    yield Finding("version", Verdict.OK, f"cellwatch {__version__}, torch {torch.__version__}")
    for name in devices:
        yield _device(name, precision)
    yield _memory()
    yield _kernels(state)
    yield from _readers()


def _device(name: str, precision: str) -> Finding:
    try:
        device = choose_device(name)
    except DeviceError as error:
        return Finding("device", Verdict.PROBLEM, str(error), _why_no_cuda())
    used = precision_on(device, precision)  # type: ignore[arg-type]  # the configuration checked it
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        told = f"{n_devices(device)} CUDA device(s), {facts.name}"
        return Finding(
            "device", Verdict.OK, f"{told}, {facts.total_memory / 2**30:.0f} GiB, {used}"
        )
    told = f"{len(os.sched_getaffinity(0))} processor cores, {used}"
    if name == "auto" and NVIDIA.exists():
        told = f"there is an NVIDIA driver, and torch finds no CUDA device: {told}"
        return Finding("device", Verdict.NOTE, told, _why_no_cuda())
    if used == "float32" and precision == "auto":
        told += " (they have no fast bfloat16)"
    return Finding("device", Verdict.OK, told)


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch was built for processors alone: pip install torch, of a build for CUDA"
    return f"torch is built for CUDA {torch.version.cuda}: see whether nvidia-smi names a driver"


def _memory() -> Finding:
    free, total = free_memory(), all_memory()
    told = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
    if total < LEAST_MEMORY:
        remedy = "images of more than about 2,048 px squared will be refused for lack of memory"
        return Finding("memory", Verdict.NOTE, told, remedy)
    return Finding("memory", Verdict.OK, told)


def _kernels(state: Path | None) -> Finding:
    named = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parents[1]
    places = [Path(named)] if named else [beside, *([state] if state else [Path.home()])]
    kept = next((place for place in places if os.access(place, os.W_OK)), None)
    if kept is None:
        told = "compiled kernels can be kept nowhere: each start compiles them for about a minute"
        return Finding("kernels", Verdict.NOTE, told, "set NUMBA_CACHE_DIR to a folder")
    return Finding("kernels", Verdict.OK, f"compiled once, kept below {kept}")


def _readers() -> Iterator[Finding]:
    there = [s for s, (module, _) in WITH_LIBRARY.items() if find_spec(module)]
    lacking = {s: extra for s, (_, extra) in WITH_LIBRARY.items() if s not in there}
    told = f"TIFF, PNG, JPEG, OME-Zarr, plates, {' '.join(there)}".rstrip(", ")
    yield Finding("formats", Verdict.OK, f"read: {told}")
    if lacking:
        extras = ",".join(dict.fromkeys(lacking.values()))
        remedy = f"if they will come: pip install 'cellwatch[{extras}]'"
        yield Finding("formats", Verdict.OK, f"not read: {' '.join(lacking)}", remedy)
