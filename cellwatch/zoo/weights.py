"""Networks in files: safetensors that cellwatch writes, checkpoints that Cellpose wrote.

Every key is accounted for: a missing, an extra or a misshapen one is an error that names it.
"""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cellwatch.core.network import CPNet, NetworkConfig
from cellwatch.errors import WeightsError
from cellwatch.files.atomic import writing
from cellwatch.files.digests import file_sha256

_UNSAFE = re.compile(r"GLOBAL (\w[\w.]*)")  # how torch names what it refuses to call
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
PARALLEL = "module."
OMNIPOSE_MAPS = (2, 4)  # of which the network gives: flows, distance, and a border at times
NAMED_AT_MOST = 5  # keys in an error message


def load_network(path: Path) -> CPNet:
    """Read a network that `save_network` wrote, in evaluation mode, in float32.

    Raises
    ------
    WeightsError
        When the file is not a safetensors file, or is not this network key for key.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    return network_from(tensors, str(path))


def load_checkpoint(path: Path, default_diameter: float | None = None) -> CPNet:
    """Read a checkpoint of Cellpose 1 to 3: the network of `read_checkpoint`."""
    return read_checkpoint(path, default_diameter)[0]


def read_checkpoint(path: Path, default_diameter: float | None = None) -> tuple[CPNet, str]:
    """Read a checkpoint of Cellpose 1 to 3, executing nothing that it contains.

    Parameters
    ----------
    path : Path
    default_diameter : float or None, px
        For the files of Cellpose 1, which say neither `diam_mean` nor `diam_labels`; None: such a
        file is refused.

    Returns
    -------
    network : CPNet
    note : str
        What had to be taken off around its state dict; "": nothing.

    Raises
    ------
    WeightsError
        When the file is no such checkpoint.
    """
    try:
        with warnings.catch_warnings():
            # A pickle that torch finds strange is refused below, or is a state dict after all.
            warnings.simplefilter("ignore", UserWarning)
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        if "memory" in str(error) and isinstance(error, RuntimeError):
            raise WeightsError(f"{path} needs more memory to read than there is") from error
        calls = _UNSAFE.search(str(error))
        reason = (
            f"it would call {calls[1]}; nothing of it was executed"
            if calls
            else f"its {path.stat().st_size:,} bytes are damaged, or something else; fetch it again"
        )
        raise WeightsError(f"{path} cannot be read as a Cellpose checkpoint: {reason}") from error
    tensors, note = _unwrapped(tensors)
    if not _is_state_dict(tensors):
        raise WeightsError(f"{path} holds no state dict of tensors")
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise WeightsError(f"{path}: {key} is not a plain tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {key} claims to be larger than the file that it is in")
    if "W2" in tensors:
        raise WeightsError(f"{path} is a Cellpose 4 (SAM) checkpoint; cellwatch runs Cellpose 1–3")
    last = tensors.get("output.2.weight")
    if last is not None and last.dim() == 4 and last.shape[0] in OMNIPOSE_MAPS:
        raise WeightsError(
            f"{path} gives {last.shape[0]} maps where Cellpose gives 3: it looks like a network of "
            "Omnipose, whose masks are made in another way; cellwatch runs Cellpose 1–3"
        )
    return network_from(_with_diameters_said(tensors, default_diameter), str(path)), note


def _unwrapped(held: Any) -> tuple[Any, str]:  # Any: what a checkpoint holds
    # Other programs put more around a state dict; what was taken off is said.
    notes = []
    if isinstance(held, Mapping) and not _is_state_dict(held):
        inner = next((key for key in WRAPPERS if _is_state_dict(held.get(key))), None)
        if inner is not None:
            held = held[inner]
            notes.append(f"its state dict was under '{inner}'")
    if _is_state_dict(held) and all(key.startswith(PARALLEL) for key in held):
        held = {key.removeprefix(PARALLEL): value for key, value in held.items()}
        notes.append(f"its names began with '{PARALLEL}' (torch.nn.DataParallel)")
    return held, "; ".join(notes)


def _is_state_dict(held: object) -> bool:
    if not isinstance(held, Mapping) or not held:
        return False
    return all(isinstance(k, str) and torch.is_tensor(t) for k, t in held.items())


def network_from(tensors: Mapping[str, Tensor], source: str) -> CPNet:
    """Build the network that a state dict describes, in evaluation mode.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        The state dict, in any floating precision.
    source : str
        How errors call it.

    Raises
    ------
    WeightsError
        When keys are missing, extra or of another shape; all of them are named.
    """
    network = CPNet(_config_of(tensors, source))
    expected = network.state_dict()
    problems = [f"missing {key}" for key in expected if key not in tensors]
    problems += [f"unknown {key}" for key in tensors if key not in expected]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - NAMED_AT_MOST} more" * (len(problems) > NAMED_AT_MOST)
        raise WeightsError(f"{source}: {'; '.join(problems[:NAMED_AT_MOST])}{more}")
    bad = [key for key, value in tensors.items() if not bool(torch.isfinite(value.float()).all())]
    if bad:
        raise WeightsError(f"{source}: {bad[0]} holds values that are not numbers")
    network.load_state_dict({k: v.to(expected[k].dtype) for k, v in tensors.items()})
    return network.eval()


def save_network(network: CPNet, path: Path, *, is_half: bool) -> str:
    """Write a network and return the file's sha256.

    Parameters
    ----------
    network : CPNet
    path : Path
        Must not exist: weights never change after they are written.
    is_half : bool
        Whether convolution and linear weights are stored in float16; one-dimensional tensors,
        running statistics and diameters stay in float32.
    """
    if path.exists():
        raise WeightsError(f"{path} exists; weights are never overwritten")
    tensors = {
        name: _stored(value, is_half=is_half) for name, value in network.state_dict().items()
    }
    with writing(path) as aside:
        # One entry of metadata: with more their order, and so the hash, would be chance.
        save_file(tensors, aside, {"format": "pt"})
        aside.chmod(0o644)  # safetensors makes files that only their owner can read
    return file_sha256(path)


def save_checkpoint(network: CPNet, path: Path) -> None:
    """Write a checkpoint that Cellpose 3.1.1.3 loads."""
    torch.save(
        {k: v.float() if v.is_floating_point() else v for k, v in network.state_dict().items()},
        path,
    )


def with_diameters(network: CPNet, *, diam_labels: float) -> CPNet:
    """Return the network with another mean training diameter, weights shared."""
    config = replace(network.config, diam_labels=diam_labels)
    changed = CPNet(config)
    tensors = network.state_dict()
    tensors["diam_labels"] = torch.tensor([diam_labels])
    changed.load_state_dict(tensors)
    return changed.train(network.training)


def _with_diameters_said(
    tensors: Mapping[str, Tensor], default: float | None
) -> Mapping[str, Tensor]:
    if default is None:
        return tensors
    said = {key: torch.tensor([default]) for key in ("diam_mean", "diam_labels")}
    return {**said, **tensors}


def _stored(value: Tensor, *, is_half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if is_half and value.dim() > 1 else value


def _config_of(tensors: Mapping[str, Tensor], source: str) -> NetworkConfig:
    # Widths are read off the encoder, so that small networks of tests are networks like any other.
    widths: list[int] = []
    while (key := f"downsample.down.res_down_{len(widths)}.conv.conv_0.2.weight") in tensors:
        if tensors[key].dim() != 4:
            shape = tuple(tensors[key].shape)
            raise WeightsError(f"{source}: {key} has shape {shape}, not that of a convolution")
        widths.append(int(tensors[key].shape[0]))
    first = tensors.get("downsample.down.res_down_0.conv.conv_0.2.weight")
    lacking = [key for key in ("diam_mean", "diam_labels") if key not in tensors]
    if first is None:
        raise WeightsError(f"{source}: missing downsample.down.res_down_0.conv.conv_0.2.weight")
    if lacking:
        raise WeightsError(
            f"{source}: missing {', '.join(lacking)}; a file of Cellpose 1 does not say them: "
            "cellwatch models add FILE --diam-mean 30 (nuclei: 17)"
        )
    return NetworkConfig(
        channels=int(first.shape[1]),
        widths=tuple(widths),
        diam_mean=_diameter(tensors, "diam_mean", source),
        diam_labels=_diameter(tensors, "diam_labels", source),
    )


def _diameter(tensors: Mapping[str, Tensor], key: str, source: str) -> float:
    values = tensors[key].flatten().tolist()
    if len(values) != 1 or not 0 < values[0] < math.inf:
        raise WeightsError(f"{source}: {key} is {values[:3]}, no diameter in px")
    return float(values[0])
