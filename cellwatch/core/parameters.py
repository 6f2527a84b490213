"""What a person may choose about a segmentation, with the defaults; light to import."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cellwatch.errors import CalibrationError, ParameterError

ALGORITHM_VERSION = "4"  # raised when the same parameters and weights would give other labels

SMALLEST_PIXEL_UM = 1e-4  # a tenth of a nanometre: below it a calibration is nonsense
LARGEST_PIXEL_UM = 1e3  # a millimetre

MICROMETRES = ("um", "µm", "μm")
SQUARE_MICROMETRES = ("um2", "um²", "µm2", "µm²", "μm2", "μm²")
DIAMETERS = "auto, model, 30 px or 18 um"

_LENGTH = re.compile(r"([0-9]*\.?[0-9]+)\s*(\D?\D?[2²]?)$")


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Say which intensities become 0 and 1.

    Attributes
    ----------
    over : "image" or "acquisition"
        Whether percentiles are taken over each plane or over all planes of the acquisition.
    low, high : float, percent
    """

    over: Literal["image", "acquisition"] = "image"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        """Refuse percentiles that are not in order, and what is neither."""
        if self.over not in ("image", "acquisition"):
            raise ParameterError(f"normalise: '{self.over}' is neither image nor acquisition")
        if not 0 <= self.low < self.high <= 100:
            raise ParameterError(
                f"normalise: {self.low:g} and {self.high:g} are not percentiles "
                "with 0 ≤ low < high ≤ 100"
            )


