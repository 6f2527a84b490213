"""What a model knows of styles, in `styles.safetensors` beside its weights.

The styles of its training images, at the diameters they trained with, tell how novel an image is
to it; its size model tells a plane's diameter from the style at the plane's own scale.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cellwatch.core.diameter import SizeModel
from cellwatch.core.styles import KnownStyles
from cellwatch.errors import WeightsError
from cellwatch.files.atomic import writing
from cellwatch.files.digests import file_sha256

STYLES = "styles.safetensors"


@dataclass(frozen=True, slots=True)
class StyleFacts:
    """What a model knows of styles.

    Attributes
    ----------
    known : KnownStyles or None
        Of its training images; None: not measured.
    size : SizeModel or None
        None: it was trained on too few images for one.
    """

    known: KnownStyles | None = None
    size: SizeModel | None = None


def save_styles(facts: StyleFacts, path: Path) -> str:
    """Write what a model knows of styles and return the file's sha256; it must not exist."""
    if path.exists():
        raise WeightsError(f"{path} exists; a model's files are never overwritten")
    tensors: dict[str, np.ndarray] = {}
    if facts.known:
        tensors["styles"] = facts.known.styles.astype(np.float16)
        tensors["reach"] = np.array([facts.known.reach])
    if facts.size:
        tensors["size.weights"] = facts.size.weights
        tensors["size.style_mean"] = facts.size.style_mean
        tensors["size.diam_mean"] = np.array([facts.size.diam_mean])
        tensors["size.log_mean"] = np.array([facts.size.log_mean])
    with writing(path) as aside:
        save_file(tensors, aside)
        aside.chmod(0o644)  # safetensors makes files that only their owner can read
    return file_sha256(path)


def load_styles(path: Path, sha256: str) -> StyleFacts:
    """Read what `save_styles` wrote.

    Raises
    ------
    WeightsError
        When the file is not the one whose sha256 the card has.
    """
    try:
        found = file_sha256(path)
        if found != sha256:
            raise WeightsError(f"{path} was changed: its sha256 is {found}, the card says {sha256}")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    known = size = None
    if "styles" in tensors:
        known = KnownStyles(tensors["styles"].astype(np.float32), float(tensors["reach"][0]))
    if "size.weights" in tensors:
        size = SizeModel(
            weights=tensors["size.weights"],
            style_mean=tensors["size.style_mean"],
            diam_mean=float(tensors["size.diam_mean"][0]),
            log_mean=float(tensors["size.log_mean"][0]),
        )
    return StyleFacts(known, size)
