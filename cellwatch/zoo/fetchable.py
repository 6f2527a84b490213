"""Which models Cellpose publishes, and the files they are made of; nothing here fetches any."""

from dataclasses import dataclass

from cellwatch.errors import UnknownModel

STYLE_CHOICE = "style_choice"


@dataclass(frozen=True, slots=True)
class Published:
    """The files of one published model.

    Attributes
    ----------
    weights : str
    size : str
        "": it has no size model.
    diam_mean : float, px
        For files of Cellpose 1, which do not say.
    has_nucleus : bool
        Whether it was trained with a nucleus channel beside the cells.
    """

    weights: str
    size: str = ""
    diam_mean: float = 30.0
    has_nucleus: bool = True


_TWO_CHANNELS: tuple[str, ...] = (
    "tissuenet",
    "general",
    "CP",
    "CPx",
    "TN1",
    "TN2",
    "TN3",
    "tissuenet_cp3",
)
_ONE_CHANNEL: tuple[str, ...] = (
    "livecell",
    "LC1",
    "LC2",
    "LC3",
    "LC4",
    "livecell_cp3",
    "yeast_PhC_cp3",
)
_ONE_CHANNEL += ("yeast_BF_cp3", "bact_phase_cp3", "bact_fluor_cp3", "deepbacs_cp3")
_ONE_CHANNEL += ("neurips_grayscale_cyto2",)
PUBLISHED: dict[str, Published] = {
    "cyto": Published("cytotorch_0", "size_cytotorch_0.npy"),
    "cyto2": Published("cyto2torch_0", "size_cyto2torch_0.npy"),
    "cyto3": Published("cyto3", "size_cyto3.npy"),
    "nuclei": Published("nucleitorch_0", "size_nucleitorch_0.npy", 17.0, has_nucleus=False),
    **{name: Published(name) for name in (*_TWO_CHANNELS, "neurips_cellpose_default")},
    **{name: Published(name, has_nucleus=False) for name in _ONE_CHANNEL},
}


def published(name: str) -> Published:
    """Return the files of a published model.

    Raises
    ------
    UnknownModel
        When there is none of that name.
    """
    if name not in PUBLISHED:
        known = ", ".join([*PUBLISHED, STYLE_CHOICE])
        raise UnknownModel(f"'{name}' is not in the published zoo; there are {known}")
    return PUBLISHED[name]