@dataclass(frozen=True, slots=True)
class Diameter:
    """Say how large the ROIs are.

    Attributes
    ----------
    rule : "auto", "model" or "fixed"
        `model` takes the mean diameter of the model's training images; `auto` segments with that
        first and then with the median diameter it found; `fixed` takes `value`.
    value : float
        In `unit`; 0 unless fixed.
    unit : "px" or "um"
    """

    rule: Literal["auto", "model", "fixed"] = "auto"
    value: float = 0.0
    unit: Literal["px", "um"] = "px"

    @classmethod
    def parse(cls, text: str | float) -> "Diameter":
        """Read `auto`, `model`, `30`, `30 px` or `18 um`.

        Raises
        ------
        ParameterError
            When the text is none of these.

        Examples
        --------
        >>> Diameter.parse("18 um")
        Diameter(rule='fixed', value=18.0, unit='um')
        """
        word = str(text).strip().lower()
        if word in ("auto", "model"):
            return cls(rule="auto" if word == "auto" else "model")
        value, unit = _parse_length(word, "diameter", ("", "px", *MICROMETRES), DIAMETERS)
        if not 0.5 <= value <= 10_000:
            raise ParameterError(f"diameter: {value:g} is not between 0.5 and 10,000")
        return cls("fixed", value, unit)

    def in_px(self, pixel_size_um: float | None) -> float | None:
        """Return the diameter in px; None unless it is fixed.

        Raises
        ------
        CalibrationError
            When it is in µm and the pixel size is missing or nonsensical.
        """
        if self.rule != "fixed":
            return None
        if self.unit == "px":
            return self.value
        return self.value / checked_pixel_size(pixel_size_um, f"diameter {self.value:g} um")

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return self.rule if self.rule != "fixed" else f"{self.value:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class MinSize:
    """Say below which area an ROI is dropped.

    Attributes
    ----------
    value : float
        In px, or in µm² when `unit` is "um2".
    unit : "px" or "um2"
    """

    value: float = 15.0  # Cellpose's default
    unit: Literal["px", "um2"] = "px"

    @classmethod
    def parse(cls, text: str | float) -> "MinSize":
        """Read `15`, `15 px` or `20 um2`.

        Raises
        ------
        ParameterError
            When the text is none of these.
        """
        word = str(text).strip().lower()
        units = ("", "px", "px2", "px²", *SQUARE_MICROMETRES)
        value, unit = _parse_length(word, "min_size", units, "15 px or 20 um2")
        return cls(value, "um2" if unit == "um" else "px")

    def in_px(self, pixel_size_um: float | None) -> int:
        """Return the area in px.

        Raises
        ------
        CalibrationError
            When it is in µm² and the pixel size is missing or nonsensical.
        """
        if self.unit == "px":
            return round(self.value)
        return round(
            self.value / checked_pixel_size(pixel_size_um, f"min_size {self.value:g} um2") ** 2
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.value:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class SegmentationParams:
    """Everything that `segment` may be told besides the plane and the network.

    Attributes
    ----------
    diameter : Diameter
    min_size : MinSize
    normalisation : Normalisation
    min_contrast : float, grey levels
        A plane whose percentiles are closer than this has 0 ROIs and a note; 0: off.
    flow_threshold : float
        ROIs whose flows differ from those predicted by more than this (mean squared) are dropped;
        0: off.
    cellprob_threshold : float
        Pixels with a higher logit belong to some ROI.
    stitch_threshold : float
        Planes of a z-stack are joined where ROIs overlap by more than this IoU; 0: off.
    tiling : "fitted" or "fixed"
        How tiles are laid; `fixed` with `tile` 224 is Cellpose's way.
    tile : int, px
        Longest side of a tile that the network sees at once; fitted ones are 1.4 times as long in
        bfloat16, of which as much memory holds twice the pixels.
    tile_overlap : float
        Part of a tile that it shares with its neighbours.
    precision : "float32", "bfloat16" or "float16"
        In which the network computes; the two short ones are for GPUs.
    batch_size : int
        Tiles that go through the network together, at most; on a CPU fewer large ones do.
    """

    diameter: Diameter = field(default_factory=Diameter)
    min_size: MinSize = field(default_factory=MinSize)
    normalisation: Normalisation = field(default_factory=Normalisation)
    min_contrast: float = 0.0
    flow_threshold: float = 0.4
    cellprob_threshold: float = 0.0
    stitch_threshold: float = 0.0
    tiling: Literal["fitted", "fixed"] = "fitted"
    tile: int = 416
    tile_overlap: float = 0.06  # 24 px: the weight of a tile's edge falls within 20
    batch_size: int = 8
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    def joins(self, n_z: int) -> bool:
        """Say whether the ROIs of an image's z planes, n_z of them, are joined to volumes."""
        return self.stitch_threshold > 0 and n_z > 1

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, as a person would write them in the configuration."""
        data = asdict(self)
        data |= {"diameter": str(self.diameter), "min_size": str(self.min_size)}
        data["normalise"] = data.pop("normalisation")
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SegmentationParams":  # Any: JSON
        """Read what `to_json` wrote."""
        values = dict(data)
        values["normalisation"] = Normalisation(**values.pop("normalise"))
        values["diameter"] = Diameter.parse(values["diameter"])
        values["min_size"] = MinSize.parse(values["min_size"])
        return cls(**values)


def checked_pixel_size(pixel_size_um: float | None, wanted: str) -> float:
    """Return the pixel size, in µm, if it can be one.

    Raises
    ------
    CalibrationError
        When it is missing, or not between 0.1 nm and 1 mm.
    """
    if pixel_size_um is None:
        raise CalibrationError(
            f"{wanted} needs the pixel size, and the file does not give one; "
            "give the length in px (or, in a configuration, pixel_size: for the folder)"
        )
    if not SMALLEST_PIXEL_UM <= pixel_size_um <= LARGEST_PIXEL_UM:
        raise CalibrationError(
            f"{wanted} needs the pixel size, and the file says {pixel_size_um:g} µm: nonsense; "
            "give the length in px (or, in a configuration, pixel_size: for the folder)"
        )
    return pixel_size_um


def _parse_length(
    word: str, key: str, units: Sequence[str], examples: str
) -> tuple[float, Literal["px", "um"]]:
    match = _LENGTH.match(word)
    if not match or match[2] not in units:
        raise ParameterError(f"{key}: '{word}' is not understood; write {examples}")
    return float(match[1]), "um" if match[2] in (*MICROMETRES, *SQUARE_MICROMETRES) else "px"
