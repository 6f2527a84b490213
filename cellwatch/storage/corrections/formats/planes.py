"""ROIs that say which plane they are of: those of other planes are left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from cellwatch.errors import RejectedCorrection

Shape = TypeVar("Shape")
Position = tuple[int, int]  # t and z, from 0


@dataclass(frozen=True, slots=True)
class PlaneWanted:
    """The plane that a correction is of, and how many planes its image has.

    Attributes
    ----------
    t, z : int
        From 0.
    n_t, n_z : int
    """

    t: int
    z: int
    n_t: int
    n_z: int


def of_plane(
    shapes: Sequence[tuple[Position | None, Shape]], plane: PlaneWanted | None
) -> tuple[list[Shape], list[str]]:
    """Return the ROIs of one plane, and what was left out.

    An ROI without a position belongs to any plane. Where all say the first plane, or the image has
    a single one, they were drawn on a file that was the plane itself: their positions say nothing.

    Parameters
    ----------
    shapes : sequence of (Position or None, Shape)
    plane : PlaneWanted or None
        None: not known; all are taken.

    Raises
    ------
    RejectedCorrection
        When all of them are of other planes.
    """
    every = [shape for _, shape in shapes]
    said = {position for position, _ in shapes if position is not None}
    if plane is None or plane.n_t * plane.n_z == 1 or said <= {(0, 0)}:
        return every, []
    wanted = (plane.t, plane.z)
    kept = [shape for position, shape in shapes if position in (None, wanted)]
    if len(said) == 1 and not kept:
        t, z = next(iter(said))
        raise RejectedCorrection(
            f"its ROIs are of t {t}, z {z}, and its name says t {plane.t}, z {plane.z}",
            f"name it after their plane: NAME__t{t:03d}_z{z:02d}",
        )
    if every and not kept:
        planes = ", ".join(f"t {t}, z {z}" for t, z in sorted(said)[:5])
        raise RejectedCorrection(
            f"none of its ROIs is of t {plane.t}, z {plane.z}, as its name says: they are of "
            f"{planes}{' and others' if len(said) > 5 else ''}",
            "give a file to each plane, named NAME__tTTT_zZZ",
        )
    n_others = len(every) - len(kept)
    notes = [f"{n_others} ROIs of other planes were left out"] if n_others else []
    return kept, notes
