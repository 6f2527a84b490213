"""The facts of images: what a file says of itself, and which of its channels are meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """Which channels of a file the network is fed.

    Attributes
    ----------
    cell : str or int or None
        Name (case does not matter, globs allowed) or index from 0 of the channel that holds the
        ROIs; None: the only channel, or the grey mean of RGB.
    nucleus : str or int or None
        The second channel; None: none.
    """

    cell: str | int | None = None
    nucleus: str | int | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a file says of itself, known without reading pixels.

    Attributes
    ----------
    path : str
    format : str
        `ome-tiff`, `imagej`, `tiff` or `png`.
    axes : str
        Letters of `shape`, from P (position), T, Z, C, Y, X and S (RGB samples).
    shape : tuple of int
    dtype : str
    pixel_size_um : float or None
        None: the file does not say.
    channels : tuple of str
        Names, or "" where a channel has none.
    whole : bool
        Whether the file is structurally complete.
    reason : str
        Why it is not whole, or cannot be used.
    notes : tuple of str
        What a person should know of how it is read: a guess, a detail that is missing.
    lacks : str
        Path of a file that holds its metadata and is not there; "": none is missing.
    well : str
        Of a plate, where only a pattern of file names tells it; "": not known.
    field : int or None
    """

    path: str
    format: str = ""
    axes: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    pixel_size_um: float | None = None
    channels: tuple[str, ...] = ()
    whole: bool = True
    reason: str = ""
    notes: tuple[str, ...] = ()
    lacks: str = ""
    well: str = ""
    field: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ImageInfo":  # Any: JSON
        """Read what `asdict` and JSON made of it."""
        lists = {key: tuple(data[key]) for key in ("shape", "channels", "notes")}
        return cls(**{**data, **lists})
