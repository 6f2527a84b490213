"""What a person asked a zoo to be, checked and kept in its folder, so that a build can continue."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cellwatch.errors import BadTrainingData, UsageError
from cellwatch.files.atomic import write_json
from cellwatch.training.plans import FitPlan
from cellwatch.zoo.cards import BUILTIN, list_models
from cellwatch.zoo.catalog import hold_model

REQUEST = "zoo.json"
AUTO = "auto"
GENERALIST = "generalist"
RESERVED = {AUTO, GENERALIST, "flows", "cellpose"}


@dataclass(frozen=True, slots=True)
class ZooRequest:
    """What a person asked a zoo to be; kept in its folder.

    Attributes
    ----------
    sets : tuple of str
        Folders with `train` and `test` below; the name of each is the type of its images.
    style_model : str
        Gives the styles.
    reuse : mapping of str to str
        By image type: the model that its clusters use instead of one trained here.
    generalist : str
        The model that the ensemble is measured against; "": one trained here.
    plan : FitPlan
        Of each network trained here.
    kind : "cyto" or "nuclei"
        Which of the paper's clusterings.
    subset : float
        Part of the images of each set that is clustered; the rest is assigned.
    diam_mean : float, px
    licence : str
    """

    sets: tuple[str, ...]
    style_model: str
    reuse: Mapping[str, str]
    generalist: str
    plan: FitPlan
    kind: str = "cyto"
    subset: float = 1.0
    diam_mean: float = 30.0
    licence: str = ""


def name_of(folder: str) -> str:
    """Return the image type of a set: the name of its folder."""
    return Path(folder).name


def find_sets(data: Sequence[Path]) -> tuple[str, ...]:
    """Return the sets that folders are, or hold: those with a folder `train`.

    Raises
    ------
    BadTrainingData
        When there is none, or two have one name.
    """
    found: list[str] = []
    for folder in data:
        inside = [folder] if (folder / "train").is_dir() else sorted(folder.glob("*"))
        found += [str(each.absolute()) for each in inside if (each / "train").is_dir()]
    if not found:
        raise BadTrainingData(
            f"{', '.join(map(str, data))}: no folder with a folder 'train' of images and masks"
        )
    for name, count in Counter(name_of(folder) for folder in found).items():
        if count > 1:
            raise BadTrainingData(
                f"{count} sets are named '{name}', and a set's name is the type of its images; "
                "rename one"
            )
    return tuple(found)


def hold_models(request: ZooRequest, out: Path) -> dict[str, str]:
    """Return the ids under which the zoo holds the models that the request names, copied into it.

    Raises
    ------
    UsageError
        When a set has a name that is taken, or a model is to be reused for a set that is not there.
    WeightsError
        When a model cannot be held.
    """
    names = [name_of(folder) for folder in request.sets]
    taken = {card.id for card in list_models(BUILTIN)} | RESERVED
    if clash := sorted(taken.intersection(names)):
        raise UsageError(
            f"a set is named '{clash[0]}', and so would its network be; that name is taken: "
            "rename the set's folder"
        )
    if unknown := sorted(set(request.reuse) - set(names)):
        raise UsageError(f"--reuse: there is no set '{unknown[0]}'; there are {', '.join(names)}")
    named = {request.style_model, *request.reuse.values()}
    named |= {request.generalist} if request.generalist else set()
    # A cluster is named after its set, the second of a set with a number; so is its network.
    own = "|".join(re.escape(name) for name in names if name not in request.reuse) or r"\Z."
    own += "" if request.generalist else f"|{GENERALIST}"
    out.mkdir(parents=True, exist_ok=True)
    return {name: hold_model(name, out, re.compile(rf"({own})(-\d+)?")) for name in sorted(named)}


def keep_request(request: ZooRequest, contents: Mapping[str, str], out: Path) -> None:
    """Keep what was asked for, and the digest of each set's training images once they are read.

    Raises
    ------
    UsageError
        When the folder holds a zoo that was asked for differently.
    BadTrainingData
        When the images are not those that it was begun with.
    """
    path = out / REQUEST
    wanted = json.loads(json.dumps(asdict(request)))
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else wanted
    known = kept.pop("contents", {})  # zoos of the first version kept none
    if kept != wanted:
        raise UsageError(
            f"{out} holds a zoo that was asked for differently (see {path}); "
            "continue with the same options, or build into another folder"
        )
    for name, digest in contents.items():
        if known.get(name, digest) != digest:
            raise BadTrainingData(
                f"the training images or masks of the set '{name}' changed since the zoo in {out} "
                "was begun; put them back, or build into another folder"
            )
    told = {**wanted, "contents": {**known, **contents}}
    write_json(path, dict(sorted(told.items())))
