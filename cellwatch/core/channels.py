"""Choose which channels of an image the network is fed, by name or by index."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.core.arrays import Float32
from cellwatch.errors import ChannelError

GREY = -1  # index of the mean of R, G and B


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel that was chosen.

    Attributes
    ----------
    index : int
        From 0; `GREY` for the mean of red, green and blue.
    name : str
        As the file has it; "" where it has none.
    """

    index: int
    name: str


def choose_channels(
    cell: str | int | None, nucleus: str | int | None, names: Sequence[str], *, is_rgb: bool
) -> tuple[Channel, ...]:
    """Find the channels that a person asked for.

    Parameters
    ----------
    cell : str or int or None
        Name, glob (case does not matter) or index from 0; None: the only channel, the grey mean of
        RGB, or the first of two.
    nucleus : str or int or None
        The second channel; None: none (but the second of two when `cell` is None as well).
    names : sequence of str
        One per channel of the file, "" where a channel has no name.
    is_rgb : bool
        Whether the channels are the samples of a colour picture.

    Returns
    -------
    tuple of Channel, one or two of them.

    Raises
    ------
    ChannelError
        When a name fits no channel or several, an index is beyond the last, or no choice was made
        among more than two channels.

    Examples
    --------
    >>> choose_channels("phase*", None, ["Phase contrast", "DAPI"], is_rgb=False)
    (Channel(index=0, name='Phase contrast'),)
    """
    if is_rgb:
        names = ["red", "green", "blue", "alpha"][: len(names)]
    if cell is None and nucleus is not None:
        raise ChannelError(f"nucleus is '{nucleus}' but no cell channel is named; name both")
    if cell is None:
        return _without_choice(names, is_rgb=is_rgb)
    chosen = [_find(cell, names)]
    if nucleus is not None:
        chosen.append(_find(nucleus, names))
    return tuple(chosen)


def take_channels(
    channels: NDArray[Any],  # Any: real numbers of any type
    chosen: Sequence[Channel],
) -> Float32:
    """Return the chosen channels of a (C, Y, X) array, any real dtype; grey is the mean of 3."""
    planes = [
        channels[:3].mean(axis=0, dtype=np.float32)
        if channel.index == GREY
        else channels[channel.index].astype(np.float32)
        for channel in chosen
    ]
    return np.stack(planes)


def _without_choice(names: Sequence[str], *, is_rgb: bool) -> tuple[Channel, ...]:
    if is_rgb:
        return (Channel(GREY, "grey"),)
    if len(names) > 2:
        raise ChannelError(
            f"the file has {len(names)} channels ({_listed(names)}) and none was chosen; "
            "say which with channels: {cell: NAME, nucleus: NAME} or --channels CELL,NUCLEUS"
        )
    return tuple(Channel(index, name) for index, name in enumerate(names))


def _find(wanted: str | int, names: Sequence[str]) -> Channel:
    if isinstance(wanted, str) and wanted.isdecimal() and wanted not in names:
        wanted = int(wanted)
    if isinstance(wanted, int):
        if not 0 <= wanted < len(names):
            raise ChannelError(
                f"there is no channel {wanted}; the file has {len(names)}, counted from 0: "
                f"{_listed(names)}"
            )
        return Channel(wanted, names[wanted])
    pattern = wanted.casefold()
    hits = [i for i, name in enumerate(names) if fnmatchcase(name.casefold(), pattern)]
    if len(hits) != 1:
        found = "no channel" if not hits else f"{len(hits)} channels"
        raise ChannelError(f"'{wanted}' names {found}; the file has {_listed(names)}")
    return Channel(hits[0], names[hits[0]])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{i}: {name or 'without a name'}" for i, name in enumerate(names))
